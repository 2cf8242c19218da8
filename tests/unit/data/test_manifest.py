import csv

import pytest

from buckler.data import manifest
from buckler.errors import DataError


def row(name, label="a", digest=None, **extra):
    return {
        "id": name,
        "path": f"data/images/{name}",
        "sha256": digest or f"digest of {name}",
        "label": label,
        "width": "8",
        "bytes": 10,
        "source": "directory",
        "group": "",
        **extra,
    }


def test_a_manifest_read_back_equals_the_written_one(tmp_path):
    rows = [
        row("b", "NA", sex=""),
        row("a", "1", age="80"),
        row('c "quoted", with comma', width=""),
    ]
    frame = manifest.build(rows)
    manifest.write(frame, tmp_path / "sub/manifest.csv")
    again = manifest.read(tmp_path / "sub/manifest.csv")
    assert again.equals(frame)
    assert (again.dtypes == frame.dtypes).all()
    assert list(again.columns) == [*manifest.COLUMNS, "age", "sex", "width"]
    assert list(again["label"]) == ["1", "NA", "a"]


def test_labels_are_sorted_and_paths_follow_the_rows():
    frame = manifest.build([row("x", "nv"), row("y", "akiec")])
    assert manifest.labels(frame) == ["akiec", "nv"]
    assert [path.as_posix() for path in manifest.paths(frame)] == ["data/images/x", "data/images/y"]


def test_the_version_depends_only_on_contents_and_labels():
    rows = [row("x", "a", "1"), row("y", "b", "2")]
    version = manifest.version(manifest.build(rows))
    renamed = [row("q", "b", "2"), row("p", "a", "1")]
    assert manifest.version(manifest.build(renamed)) == version
    assert version.startswith("sha256:")
    assert len(version) == 71
    assert manifest.version(manifest.build([row("x", "b", "1"), row("y", "a", "2")])) != version
    assert manifest.version(manifest.build(rows[:1])) != version


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no .*manifest.csv; run the stage"),
        ("", "is not a manifest"),
        ("id,label\n1,a\n", r"expected the columns .*'path', 'sha256'.* are missing"),
        (",".join(manifest.COLUMNS) + "\na,p,d,l,many,s,\n", "is not a manifest"),
    ],
)
def test_a_broken_manifest_is_an_error(tmp_path, content, message):
    if content is not None:
        (tmp_path / "manifest.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        manifest.read(tmp_path / "manifest.csv")


def test_names_that_look_like_formulas_are_not_computed_and_come_back(tmp_path):
    rows = [row("=cmd/1.jpg", "=cmd", group='=HYPERLINK("http://a")', **{"@note": "-2+3", "age": "-1"})]
    frame = manifest.build(rows)
    manifest.write(frame, tmp_path / "manifest.csv")
    with (tmp_path / "manifest.csv").open(newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))] == ["-1"]
    assert manifest.read(tmp_path / "manifest.csv").equals(frame)
