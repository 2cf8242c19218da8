import pytest

from buckler.data import sources
from buckler.errors import DataError
from buckler.modality.picture import images
from tests import datasets


@pytest.fixture
def folder(tmp_path):
    for name in ("nv/1.jpg", "nv/2.png", "nv/sub/3", "mel/1.jpg", "bcc/a, b.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def ids(folder, per_class=0, seed=1):
    return [item.id for item in sources.directory(folder, per_class=per_class, seed=seed)]


def test_every_file_of_a_class_folder_is_a_picture_of_that_class(folder):
    items = sources.directory(folder, per_class=0, seed=1)
    assert [(item.id, item.label) for item in items] == [
        ("bcc/a, b.txt", "bcc"),
        ("mel/1.jpg", "mel"),
        ("nv/1.jpg", "nv"),
        ("nv/2.png", "nv"),
        ("nv/sub/3", "nv"),
    ]
    assert items[0].read() == b"bcc/a, b.txt"
    assert {(item.group, *item.extra) for item in items} == {("",)}


def test_hidden_files_and_lists_are_not_pictures(folder):
    for name in ("nv/.DS_Store", ".git/x", "nv/.thumbs/1.jpg", "SHA256SUMS", "nv/SHA256SUMS", "README.md"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    assert ids(folder) == ["bcc/a, b.txt", "mel/1.jpg", "nv/1.jpg", "nv/2.png", "nv/sub/3"]


def test_a_larger_draw_with_the_same_seed_contains_the_smaller_one(tmp_path):
    folder = datasets.make_folder(tmp_path / "set", per_class=12)
    draws = {seed: ids(folder, 4, seed) for seed in range(5)}
    assert all(len(drawn) == 8 for drawn in draws.values())
    assert len({tuple(drawn) for drawn in draws.values()}) > 1
    assert set(draws[0]) < set(ids(folder, 9, 0)) < set(ids(folder, 0, 0))
    assert ids(folder, 100, 0) == ids(folder, 0, 0)


def test_metadata_provide_the_group_and_further_columns(folder):
    (folder / "metadata.csv").write_text(
        "file,label,lesion_id,sex,sha256\nnv/1.jpg,nv,L1,female,abc\nnv/2.png,nv,L1,,\nnv/gone.jpg,nv,L9,male,\n"
    )
    items = {item.id: item for item in sources.directory(folder, per_class=0, seed=1)}
    assert items["nv/1.jpg"].group == items["nv/2.png"].group == "L1"
    assert items["nv/1.jpg"].extra == {"sex": "female", "metadata_sha256": "abc"}
    assert items["mel/1.jpg"].group == ""
    assert items["mel/1.jpg"].extra == {"sex": "", "metadata_sha256": ""}
    assert "nv/gone.jpg" not in items


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
        ("file,label,lesion_id\n\xff\xfe,\n", "expected .* to be a CSV in UTF-8"),
    ],
)
def test_inconsistent_metadata_are_rejected(folder, metadata, message):
    (folder / "metadata.csv").write_bytes(metadata.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        ids(folder)


def test_an_error_names_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match=r"expected a folder of class folders at .*gone.*set data\.path"):
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


def test_generated_pictures_decode_and_do_not_depend_on_their_number():
    few = sources.generated(per_class=2, seed=3, size=32)
    many = {item.id: item for item in sources.generated(per_class=5, seed=3, size=32)}
    assert [item.id for item in few] == [
        "benign/00000.png",
        "benign/00001.png",
        "malignant/00000.png",
        "malignant/00001.png",
    ]
    for item in few:
        assert images.inspect(item.read()) == images.ImageInfo(32, 32, "RGB", "PNG")
        assert item.read() == many[item.id].read()


def test_the_generator_needs_a_positive_number():
    with pytest.raises(DataError, match=r"expected data\.per_class of at least 1 for the synthetic source, got 0"):
        sources.generated(per_class=0, seed=3, size=32)
