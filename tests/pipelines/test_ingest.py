import hashlib
import os

import numpy as np
import pytest

from buckler.data import manifest, masks
from buckler.errors import DataError
from buckler.modality.picture import synthetic
from pipelines import ingest
from pipelines.settings import DataParams
from tests import datasets


def data(source="directory", path="pictures", per_class=0, malignant=("malignant",), max_unmatched=0.05, classes=None):
    classes = classes or {}
    facts = (per_class, datasets.SIZE, malignant, max_unmatched, 7, classes, False, "lesion_id", "none")
    return DataParams(source, path, "picture", *facts)


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
        assert (row.width, row.height, row.mode, row.bytes) == ("32", "32", "RGB", len(content))
        assert (row.source, row.group) == ("directory", "")


def test_an_undecodable_file_is_in_the_manifest_without_a_size(pictures):
    (pictures / "benign/notes.txt").write_text("no picture")
    ingest.run(data())
    row = manifest.read(ingest.MANIFEST).set_index("id").loc["benign/notes.txt"]
    assert (row[["width", "height"]] == "").all()
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
    ingest.run(data(max_unmatched=1.0))
    frame = manifest.read(ingest.MANIFEST).set_index("id")
    assert frame.loc["benign/1.png", ["group", "age"]].tolist() == ["L7", "80"]
    assert frame.loc["benign/2.png", ["group", "age"]].tolist() == ["", ""]


def test_a_table_written_on_windows_gives_every_picture_its_lesion(pictures, capsys):
    rows = [f"{label}\\{i}.PNG,{label},{label}{i // 2}" for label in ("benign", "malignant") for i in range(6)]
    (pictures / "Metadata.csv").write_text("\r\n".join(["file;label;lesion_id", *rows]).replace(",", ";"), "utf-8-sig")
    ingest.run(data())
    frame = manifest.read(ingest.MANIFEST)
    assert list(frame["group"]) == [f"{label}{i // 2}" for label in ("benign", "malignant") for i in range(6)]
    assert capsys.readouterr().out == (
        "12 files found, 12 used, 0 skipped; Metadata.csv: 12 rows, 0 rows without a picture, 0 pictures without a "
        "row, 6 groups (lesion_id); 12 rows name their picture in another spelling\n"
    )


def test_a_table_of_other_pictures_stops_before_older_pictures_are_lost(pictures):
    ingest.run(data())
    (pictures / "metadata.csv").write_text("file,label,lesion_id\nbenign/ISIC_1.jpg,benign,L7\n")
    with pytest.raises(DataError, match=r"got 1 of 1 rows and 12 of 12 pictures: .* 'benign/ISIC_1\.jpg'"):
        ingest.run(data())
    assert (ingest.IMAGES / "benign/0.png").exists()


def test_the_last_line_says_what_was_found_used_and_skipped(pictures, capsys):
    for name in ("benign/notes.txt", "benign/Thumbs.db", "cover.jpg"):
        (pictures / name).write_text("no picture")
    ingest.run(data())
    assert capsys.readouterr().out == (
        "15 files found, 12 used, 3 skipped: 1 left by an operating system or program (benign/Thumbs.db), "
        "1 outside the class folders (cover.jpg), 1 undecodable, for quarantine (benign/notes.txt); "
        "no metadata.csv or labels.csv, so no group is known\n"
    )


def test_a_dangerous_label_without_a_folder_names_the_folders_found(pictures):
    with pytest.raises(DataError, match=r"got \['melanoma'\]; there are \['benign', 'malignant'\]"):
        ingest.run(data(malignant=("melanoma",)))


def test_generated_pictures_give_the_same_manifest_every_time(pictures):
    ingest.run(data("synthetic", per_class=3))
    first = ingest.MANIFEST.read_bytes()
    ingest.run(data("synthetic", per_class=3))
    assert ingest.MANIFEST.read_bytes() == first
    assert set(manifest.read(ingest.MANIFEST)["source"]) == {"synthetic"}


def test_only_generated_pictures_have_masks_of_their_lesions(pictures):
    ingest.run(data("synthetic", per_class=3))
    ids = list(manifest.read(ingest.MANIFEST)["id"])
    found = masks.load(ids)
    assert len(found) == 6
    for name, mask in zip(ids, found, strict=True):
        label, number = name.removesuffix(".png").split("/")
        np.testing.assert_array_equal(mask, synthetic.lesion_mask(label, int(number), seed=7, size=datasets.SIZE))
    ingest.run(data())
    assert list(ingest.MASKS.iterdir()) == []


def test_a_bad_source_stops_before_older_pictures_are_lost(pictures):
    ingest.run(data())
    with pytest.raises(DataError, match="expected a folder of pictures at gone"):
        ingest.run(data(path="gone"))
    assert (ingest.IMAGES / "benign/0.png").exists()


def test_a_link_to_a_private_key_is_not_copied(pictures, tmp_path):
    (tmp_path / "private.pem").write_text("the private key")
    (pictures / "benign/7.png").symlink_to(tmp_path / "private.pem")
    with pytest.raises(DataError, match=r"got a symbolic link to '.*/private\.pem' at 'benign/7\.png'"):
        ingest.run(data())
    assert not ingest.IMAGES.exists()


def test_metadata_behind_a_link_are_not_read(pictures, tmp_path):
    (tmp_path / "passwd").write_text("file,label,lesion_id,secret\nbenign/1.png,benign,,hunter2\n")
    (pictures / "metadata.csv").symlink_to(tmp_path / "passwd")
    with pytest.raises(DataError, match=r"at 'metadata\.csv'"):
        ingest.run(data())


def test_a_name_in_latin_1_is_reported_in_one_line(pictures):
    (pictures / "benign" / os.fsdecode(b"m\xfcller.jpg")).write_text("x")
    with pytest.raises(DataError, match=r"got 'benign/m\\xfcller\.jpg'; rename it") as caught:
        ingest.run(data())
    assert str(caught.value).isascii()
    assert "\n" not in str(caught.value)


def test_names_like_formulas_pass_the_stage_unchanged(pictures):
    (pictures / "benign").rename(pictures / "=1+1")
    ingest.run(data())
    assert set(manifest.read(ingest.MANIFEST)["label"]) == {"=1+1", "malignant"}
    assert "\n=1+1" not in ingest.MANIFEST.read_text()
    assert (ingest.IMAGES / "=1+1/0.png").exists()
