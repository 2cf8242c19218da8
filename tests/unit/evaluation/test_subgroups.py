import pytest

from buckler.data import collection, manifest, pictures
from buckler.data.layout import Layout
from buckler.errors import DataError
from buckler.evaluation import subgroups
from buckler.modality.picture import synthetic
from pipelines import ingest
from pipelines.settings import DataParams
from tests import datasets

COLUMNS = {
    "label": ["mel", "nv", "nv", "mel"],
    "sex": ["female", "male", "", "Unknown"],
    "age": ["39.9", "40", "60.0", "nan"],
}


def members(found):
    return {key: here.nonzero()[0].tolist() for key, here in found.items()}


def test_each_value_is_a_group_and_missing_values_are_one_too():
    assert members(subgroups.groups(COLUMNS, {"sex": ()})) == {
        ("label", "mel"): [0, 3],
        ("label", "nv"): [1, 2],
        ("sex", "female"): [0],
        ("sex", "male"): [1],
        ("sex", "unknown"): [2, 3],
    }


def test_numbers_are_banded_at_the_cuts_and_a_cut_belongs_above():
    found = members(subgroups.groups(COLUMNS, {"age": (40, 60)}))
    del found["label", "mel"], found["label", "nv"]
    assert found == {
        ("age", "under 40"): [0],
        ("age", "40 to under 60"): [1],
        ("age", "60 and over"): [2],
        ("age", "unknown"): [3],
    }


def test_the_groups_of_a_column_have_every_picture_once():
    found = subgroups.groups(COLUMNS, {"sex": (), "age": (50,)})
    for column in ("label", "sex", "age"):
        assert sum(here.astype(int) for (name, _), here in found.items() if name == column).tolist() == [1] * 4


def test_bands_are_in_ascending_and_not_in_alphabetical_order():
    found = subgroups.groups({"label": ["a", "a"], "age": ["100", "9"]}, {"age": (9.5, 50)})
    assert [group for column, group in found if column == "age"] == ["under 9.5", "50 and over"]


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ({"eyes": ()}, r"asks for the columns \['eyes'\], the manifest has \['age', 'label', 'sex'\]"),
        ({"sex": (1,)}, "numbers are expected there, got 'female'"),
        ({"age": (60, 40)}, r"expected rising cuts in attack.subgroups.age, got \[60, 40\]"),
    ],
)
def test_a_column_that_cannot_be_grouped_by_is_a_clear_error(bands, message):
    with pytest.raises(DataError, match=message):
        subgroups.groups(COLUMNS, bands)


def test_metadata_reach_the_splits_and_the_groups_of_the_chosen_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = datasets.make_folder(tmp_path / "in", per_class=8)
    rows = [
        f"{label}/{i}.png,{label},,{'male' if i % 2 else ''},{30 + i}" for label in synthetic.LABELS for i in range(7)
    ]
    (folder / "metadata.csv").write_text("\n".join(["file,label,lesion_id,sex,age", *rows]) + "\n")
    ingest.run(
        DataParams("directory", str(folder), "picture", 0, datasets.SIZE, (), 0.2, 1, {}, False, "lesion_id", "none")
    )
    frame = manifest.read(ingest.MANIFEST)
    manifest.write(frame, tmp_path / "test.csv")
    wanted = ["malignant/3.png", "benign/2.png", "benign/7.png"]
    columns = pictures.columns(tmp_path / "test.csv", wanted)
    assert columns["id"] == wanted
    assert columns["sex"] == ["male", "", ""]
    found = members(subgroups.groups(columns, {"sex": (), "age": (33,)}))
    assert found["sex", "unknown"] == [1, 2]
    assert (found["age", "33 and over"], found["age", "under 33"], found["age", "unknown"]) == ([0], [1], [2])


@pytest.mark.real_data
def test_the_real_metadata_have_sex_age_and_site_of_every_picture(real_data):
    items = collection.read(real_data / "ham7", Layout()).items(per_class=0, seed=1)
    columns = {name: [item.extra[name] for item in items] for name in ("sex", "age", "localization")}
    columns["label"] = [item.label for item in items]
    found = subgroups.groups(columns, {"sex": (), "age": (40, 60), "localization": ()})
    sizes = {key: int(here.sum()) for key, here in found.items()}
    assert (sizes["sex", "male"], sizes["sex", "female"], sizes["sex", "unknown"]) == (428, 310, 2)
    assert [group for column, group in found if column == "age"] == [
        *("under 40", "40 to under 60", "60 and over", "unknown")
    ]
    assert sizes["age", "unknown"] == 2
    assert sizes["localization", "back"] == 157
    assert sizes["localization", "genital"] == 1
