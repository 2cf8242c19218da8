"""The corpus run: every file counts once, and pixels are compared with another decoder."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import corpus, results
from buckler.errors import DataError
from buckler.modality.picture import uploads
from tests import datasets
from tests.unit.modality.picture.dicom_files import dicom
from tests.unit.modality.picture.heic_files import heic


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of which four have a reference, one is cut off, one is a text and one is empty."""
    root = tmp_path / "files"
    (root / "below").mkdir(parents=True)
    image = Image.open(io.BytesIO(datasets.png()))
    image.save(root / "a.jpg", quality=95)
    image.save(root / "b.tif")
    (root / "below/c.png").write_bytes(datasets.png())
    (root / "d.dcm").write_bytes(dicom(np.asarray(image), "RGB"))
    (root / "e.heic").write_bytes(heic())
    (root / "f.png").write_bytes(datasets.png()[:-100])
    (root / "g.txt").write_text("Jane Roe")
    (root / "h.jpg").write_bytes(b"")
    return root


def test_every_file_counts_once(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    corpus.run({"made": folder}, 0, tmp_path)
    document = results.read(tmp_path / "corpus.json")
    (row,) = document.tables["corpora"].rows
    assert {name: row[name] for name in row if name not in ("seconds", "megabytes")} == {
        "corpus": "made",
        "files": 8,
        "accepted": 5,
        "image_empty": 1,
        "image_unsupported": 1,
        "image_unreadable": 1,
        "image_too_large": 0,
        "failed": 0,
        "equal": 4,
        "close": 0,
        "different": 0,
    }
    assert 0 < row["seconds"] < 20
    assert str(tmp_path) not in (tmp_path / "corpus.json").read_text()
    assert "| made | 8 | 5 |" in capsys.readouterr().out


def test_a_picture_with_other_pixels_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch):
    red = np.zeros((32, 32, 3), np.uint8)
    monkeypatch.setattr(corpus, "reference", lambda kind, _: None if kind == "HEIC" else red)
    found = corpus.survey("made", folder)
    assert sorted(name for name, _, _ in found.different) == ["a.jpg", "b.tif", "c.png", "d.dcm"]


def test_an_error_of_another_kind_is_counted_and_ends_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(uploads, "load", fail)
    assert corpus.survey("made", folder).outcomes == {"failed": 8}


def test_a_part_of_a_large_folder_is_spread_over_it(folder: Path):
    assert corpus.survey("made", folder, most=4).outcomes.total() == 4


def test_a_gamma_is_applied_in_the_reference():
    file = io.BytesIO()
    Image.new("L", (1, 1), 55).save(file, "PNG", gamma=1.0)
    content = file.getvalue()
    gamma = b"\0\0\0\4gAMA\0\1\x86\xa0" + (0x31E8965F).to_bytes(4, "big")
    linear = content[:33] + gamma + content[33:]
    expected = corpus.reference("PNG", linear)
    assert expected is not None
    assert expected[0, 0, 0] == pytest.approx(128, abs=2)


def test_a_folder_without_files_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="expected files in"):
        corpus.survey("empty", tmp_path)
