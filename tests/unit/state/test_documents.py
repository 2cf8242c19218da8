import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.errors import DataError
from buckler.state import documents

FORMULA_STARTS = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1", " =1", "'=1", "a;=1+1", "''-1;'=2"]
HARMLESS = ["benign/1.jpg", "-1.5", "+3", "-2e-7", ".5", "it's", "'", "", "a = b", "x;y"]


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_no_cell_is_a_formula(tmp_path, delimiter):
    documents.write_csv(tmp_path / "a.csv", [{"=id": text} for text in FORMULAS])
    with (tmp_path / "a.csv").open(newline="") as file:
        cells = [cell.strip(" ") for row in csv.reader(file, delimiter=delimiter) for cell in row]
    assert len(cells) >= 1 + len(FORMULAS)
    assert not [cell for cell in cells if cell.startswith(FORMULA_STARTS)]


def test_rows_read_back_equal_the_written_ones(tmp_path):
    rows = [{"=id": text, "other": "x"} for text in FORMULAS + HARMLESS]
    documents.write_csv(tmp_path / "a.csv", rows)
    assert documents.read_csv(tmp_path / "a.csv") == rows


@pytest.mark.parametrize("text", HARMLESS)
def test_numbers_and_other_texts_are_written_as_they_are(text):
    assert documents.to_cell(text) == text


@given(st.text(alphabet=st.sampled_from("='\t;+-1 a@\n\uff0b"), max_size=8))
def test_every_text_comes_back(text):
    assert documents.from_cell(documents.to_cell(text)) == text


def test_numbers_stay_numbers():
    assert documents.to_cell(-0.5) == -0.5


def test_a_missing_table_names_the_next_step(tmp_path):
    with pytest.raises(DataError, match="run `dvc repro` first"):
        documents.read_csv(tmp_path / "gone.csv")
