import pytest

from buckler.data import collection, inventory
from buckler.data.layout import Layout
from buckler.errors import DataError

FILES = ("images/1.jpg", "images/2.jpg", "images/3.JPG", "images/4.jpg", "more/1.jpg")
CLASSES = {"normal": {"label": ["normal"]}, "ill": {"grade": [2, 3]}}
ROWS = (
    "images/1.jpg,p1,normal,0,50",
    "images/2.jpg,p1,dr,2,50",
    "images/3.JPG,p2,dr,3,60",
    "images/4.jpg,p3,dr,1,70",
    "more/1.jpg,NA,normal,0,",
)


@pytest.fixture
def folder(tmp_path):
    for name in (*FILES, "README.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def read(folder, *rows, classes=CLASSES, group="patient_id", name="labels.csv"):
    (folder / name).write_text("\n".join(["file,patient_id,label,grade,age", *(rows or ROWS)]) + "\n")
    return collection.read(folder, Layout(classes, group))


def test_rows_of_no_class_are_left_out_and_the_others_keep_their_group_and_columns(folder):
    items = read(folder).items(per_class=0, seed=1)
    assert [(item.id, item.label, item.group) for item in items] == [
        ("images/1.jpg", "normal", "p1"),
        ("images/2.jpg", "ill", "p1"),
        ("images/3.JPG", "ill", "p2"),
        ("more/1.jpg", "normal", ""),
    ]
    assert items[0].extra == {"metadata_label": "normal", "grade": "0", "age": "50"}
    assert items[0].read() == b"images/1.jpg"


def test_the_line_says_what_is_of_no_class_and_of_another_type(folder):
    found = read(folder)
    taken = [item.id for item in found.items(per_class=0, seed=1)]
    assert inventory.line(found, taken, []) == (
        "6 files found, 4 used, 2 skipped: 1 of none of the classes (data.classes) (images/4.jpg), 1 of a type that no "
        "row names (README.md); labels.csv: 5 rows, 0 rows without a picture, 0 pictures without a row, 2 groups "
        "(patient_id); patient_id unknown in 1 rows (NA 1); 1 groups have pictures of several classes (p1)"
    )


def test_pictures_without_a_row_are_not_used_and_too_many_of_them_stop(folder):
    found = read(folder, *ROWS[:4])
    assert found.skipped["without a row"] == ["more/1.jpg"]
    found.check(dangerous=["ill"], max_unmatched=0.2)
    with pytest.raises(DataError, match=r"got 0 of 4 rows and 1 of 5 pictures: the folder has 'more/1\.jpg'"):
        found.check(dangerous=["ill"], max_unmatched=0.1)


def test_class_folders_do_not_matter_where_the_table_defines_the_classes(folder):
    (folder / "images").rename(folder / "normal")
    found = read(folder, *(row.replace("images/", "normal/") for row in ROWS))
    assert found.files == {"normal": ["more/1.jpg", "normal/1.jpg"], "ill": ["normal/2.jpg", "normal/3.JPG"]}


def test_a_short_name_that_may_mean_several_pictures_is_refused(folder):
    with pytest.raises(DataError, match=r"'1\.jpg' may mean any of \['images/1\.jpg', 'more/1\.jpg'\]"):
        read(folder, "1.jpg,p1,normal,0,50", *ROWS[1:3])


def test_a_class_without_pictures_is_an_error_with_a_name_that_the_table_has(folder):
    with pytest.raises(DataError, match=r"of the class 'ill' .*: the table names 'scans/2\.jpg'; correct the column"):
        read(folder, ROWS[0], "scans/2.jpg,p1,dr,2,50", "scans/3.jpg,p1,dr,3,50")


def test_a_missing_group_column_is_an_error_that_names_the_setting(folder):
    with pytest.raises(DataError, match=r"columns \['file', 'patient', .*\['patient'\] are missing; .*; data\.group"):
        read(folder, group="patient")
    assert {item.group for item in read(folder, group="").items(per_class=0, seed=1)} == {""}


def test_without_a_table_nothing_defines_the_classes(folder):
    with pytest.raises(DataError, match=r"expected a table metadata\.csv or labels\.csv in .*data\.classes to \{\}"):
        collection.read(folder, Layout(CLASSES, "patient_id"))
    with pytest.raises(DataError, match=r"got \['more/labels\.csv'\]; save it as CSV under that name directly in"):
        read(folder, name="more/labels.csv")


def test_both_names_of_a_table_at_once_are_refused(folder):
    read(folder, name="metadata.csv")
    with pytest.raises(DataError, match=r"expected one table .*, got \['labels\.csv', 'metadata\.csv'\]"):
        read(folder)


def test_a_folder_with_a_table_and_no_class_folders_names_the_setting(folder):
    (folder / "more/1.jpg").unlink()
    (folder / "more").rmdir()
    with pytest.raises(DataError, match=r"got \['images'\]; .*, or define the classes by columns of labels\.csv in"):
        read(folder, classes={})


def test_class_folders_may_have_another_grouping_column(folder):
    rows = ("images/1.jpg,p1,images,0,1", "more/1.jpg,P1 ,more,0,1")
    items = {item.id: item for item in read(folder, *rows, classes={}).items(per_class=0, seed=1)}
    assert items["images/1.jpg"].group == items["more/1.jpg"].group == "p1"
    assert items["images/2.jpg"].group == ""
    assert items["images/1.jpg"].extra == {"grade": "0", "age": "1"}


@pytest.mark.parametrize(
    ("dangerous", "message"), [(["dr"], "to name classes of data.classes"), (["ill", "normal"], "besides")]
)
def test_dangerous_labels_are_some_of_the_classes(folder, dangerous, message):
    with pytest.raises(DataError, match=message):
        read(folder).check(dangerous=dangerous, max_unmatched=0.05)
