import unicodedata

import pytest

from buckler.data import collection, inventory
from buckler.data.layout import Layout
from buckler.errors import DataError

FILES = ("nv/1.jpg", "nv/2.png", "nv/sub/3.jpg", "mel/1.jpg", "bcc/Müller 7.JPG")
HEAD = "file,label,lesion_id"


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def items(folder, *rows, head=HEAD, name="metadata.csv", encoding="utf-8", separator=","):
    (folder / name).write_bytes("\n".join([head, *rows]).replace(",", separator).encode(encoding))
    return {item.id: item for item in collection.read(folder, Layout()).items(per_class=0, seed=1)}


def found(folder):
    return collection.read(folder, Layout()).table.found


def test_the_table_provides_the_group_and_further_columns(folder):
    rows = "nv/1.jpg,nv,L1,female,abc", "nv/2.png,nv,L1,,", "nv/gone.jpg,nv,L9,male,"
    read = items(folder, *rows, head=f"{HEAD},sex,sha256")
    assert read["nv/1.jpg"].group == read["nv/2.png"].group == "L1"
    assert read["nv/1.jpg"].extra == {"sex": "female", "metadata_sha256": "abc"}
    assert read["mel/1.jpg"].group == ""
    assert read["mel/1.jpg"].extra == {"sex": "", "metadata_sha256": ""}
    assert "nv/gone.jpg" not in read


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            "file,sex\n",
            r"expected .*metadata\.csv to have the columns .*\['label', 'lesion_id'\] are missing",
        ),
        ("file,label,lesion_id\nnv/1.jpg,mel,L1\n", r"labels nv/1\.jpg 'mel', its folder 'nv'"),
        (
            "file,label,lesion_id\nnv/1.jpg,nv,L1\nnv/1.jpg,nv,L2\n",
            r"one row per file .*'nv/1\.jpg' has several",
        ),
        ("", "expected .* to be a CSV"),
        (f"{HEAD},Label\n", "each column once, 'label' is there several times"),
        (f"{HEAD},id,metadata_id\n", "to have no column 'metadata_id'"),
        (f"{HEAD}\nnv/1.jpg,nv\n", "expected 3 cells in each row of .*, got 2 in row 1"),
        (f'{HEAD}\n"nv/1.jpg,nv,L1\n', "expected .* to be a CSV in UTF-8: unexpected end"),
        ("PK\x03\x04", "got an Excel workbook; save it as CSV"),
        (f"{HEAD}\nnv/1,nv,L1\nNV\\\\1.JPG,nv,L2\n", "one row per file .* has several"),
        ("file,label,lesion_id\n\xff\xfe,\n", "expected .* to be a CSV in UTF-8"),
    ],
)
def test_inconsistent_metadata_are_rejected(folder, metadata, message):
    (folder / "metadata.csv").write_bytes(metadata.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        found(folder)


@pytest.mark.parametrize(
    ("file", "label", "picture"),
    [
        (r"nv\1.jpg", "nv", "nv/1.jpg"),
        ("NV/1.JPG", "Nv", "nv/1.jpg"),
        (" nv/1.jpg ", "nv ", "nv/1.jpg"),
        ("./nv//1.jpg", "nv", "nv/1.jpg"),
        (r"C:\Users\me\pictures\nv\1.jpg", "nv", "nv/1.jpg"),
        ("/srv/pictures/nv/1.jpg", "nv", "nv/1.jpg"),
        ("nv/1", "nv", "nv/1.jpg"),
        ("2.png", "nv", "nv/2.png"),
        ("2", "nv", "nv/2.png"),
        ("1.jpg", "nv", "nv/1.jpg"),  # mel/1.jpg has another label
        ("1", "mel", "mel/1.jpg"),
        ("sub/3.jpg", "nv", "nv/sub/3.jpg"),
        (unicodedata.normalize("NFD", "bcc/Müller 7.JPG"), "bcc", "bcc/Müller 7.JPG"),
        ("müller 7", "BCC", "bcc/Müller 7.JPG"),
    ],
)
def test_names_that_people_mean_as_one_are_matched(folder, file, label, picture):
    read = items(folder, f"{file},{label},L1")
    assert [name for name, item in read.items() if item.group] == [picture]
    assert found(folder).respelled == int(file.strip() != picture)


@pytest.mark.parametrize("file", ["nv/1.png", "nv/11.jpg", "mel/2.png", "other/1.jpg", "v/1.jpg", "", "."])
def test_other_names_match_no_picture(folder, file):
    items(folder, f"{file},nv,L1")
    assert found(folder).without_file == (file,)


def test_a_row_that_may_mean_several_pictures_is_refused(folder):
    (folder / "nv/1.png").write_text("another")
    with pytest.raises(DataError, match=r"'nv/1' may mean any of \['nv/1\.jpg', 'nv/1\.png'\]"):
        items(folder, "nv/1,nv,L1")
    assert items(folder, "nv/1.JPG,nv,L1")["nv/1.jpg"].group == "L1"


@pytest.mark.parametrize(
    "form",
    [
        {"name": "Metadata.csv"},
        {"name": "META DATA.CSV"},
        {"encoding": "utf-8-sig"},
        {"encoding": "utf-16"},
        {"separator": ";"},
        {"separator": "\t"},
        {"head": "File, Label ,Lesion ID"},
        {"head": "sep=,\n" + HEAD},
        {"head": HEAD + ",,"},
    ],
)
def test_other_forms_of_the_table_are_read(folder, form):
    rows = [row + ",," * form.get("head", "").endswith(",,") for row in ("nv/1.jpg,nv,L1", "nv/2.png,nv,L1")]
    read = items(folder, *rows, **form)
    assert [name for name, item in read.items() if item.group == "L1"] == ["nv/1.jpg", "nv/2.png"]
    assert read["nv/1.jpg"].extra == {}


@pytest.mark.parametrize(
    "name",
    ["metadata.tsv", "metadata.xlsx", "metadata.csv.txt", "labels.csv.txt", "HAM10000_metadata.CSV", "nv/Metadata.csv"],
)
def test_a_table_under_another_name_is_refused(folder, name):
    with pytest.raises(
        DataError, match=rf"to be called metadata\.csv or labels\.csv, got \['{name}'\]; save it as CSV"
    ):
        items(folder, name=name)
    assert len(items(folder)) == len(FILES)  # beside metadata.csv it is skipped
    assert [name] in collection.read(folder, Layout()).skipped.values()


def test_two_tables_are_refused(folder):
    items(folder)
    with pytest.raises(DataError, match=r"expected one table .*, got \['Metadata\.csv', 'metadata\.csv'\]"):
        items(folder, name="Metadata.csv")


@pytest.mark.parametrize("word", ["NA", "N/A", "n.a.", "unknown", "-", "?", " ", "", "None", "nan", "NULL"])
def test_words_for_an_unknown_lesion_are_no_lesion(folder, word):
    read = items(folder, *(f"{name},{name.split('/')[0]},{word}" for name in FILES))
    assert {item.group for item in read.values()} == {""}
    assert found(folder).groups == 0
    line = inventory.line(collection.read(folder, Layout()), list(read), [])
    assert f"lesion_id unknown in 5 rows ({word.strip() or 'empty'} 5)" in line


def test_spellings_of_a_lesion_are_one_and_lesions_of_several_classes_are_named(folder):
    read = items(folder, "nv/1.jpg,nv,L 1", "nv/2.png,nv,l_1 ", "mel/1.jpg,mel,0", "bcc/Müller 7.JPG,bcc,0")
    assert read["nv/1.jpg"].group == read["nv/2.png"].group == "L 1"
    assert found(folder).groups_across == ("0",)


def test_a_table_that_does_not_fit_the_pictures_stops_with_examples_of_both(folder):
    items(folder, "scans/a.jpg,nv,L1", "nv/1.jpg,nv,L1")
    folders = collection.read(folder, Layout())
    with pytest.raises(DataError) as caught:
        folders.check(dangerous=(), max_unmatched=0.5)
    assert (
        "got 1 of 2 rows and 4 of 5 pictures: the table names 'scans/a.jpg', the folder has 'bcc/Müller 7.JPG'"
        in str(caught.value)
    )
    folders.check(dangerous=(), max_unmatched=0.8)


def test_only_what_is_missing_is_shown(folder):
    items(folder, "nv/1.jpg,nv,L1")
    with pytest.raises(DataError, match=r"got 0 of 1 rows and 4 of 5 pictures: the folder has .bcc/Müller 7\.JPG."):
        collection.read(folder, Layout()).check(dangerous=(), max_unmatched=0.5)
    items(folder, *(f"{name},{name.split('/')[0]},L1" for name in (*FILES, "nv/a.jpg", "nv/b.jpg")))
    with pytest.raises(DataError, match=r"got 2 of 7 rows and 0 of 5 pictures: the table names 'nv/a\.jpg'; correct"):
        collection.read(folder, Layout()).check(dangerous=(), max_unmatched=0.2)


def test_the_line_counts_every_file_once(folder):
    items(folder, "nv/1.jpg,nv,L1", "nv/gone.jpg,nv,L2")
    for name in ("nv/Thumbs.db", "nv/more.zip", "cover.jpg", "__MACOSX/x"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    taken = ["bcc/Müller 7.JPG", "mel/1.jpg", "nv/1.jpg", "nv/2.png"]
    assert inventory.line(collection.read(folder, Layout()), taken, ["nv/2.png"]) == (
        "8 files found, 3 used, 5 skipped: 1 left by an operating system or program (nv/Thumbs.db), "
        "1 archives, not opened: unpack them (nv/more.zip), 1 outside the class folders (cover.jpg), "
        "1 not drawn (data.per_class) (nv/sub/3.jpg), 1 undecodable, for quarantine (nv/2.png), "
        "folders skipped: __MACOSX/; 1 files in folders inside the class folders (nv/sub); metadata.csv: 2 rows, "
        "1 rows without a picture (nv/gone.jpg), 4 pictures without a row (bcc/Müller 7.JPG, mel/1.jpg, nv/2.png and "
        "1 more), 1 groups (lesion_id)"
    )


def test_a_folder_without_a_table_says_so(folder):
    taken = sorted(FILES)
    assert inventory.line(collection.read(folder, Layout()), taken, []).endswith(
        "; no metadata.csv or labels.csv, so no group is known"
    )
