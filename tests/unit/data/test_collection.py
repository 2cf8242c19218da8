import pytest

from buckler.data import collection
from buckler.data.layout import Layout
from buckler.errors import DataError
from tests import datasets


@pytest.fixture
def folder(tmp_path):
    for name in ("nv/1.jpg", "nv/2.png", "nv/sub/3", "mel/1.jpg", "bcc/a, b.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def read(folder):
    return collection.read(folder, Layout())


def ids(folder, per_class=0, seed=1):
    return [item.id for item in read(folder).items(per_class=per_class, seed=seed)]


def test_every_file_of_a_class_folder_is_a_picture_of_that_class(folder):
    items = read(folder).items(per_class=0, seed=1)
    assert [(item.id, item.label) for item in items] == [
        ("bcc/a, b.txt", "bcc"),
        ("mel/1.jpg", "mel"),
        ("nv/1.jpg", "nv"),
        ("nv/2.png", "nv"),
        ("nv/sub/3", "nv"),
    ]
    assert items[0].read() == b"bcc/a, b.txt"
    assert {(item.group, *item.extra) for item in items} == {("",)}


def test_what_is_no_picture_is_left_out_and_named_by_its_reason(folder):
    for name in (
        *("nv/.DS_Store", ".git/x", "nv/.thumbs/1.jpg", "SHA256SUMS", "nv/SHA256SUMS", "README.md", "nv/more.zip"),
        *("__MACOSX/nv/._1.jpg", "nv/@eaDir/1.jpg", "$RECYCLE.BIN/1.jpg", "lost+found/1.jpg", "mel/Thumbs.db"),
        *("mel/~$notes.docx", "mel/2.jpg.part", "bcc/DESKTOP.INI", "bcc/Icon\r", "bcc/1.jpg:Zone.Identifier"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / "nv/.gone.jpg").symlink_to("/nowhere")
    assert ids(folder) == ["bcc/a, b.txt", "mel/1.jpg", "nv/1.jpg", "nv/2.png", "nv/sub/3"]
    skipped = {reason: sorted(names) for reason, names in read(folder).skipped.items()}
    assert skipped == {
        "archives, not opened: unpack them": ["nv/more.zip"],
        "hidden": [".git/", "nv/.gone.jpg", "nv/.thumbs/"],
        "left by an operating system or program": [
            *("$RECYCLE.BIN/", "'bcc/Icon\\r'", "__MACOSX/", "bcc/1.jpg:Zone.Identifier", "bcc/DESKTOP.INI"),
            *("lost+found/", "mel/2.jpg.part", "mel/Thumbs.db", "mel/~$notes.docx", "nv/.DS_Store", "nv/@eaDir/"),
        ],
        "lists of checksums": ["SHA256SUMS", "nv/SHA256SUMS"],
        "outside the class folders": ["README.md"],
    }


@pytest.mark.parametrize("name", ["NV", "nv ", "\u2003nv", "n\u200bv"])
def test_two_folders_that_mean_one_class_are_refused(folder, name):
    (folder / name).mkdir()
    with pytest.raises(DataError, match=r"expected one folder for each class .*; move their pictures into one folder"):
        ids(folder)


@pytest.mark.parametrize(("one", "other"), [("Nävus", "Na\u0308vus"), ("basal cell", "Basal_Cell")])
def test_other_spellings_of_a_class_are_refused_too(folder, one, other):
    for name in (one, other):
        (folder / name).mkdir()
    with pytest.raises(DataError) as caught:
        ids(folder)
    assert ascii(one) in str(caught.value)
    assert ascii(other) in str(caught.value)


@pytest.mark.parametrize("names", [("HER2+", "HER2-"), ("1", "-1"), ("grade 1", "grade 2")])
def test_classes_that_differ_in_a_sign_or_number_are_distinct(tmp_path, names):
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_text(name)
    assert list(read(tmp_path).files) == sorted(names)


@pytest.mark.parametrize(
    ("dangerous", "message"),
    [
        (["melanoma"], r"got \['melanoma'\]; there are \['bcc', 'mel', 'nv'\]: set data\.malignant"),
        (["mel", "MEL"], r"got \['MEL'\]; there are"),
        (["bcc", "mel", "nv"], "besides data.malignant, .*: if every label is dangerous, no answer can be a miss"),
    ],
)
def test_dangerous_labels_are_some_of_the_class_folders(folder, dangerous, message):
    with pytest.raises(DataError, match=message):
        read(folder).check(dangerous=dangerous, max_unmatched=0.05)


def test_a_larger_draw_with_the_same_seed_contains_the_smaller_one(tmp_path):
    folder = datasets.make_folder(tmp_path / "set", per_class=12)
    draws = {seed: ids(folder, 4, seed) for seed in range(5)}
    assert all(len(drawn) == 8 for drawn in draws.values())
    assert len({tuple(drawn) for drawn in draws.values()}) > 1
    assert set(draws[0]) < set(ids(folder, 9, 0)) < set(ids(folder, 0, 0))
    assert ids(folder, 100, 0) == ids(folder, 0, 0)


def test_an_error_names_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match=r"expected a folder of pictures at .*gone.*set data\.path"):
        ids(tmp_path / "gone")


def test_fewer_than_two_classes_are_rejected(tmp_path):
    with pytest.raises(DataError, match=r"at least two class folders in .*, got \[\]"):
        ids(tmp_path)
    (tmp_path / "nv").mkdir()
    with pytest.raises(DataError, match=r"at least two class folders in .*, got \['nv'\]"):
        ids(tmp_path)


def test_an_error_names_an_empty_class(folder):
    (folder / "vasc").mkdir()
    (folder / "vasc/.hidden").write_text("x")
    with pytest.raises(DataError, match=r"expected pictures in the class folder .*vasc, it is empty"):
        ids(folder)


def sets(tmp_path, *names):
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(name.encode())
    return collection.read(tmp_path, Layout(several=True))


def test_class_folders_name_sets_of_findings_if_a_picture_may_show_several(tmp_path):
    found = sets(tmp_path, "effusion", "effusion+nodule", "no_finding")
    assert list(found.files) == ["effusion", "effusion+nodule", "no_finding"]
    found.check(dangerous=["nodule"], max_unmatched=0)
    with pytest.raises(DataError, match=r"got \['mass'\]; there are \['effusion', 'nodule'\]"):
        found.check(dangerous=["mass"], max_unmatched=0)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("nodule+effusion", "effusion+nodule"),
        ("nodule+", "nodule"),
        ("no_finding+nodule", "nodule"),
        ("+", "no_finding"),
    ],
)
def test_two_names_of_one_set_are_not_two_classes(tmp_path, name, label):
    with pytest.raises(DataError) as caught:
        sets(tmp_path, "effusion", name)
    assert f"got '{name}'; rename it to '{label}'" in str(caught.value)
