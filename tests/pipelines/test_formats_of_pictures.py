"""Pictures of every format that the service answers can train: through the stages, `check` and the watch."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from buckler.data import expectations, manifest, pictures, recent
from buckler.modality.picture import formats, images, synthetic
from pipelines import check, ingest, split, validate
from pipelines.settings import DataParams
from pipelines.stage import ROOT
from tests.forms import pictures_of
from tests.pipelines.test_check import FREE
from tests.pipelines.test_split import CFG, LENIENT
from tests.unit.modality.picture.dicom_files import dicom
from tests.unit.modality.picture.heic_files import heic

SIDE = 48
DATA = DataParams("directory", "pictures", "picture", 0, SIDE, ("malignant",), 0.05, 7, {}, False, "lesion_id", "none")
LIMITS = expectations.ValidateParams(8, 2048, 1, 3.0, 0.01, ())
PILLOW = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "AVIF": {"quality": 95},
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_lzw"},
    "BMP": {},
}
OFF = {"JPEG": 24, "AVIF": 24}  # levels by which a lossy picture differs


def drawn(label: str, index: int) -> Image.Image:
    pixels = synthetic.draw(label, index, seed=1, size=SIDE)
    return Image.fromarray(np.rint(pixels * 255).astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which formats take turns, with one HEIC; names tell nothing."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "pictures"
    for label in ("benign", "malignant"):
        (root / label).mkdir(parents=True)
        for index in range(3 * (len(PILLOW) + 1)):
            kind = [*PILLOW, "DICOM"][index % (len(PILLOW) + 1)]
            file = io.BytesIO()
            if kind == "DICOM":
                file.write(dicom(np.asarray(drawn(label, index)), "RGB"))
            else:
                drawn(label, index).save(file, kind, **PILLOW[kind])
            (root / label / f"{index}.img").write_bytes(file.getvalue())
    (root / "benign/phone.img").write_bytes(heic())
    return root


def test_a_folder_of_every_format_becomes_splits_with_the_right_pixels(folder: Path):
    ingest.run(DATA)
    frame = manifest.read(ingest.MANIFEST)
    found = {formats.format_of((folder / name).read_bytes()) for name in frame["id"]}
    assert found == set(formats.FORMATS)
    assert set(frame["mode"]) == {"RGB"}
    assert set(frame["width"]) == {str(SIDE)}
    validate.run(LIMITS, DATA, {})
    assert len(manifest.read(validate.VALIDATED)) == len(frame) == 43
    split.run(CFG, DATA, LENIENT)
    loaded = [
        pictures.load(split.OUT / f"{name}.csv", ("benign", "malignant"), pictures_of(SIDE)) for name in pictures.SPLITS
    ]
    assert sum(len(part.ids) for part in loaded) == 43
    for part in loaded:
        for name, pixels in zip(part.ids, part.images, strict=True):
            if not name.endswith("phone.img"):
                label, _, index = name.removesuffix(".img").partition("/")
                off = np.abs(pixels * 255 - np.asarray(drawn(label, int(index)))).max()
                assert off <= OFF.get([*PILLOW, "DICOM"][int(index) % 7], 0) + 1e-3


def test_equal_pixels_in_other_formats_are_near_duplicates(folder: Path):
    """A picture may be in the folder twice, once as PNG and once as TIFF: they belong on one side."""
    shutil.rmtree(folder)
    for label in ("benign", "malignant"):
        (folder / label).mkdir(parents=True)
        for index in range(12):
            for kind, options in PILLOW.items():
                drawn(label, index).save(folder / label / f"{index}.{kind.lower()}", kind, **options)
    ingest.run(DATA)
    shutil.copyfile(ingest.MANIFEST, split.VALIDATED)
    split.run(CFG, DATA, LENIENT)
    for name in pictures.SPLITS:
        ids = set(manifest.read(split.OUT / f"{name}.csv")["id"])
        assert all(name.rpartition(".")[0] + f".{kind.lower()}" in ids for name in ids for kind in PILLOW)


def test_the_check_of_a_folder_finds_every_format_usable(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "benign/film.mp4").write_bytes(b"\0\0\0\x14ftypisom" + bytes(50))
    monkeypatch.chdir(ROOT)
    found = check.run(folder, None, FREE, timed=False)
    assert {row.label: row.usable for row in found.classes} == {"benign": 22, "malignant": 21}
    (unusable,) = found.unusable
    assert unusable.ids == ("benign/film.mp4",)
    assert "got an MP4 video" in unusable.reason
    assert "ffmpeg" in unusable.do


def test_recently_labelled_pictures_may_have_every_format(folder: Path):
    loaded = recent.load_recent(folder, ("benign", "malignant"), pictures_of(SIDE), count=0, known=())
    assert len(loaded.ids) == 43
    phone = loaded.images[loaded.ids.index("benign/phone.img")]
    np.testing.assert_array_equal(phone, images.load_pixels(heic(), size=SIDE))
