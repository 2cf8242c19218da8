import hashlib

import pytest

from buckler.data import manifest
from buckler.errors import DataError
from pipelines import ingest
from pipelines.settings import DataParams
from tests import datasets


def data(source="directory", path="pictures", per_class=0, seed=7):
    return DataParams(source, path, per_class, datasets.SIZE, ("malignant",), seed)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return datasets.make_folder(tmp_path / "pictures", per_class=6)


def test_the_manifest_describes_every_picture_and_its_copy(pictures):
    ingest.run(data())
    frame = manifest.read(ingest.MANIFEST)
    assert list(frame["id"]) == [f"{label}/{i}.png" for label in ("benign", "malignant") for i in range(6)]
    assert list(frame["path"]) == [f"data/images/{name}" for name in frame["id"]]
    for row, copy in zip(frame.itertuples(), manifest.paths(frame), strict=True):
        content = (pictures / row.id).read_bytes()
        assert copy.read_bytes() == content
        assert row.sha256 == hashlib.sha256(content).hexdigest()
        assert (row.width, row.height, row.mode, row.bytes) == (32, 32, "RGB", len(content))
        assert (row.source, row.group) == ("directory", "")


def test_an_undecodable_file_is_in_the_manifest_without_a_size(pictures):
    (pictures / "benign/notes.txt").write_text("no picture")
    ingest.run(data())
    row = manifest.read(ingest.MANIFEST).set_index("id").loc["benign/notes.txt"]
    assert row[["width", "height"]].isna().all()
    assert (row["mode"], row["bytes"]) == ("", 10)


def test_a_second_run_leaves_only_its_own_pictures(pictures):
    ingest.run(data())
    ingest.run(data(per_class=2))
    frame = manifest.read(ingest.MANIFEST)
    assert frame["label"].value_counts().to_dict() == {"benign": 2, "malignant": 2}
    left = {path.relative_to(ingest.IMAGES).as_posix() for path in ingest.IMAGES.rglob("*.*")}
    assert left == set(frame["id"])


def test_group_and_further_columns_come_from_the_metadata(pictures):
    (pictures / "metadata.csv").write_text("file,label,lesion_id,age\nbenign/1.png,benign,L7,80\n")
    ingest.run(data())
    frame = manifest.read(ingest.MANIFEST).set_index("id")
    assert frame.loc["benign/1.png", ["group", "age"]].tolist() == ["L7", "80"]
    assert frame.loc["benign/2.png", ["group", "age"]].tolist() == ["", ""]


def test_generated_pictures_give_the_same_manifest_every_time(pictures):
    ingest.run(data("synthetic", per_class=3))
    first = ingest.MANIFEST.read_bytes()
    ingest.run(data("synthetic", per_class=3))
    assert ingest.MANIFEST.read_bytes() == first
    assert set(manifest.read(ingest.MANIFEST)["source"]) == {"synthetic"}


def test_a_bad_source_stops_before_older_pictures_are_lost(pictures):
    ingest.run(data())
    with pytest.raises(DataError, match="expected a folder of class folders at gone"):
        ingest.run(data(path="gone"))
    assert (ingest.IMAGES / "benign/0.png").exists()
