import numpy as np
import pandas as pd
import pytest

from buckler.data import collection, survey
from buckler.data.layout import Layout
from buckler.errors import UnusableImageError
from buckler.modality.base import Pair
from buckler.modality.picture import images
from tests import datasets


@pytest.fixture
def folder(tmp_path):
    return datasets.make_folder(tmp_path, per_class=3)


def faults_of(files):
    found = {}
    for name, content in files.items():
        with pytest.raises(UnusableImageError) as caught:
            images.inspect(content)
        found[name] = caught.value
    return found


def test_files_with_different_numbers_of_missing_rows_are_of_one_kind():
    whole = datasets.png()
    (kind,) = survey.unusable(faults_of({f"benign/{cut}.png": whole[:-cut] for cut in (200, 900, 1500)}))
    assert len(kind.ids) == 3


@pytest.mark.parametrize(
    ("content", "reason", "advice"),
    [
        (b"\0\0\0\x14ftypisom" + bytes(50), "got an MP4 video", "ffmpeg"),
        (b"\0\0\0\x14ftypcrx " + bytes(50), "got a Canon CR3 raw picture", "export it as JPEG, one by one, or remove"),
        (b"GIF89a" + bytes(50), "got a GIF", "convert it to PNG, one by one, or remove them"),
        (b"patient: Jane Doe", "got a text", "they are not pictures"),
        (b"", "got no bytes", "replace them by intact copies"),
        (datasets.png()[:-30], "got one whose data end after about", "replace them by intact copies"),
    ],
)
def test_each_kind_of_unusable_file_says_what_to_do(content, reason, advice):
    (kind,) = survey.unusable(faults_of({"benign/a.jpg": content}))
    assert reason in kind.reason
    assert advice in kind.do
    assert "Jane" not in kind.reason + kind.do


def test_unusable_files_are_counted_by_reason_the_most_frequent_first():
    raw, gif = b"\0\0\0\x14ftypcrx " + bytes(50), b"GIF89a" + bytes(50)
    kinds = survey.unusable(faults_of({"b/3.gif": gif, "a/1.cr3": raw, "b/2.cr3": raw}))
    assert [kind.ids for kind in kinds] == [("a/1.cr3", "b/2.cr3"), ("b/3.gif",)]


def test_related_pictures_are_counted_and_contradictions_named():
    labels = ["benign", "malignant", "benign", "benign", "malignant"]
    frame = pd.DataFrame({"id": [f"{label}/{i}" for i, label in enumerate(labels)], "label": labels})
    pairs = [Pair(1, 0, 2, 0.99), Pair(2, 3, 1, 0.97)]
    found = survey.related(frame, pairs, np.array([0, 0, 2, 2, 4]))
    assert found == survey.Related(groups=2, pictures=4, largest=2, of=5, contradictions=(("benign/0", "malignant/1"),))


def test_folders_of_splits_are_recognised_as_a_mistake(tmp_path):
    folder = datasets.make_folder(tmp_path, per_class=1, labels=("Test", "train"))
    (hint,) = survey.hints(collection.read(folder, Layout()).files)
    assert "one folder for each class, not for each split" in hint


def test_nested_folders_are_mentioned(folder):
    (folder / "benign/2021").mkdir()
    (folder / "benign/2021/7.png").write_bytes(datasets.png(index=7))
    assert survey.hints(collection.read(folder, Layout()).files) == [
        "folders inside the class folders (2021) are read as their class"
    ]
    (folder / "benign/2021/7.png").unlink()
    assert survey.hints(collection.read(folder, Layout()).files) == []
