import io

import numpy as np
import pytest
from PIL import Image

from buckler.data import splits
from buckler.modality.picture import duplicates
from buckler.modality.picture.duplicates import Appearance
from tests import datasets

LIMITS = {"max_bits": 10, "min_correlation": 0.94}


def write(folder, pictures):
    paths = []
    for index, content in enumerate(pictures):
        paths.append(folder / f"{index}.img")
        paths[-1].write_bytes(content)
    return paths


def altered(change, kind="PNG", **options):
    picture = change(Image.open(io.BytesIO(datasets.png("malignant", 2, size=96))))
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def pairs_of(paths):
    return duplicates.near_duplicates([Appearance.of(path) for path in paths], **LIMITS)


@pytest.mark.parametrize(
    "content",
    [
        altered(lambda image: image, "JPEG", quality=60),
        altered(lambda image: image.resize((64, 64))),
        altered(lambda image: image.crop((1, 1, 95, 95))),
        altered(lambda image: image.point(lambda value: min(255, value * 1.1))),
        altered(lambda image: image.rotate(90)),
        altered(lambda image: image.rotate(180)),
        altered(lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        altered(lambda image: image.transpose(Image.Transpose.TRANSVERSE)),
    ],
    ids=["recompressed", "smaller", "cropped", "brighter", "turned", "upside down", "mirrored", "transposed"],
)
def test_a_changed_copy_is_a_near_duplicate(tmp_path, content):
    others = [datasets.png("malignant", index, size=96) for index in range(2, 6)]
    pairs = pairs_of(write(tmp_path, [*others, content]))
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 4)]


def test_different_lesions_with_similar_hashes_are_not_near_duplicates(tmp_path):
    x, y = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64))
    round_one, ring = np.hypot(x, y) < 0.4, np.abs(np.hypot(x, y) - 0.4) < 0.12
    contents = []
    for shape in (round_one, ring):
        buffer = io.BytesIO()
        Image.fromarray((230 - 180 * shape).astype(np.uint8)).save(buffer, format="PNG")
        contents.append(buffer.getvalue())
    assert pairs_of(write(tmp_path, contents)) == []


def test_pairs_do_not_depend_on_the_order_of_pictures():
    contents = [datasets.png(label, index) for label in ("benign", "malignant") for index in range(40)]
    appearances = [Appearance.of(content) for content in contents]
    loose = {"max_bits": 16, "min_correlation": 0.7}
    expected = {(p.first, p.second, p.bits) for p in duplicates.near_duplicates(appearances, **loose)}
    order = np.random.default_rng(0).permutation(len(contents))
    shuffled = [appearances[place] for place in order]
    found = {
        (*sorted((int(order[p.first]), int(order[p.second]))), p.bits)
        for p in duplicates.near_duplicates(shuffled, **loose)
    }
    assert found == expected
    assert len(expected) > 3


@pytest.mark.slow
@pytest.mark.real_data
def test_known_near_duplicates_of_real_pictures_are_found(real_data):
    known = [
        ("malignant/458", "malignant/461"),
        ("malignant/311", "malignant/312", "malignant/321"),
        ("benign/340", "benign/1575", "benign/1639"),
    ]
    paths = sorted((real_data / "skin").rglob("*.jpg"))
    names = [f"{path.parent.name}/{path.stem}" for path in paths]
    pairs = pairs_of(paths)
    groups = splits.components(len(paths), [(pair.first, pair.second) for pair in pairs])
    for lesion in known:
        assert len({groups[names.index(name)] for name in lesion if name in names}) == 1
    assert np.bincount(groups).max() < 20
