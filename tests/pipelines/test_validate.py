import csv
import json
import types
from dataclasses import replace

import pytest

from buckler.data import expectations, manifest
from buckler.errors import DataError
from buckler.modality.picture.formats import LISTED
from pipelines import ingest, validate
from pipelines.settings import DataParams
from tests import datasets

pytestmark = pytest.mark.slow

LIMITS = expectations.ValidateParams(
    min_side=32, max_side=256, min_per_class=3, max_imbalance=3.0, max_undecodable=0.25, labels=()
)
REPORT = validate.REPORTS / "validation.json"
DATA = DataParams(
    "directory", "pictures", "picture", 0, datasets.SIZE, ("malignant",), 0.05, 7, {}, False, "lesion_id", "none"
)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return datasets.make_folder(tmp_path / "pictures", per_class=6)


def run(bands=types.MappingProxyType({}), data=DATA):
    ingest.run(data)
    validate.run(LIMITS, data, bands)
    return json.loads(REPORT.read_text())


def test_good_pictures_pass_unchanged(pictures, capsys):
    report = run()
    assert validate.VALIDATED.read_bytes() == ingest.MANIFEST.read_bytes()
    assert (report["schema"], report["passed"], report["data"]["images"]) == (2, True, 12)
    assert report["data"]["version"] == manifest.version(manifest.read(validate.VALIDATED))
    assert all(one["passed"] for one in report["expectations"])
    assert {page.name for page in validate.PAGES.rglob("*.html")} == {"pictures.html", "classes.html"}
    assert capsys.readouterr().out.splitlines() == [
        "12 files found, 12 used, 0 skipped; no metadata.csv or labels.csv, so no group is known",
        "12 pictures validated, 0 in quarantine, 0 repeated files left out",
    ]


def test_undecodable_files_are_quarantined_with_the_reason(pictures):
    content = (pictures / "benign/0.png").read_bytes()
    (pictures / "benign/half, cut.png").write_bytes(content[: len(content) // 2])
    (pictures / "malignant/empty.jpg").write_bytes(b"")
    report = run()
    with (validate.QUARANTINE / "reasons.csv").open(newline="") as file:
        reasons = {row["id"]: (row["code"], row["reason"]) for row in csv.DictReader(file)}
    assert reasons.keys() == {"benign/half, cut.png", "malignant/empty.jpg"}
    assert reasons["malignant/empty.jpg"] == ("image_empty", f"expected a picture ({LISTED}), got no bytes")
    assert reasons["benign/half, cut.png"][0] == "image_unreadable"
    assert (validate.QUARANTINE / "benign/half, cut.png").read_bytes() == content[: len(content) // 2]
    assert not set(reasons) & set(manifest.read(validate.VALIDATED)["id"])
    assert report["quarantined"] == [
        {"id": "benign/half, cut.png", "code": "image_unreadable"},
        {"id": "malignant/empty.jpg", "code": "image_empty"},
    ]


def test_a_file_repeated_in_a_class_is_kept_once(pictures):
    (pictures / "benign/again.png").write_bytes((pictures / "benign/3.png").read_bytes())
    report = run()
    assert report["repeated"] == [{"id": "benign/again.png", "same_as": "benign/3.png"}]
    assert report["passed"]
    assert report["classes"] == {"benign": 6, "malignant": 6}


def test_a_warning_is_printed_and_lets_the_pictures_through(pictures, capsys):
    (pictures / "benign/tiny.png").write_bytes(datasets.png(size=16))
    report = run()
    assert report["passed"]
    warned = {one["name"] for one in report["expectations"] if not one["passed"]}
    assert warned == {"width", "height"}
    _, warning, *_ = capsys.readouterr().out.splitlines()
    assert warning.startswith("warning: width: expected width of 32 to 256 pixels")
    assert warning.endswith("seen: 1 of 13 violate it: benign/tiny.png (16.0)")
    assert "benign/tiny.png" in set(manifest.read(validate.VALIDATED)["id"])


def test_all_critical_violations_are_named_and_the_reports_are_written(pictures):
    run()
    (pictures / "malignant/copy.png").write_bytes((pictures / "benign/3.png").read_bytes())
    (pictures / "naevus").mkdir()
    (pictures / "naevus/empty.png").write_bytes(b"")
    (pictures / "benign/tiny.png").write_bytes(datasets.png(size=16))
    with pytest.raises(DataError) as caught:
        run()
    lines = str(caught.value).splitlines()
    assert lines[0] == "the pictures cannot be used, see reports/validation.json"
    assert [line.split(":")[0] for line in lines[1:]] == ["  - one_label_a_content", "  - pictures_in_every_class"]
    assert "seen: 2 of 15 violate it: benign/3.png (2), malignant/copy.png (2)" in lines[1]
    assert "seen: 1 of 3 violate it: naevus (0)" in lines[2]
    report = json.loads(REPORT.read_text())
    assert not report["passed"]
    violated = [one["name"] for one in report["expectations"] if not one["passed"] and one["severity"] == "critical"]
    assert violated == ["one_label_a_content", "pictures_in_every_class"]
    assert not validate.VALIDATED.exists()
    assert "benign/tiny.png" in (validate.PAGES / "validations/pictures.html").read_text()


def test_every_file_is_the_same_for_the_same_pictures_wherever_the_project_is(tmp_path, monkeypatch):
    written = []
    for name in ("project", "another place/project"):
        root = tmp_path / name
        datasets.make_folder(root / "pictures", per_class=6)
        (root / "pictures/benign/empty.png").write_bytes(b"")
        (root / "pictures/benign/again.png").write_bytes((root / "pictures/benign/3.png").read_bytes())
        monkeypatch.chdir(root)
        run()
        written.append({file.relative_to(root): file.read_bytes() for file in root.rglob("*") if file.is_file()})
    assert written[0] == written[1]
    assert {"data/manifest.csv", "data/validated.csv", "data/quarantine/reasons.csv", "reports/validation.json"} < {
        file.as_posix() for file in written[0]
    }


def test_subgroups_that_the_manifest_cannot_form_are_refused_before_any_training(pictures):
    rows = [f"{file.relative_to(pictures)},{file.parent.name},,old\n" for file in sorted(pictures.rglob("*.png"))]
    (pictures / "metadata.csv").write_text("file,label,lesion_id,age\n" + "".join(rows))
    run({"age": ()})
    with pytest.raises(DataError, match=r"attack\.subgroups asks for the columns \['sex'\]"):
        run({"sex": ()})
    with pytest.raises(DataError, match=r"attack\.subgroups cuts the column 'age' at \[40\].* got 'old'"):
        run({"age": (40,)})
    assert not validate.VALIDATED.exists()


def test_reasons_are_no_formulas(pictures):
    (pictures / "malignant").rename(pictures / "@SUM(A1)")
    (pictures / "@SUM(A1)/empty.jpg").write_bytes(b"")
    run(data=replace(DATA, malignant=("@SUM(A1)",)))
    text = (validate.QUARANTINE / "reasons.csv").read_text()
    assert "\n'@SUM(A1)/empty.jpg,image_empty," in text
