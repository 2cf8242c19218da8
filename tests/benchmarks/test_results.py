"""Documents of measured results, and the tables of the documentation that are generated from them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import results, tables
from benchmarks.results import Column, Estimate, Results, Table
from buckler.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
MEASURED = results.Provenance("0123456789abcdef", True, "a processor", (7,), "One run.")
TABLE = Table(
    (
        Column("server", "server"),
        Column("clients", "clients"),
        Column("rate", "requests/s", ",.1f", "95 % interval"),
        Column("reached", "reached"),
    ),
    (
        {"server": "ours", "clients": 1, "rate": Estimate(1234.56, 1200.0, 1300.0), "reached": True},
        {"server": "ours", "clients": 16, "rate": Estimate(None, 50.0, 60.0)},
        {"server": "a|b", "clients": None, "rate": 3.0, "reached": False},
    ),
)
KNOWN = {"serving": Results(1, "serving", "make bench", MEASURED, {"load": TABLE})}
RENDERED = """| server | clients | requests/s (95 % interval) | reached |
|---|---|---|---|
| ours | 1 | 1,234.6 (1,200.0 to 1,300.0) | yes |
| ours | 16 | 50.0 to 60.0 |  |
| a\\|b |  | 3.0 | no |"""


def test_a_document_reads_back_as_it_was_written(tmp_path):
    path = KNOWN["serving"].write(tmp_path)
    assert path == tmp_path / "serving.json"
    assert results.read(path) == KNOWN["serving"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "expected schema 1"),
        ({"name": "other"}, "name serving, got 1 and other"),
        ({"measured": {"commit": None}}, "dirty"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_another_schema_name_or_field_is_an_error(tmp_path, change, message):
    path = KNOWN["serving"].write(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        results.read(path)


def test_a_cell_without_a_column_is_an_error():
    with pytest.raises(DataError, match="got \\['speed'\\]"):
        Table((Column("server", "server"),), ({"server": "ours", "speed": 1},))


def test_new_results_name_the_commit_and_the_machine():
    made = results.new("serving", "make bench", {"load": TABLE}, seeds=[7])
    assert len(made.measured.commit) == 40
    assert isinstance(made.measured.dirty, bool)
    assert "cores" in made.measured.machine
    assert made.measured.seeds == (7,)


def test_markers_are_filled_and_the_rest_of_the_text_is_kept():
    text = (
        "Before.\n\n<!-- table: serving.load --> old <!-- end -->\n\n<!-- measured: serving --><!-- end -->\n"
        "It answers <!-- figure: serving.load[ours; 1].rate -->9<!-- end --> a second.\n"
    )
    filled = tables.fill(text, KNOWN)
    assert f"<!-- table: serving.load -->\n\n{RENDERED}\n\n<!-- end -->" in filled
    assert "*Measured: `make bench`; commit 0123456789ab with changes; a processor. One run.*" in filled
    assert "answers <!-- figure: serving.load[ours; 1].rate -->1,234.6 (1,200.0 to 1,300.0)<!-- end --> a" in filled
    assert tables.fill(filled, KNOWN) == filled


def test_printed_lines_are_shown_as_they_were_printed():
    lines = Table((Column("line", "line"),), ({"line": "1  a | b"}, {"line": ""}, {"line": "3"}))
    known = {"serving": replace(KNOWN["serving"], tables={"said": lines})}
    text = "<!-- text: serving.said -->old<!-- end -->"
    assert tables.fill(text, known) == "<!-- text: serving.said -->\n\n```\n1  a | b\n\n3\n```\n\n<!-- end -->"
    assert tables.unshown([text], known) == set()
    assert tables.unshown([], known) == {"serving.said"}


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("table: attacks.speed", "no docs/results/attacks.json"),
        ("table: serving.speed", "expected a table of serving.json \\(load\\)"),
        ("figure: serving.load[theirs].rate", "got 0 rows"),
        ("figure: serving.load[ours].rate", "got 2 rows"),
        ("figure: serving.load.rate", "expected a figure as"),
    ],
)
def test_a_marker_without_its_table_or_cell_is_an_error(marker, message):
    with pytest.raises(DataError, match=message):
        tables.fill(f"<!-- {marker} --><!-- end -->", KNOWN)


def test_a_table_without_a_marker_is_found():
    assert tables.unshown(["<!-- table: serving.load --><!-- end -->"], KNOWN) == set()
    assert tables.unshown(["<!-- figure: serving.load[ours; 1].rate --><!-- end -->"], KNOWN) == {"serving.load"}


def test_the_documentation_shows_every_result_as_it_was_measured():
    """`make tables` repairs a failure."""
    known = tables.library(ROOT / results.DIRECTORY)
    texts = {path: path.read_text(encoding="utf-8") for path in tables.pages(ROOT)}
    assert [str(path.relative_to(ROOT)) for path, text in texts.items() if tables.fill(text, known) != text] == []
    assert tables.unshown(texts.values(), known) == set()
