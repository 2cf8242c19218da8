import pytest

from buckler.data import csv_table
from buckler.data.layout import Layout, value_key
from buckler.errors import DataError

TABLE = "file,Label,grade,eye\n1.png,normal,0,left\n2.png,DR,2.0,left\n3.png,dr,3,right\n4.png,cataract,,left\n"


def labels(classes, text=TABLE, *, several=False):
    layout = Layout(classes, group="", several=several)
    return layout.labels(csv_table.read(text.encode(), "in/labels.csv", ["file", *layout.columns]))


def test_a_row_has_the_class_whose_columns_have_one_of_the_values_each():
    classes = {"normal": {"label": ["normal"]}, "referable": {"grade": [2, 3]}}
    assert labels(classes) == ["normal", "referable", "referable", None]
    classes = {"left": {"label": ["dr"], "eye": ["left"]}, "other": {"label": ["normal", "cataract"]}}
    assert labels(classes) == ["other", "left", None, "other"]


def test_a_row_may_have_several_findings_or_none_and_no_class_if_a_value_is_unknown():
    text = "file,oedema,effusion\n1.png,1,yes\n2.png,0,no\n3.png,0,yes\n4.png,,yes\n5.png,1,n/a\n"
    classes = {"oedema": {"oedema": [1]}, "effusion": {"effusion": ["yes"]}}
    assert labels(classes, text, several=True) == ["effusion+oedema", "no_finding", "effusion", None, None]
    with pytest.raises(DataError, match=r"row 1 .* fits oedema and effusion; set data\.several_labels to true"):
        labels(classes, text)


@pytest.mark.parametrize("name", ["a+b", "no_finding"])
def test_a_finding_whose_name_means_a_set_is_refused(name):
    with pytest.raises(ValueError, match="expected names of findings"):
        Layout({name: {"grade": [1]}, "b": {"grade": [2]}}, several=True)


@pytest.mark.parametrize(("one", "other"), [(2, "2"), (2, "2.0"), (2.0, " 2 "), ("02", 2), ("Mild DR", "mild_dr")])
def test_values_that_people_mean_as_one_have_one_key(one, other):
    assert value_key(one) == value_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [(2, 3), (1234567, 1234568), ("nan", "inf"), ("HER2+", "HER2-"), ("1", "-1"), ("", "0")]
)
def test_other_values_have_other_keys(one, other):
    assert value_key(one) != value_key(other)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            {"a": {"stage": [1]}, "b": {"grade": [2]}},
            r"in/labels\.csv to have the columns \['stage'\], \['stage'\] are missing; it has \['file', 'Label', 'gr",
        ),
        (
            {"a": {"grade": [2, 5, "x"]}, "b": {"label": ["normal"]}},
            r"data\.classes\.a: expected values of the column 'grade' .*, got \[5, 'x'\]; it has '0' \(1\), '2\.0'",
        ),
        (
            {"a": {"grade": [2, 3]}, "b": {"label": ["dr"]}},
            r"fit at most one class of data\.classes, row 2 \(2\.png, DR, 2\.0, \.\.\.\) fits a and b",
        ),
        (
            {"a": {"grade": [0], "eye": ["right"]}, "b": {"grade": [3]}},
            r"expected rows of the class 'a' in .*, none has a value of data\.classes\.a in each of its columns",
        ),
    ],
)
def test_classes_that_the_table_contradicts_are_errors_that_say_what_there_is(classes, message):
    with pytest.raises(DataError, match=message):
        labels(classes)


def test_of_many_values_the_most_frequent_are_listed():
    rows = "".join(f"{number}.png,{number // 2}\n" for number in range(60))
    with pytest.raises(DataError, match=r"got \[-1\]; it has '0' \(2\), .* '19' \(2\) and 10 more$"):
        labels({"a": {"age": [-1]}, "b": {"age": [1]}}, f"file,age\n{rows}")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"a": {"grade": [1]}}, r"expected at least two classes, or \{\}, got \['a'\]"),
        ({"a": {"x": [1]}, " A": {"x": [2]}}, r"\['a', ' A'\] differ only in case"),
        (
            {"a": {}, "b": {"x": [1]}},
            r"classes\.a: expected columns with values, such as \{grade: \[2, 3\]\}, got",
        ),
        ({"a": {"x": []}, "b": {"x": [1]}}, r"classes\.a: expected columns with values, .* got \{'x': \[\]\}"),
        ({"a\n": {"x": [1]}, "b": {"x": [2]}}, r"expected names without control characters, got 'a\\n'"),
        ({" ": {"x": [1]}, "b": {"x": [2]}}, r"expected names .*, got ' '"),
    ],
)
def test_classes_that_no_table_can_have_are_rejected(classes, message):
    with pytest.raises(ValueError, match=message):
        Layout(classes)
