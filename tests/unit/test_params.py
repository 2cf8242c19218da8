import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from buckler import params
from buckler.errors import ParamsError

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"


@dataclass(frozen=True)
class Section:
    images: int
    seed: int


def write(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_a_section_becomes_its_dataclass(tmp_path):
    assert params.load("attack", Section, write(tmp_path, "attack: {images: 3, seed: 1}")) == Section(3, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attack: {images: 3, sede: 1}", r"'attack' misses \['seed'\], does not know \['sede'\]"),
        ("attack: {images: many, seed: 1}", r"attack\.images: .* got 'many'"),
        ("other: {}", "expected a section 'attack'"),
        ("attack: [", "not valid YAML"),
        ("3", "expected sections, got int"),
        ("- data\n- attack", "expected sections, got list"),
        ("attack: {images: 3, seed: 1, seed: 2}", "not valid YAML: duplicate key 'seed'"),
        ("attack:\n  images: 3\nattack:\n  images: 4", "not valid YAML: duplicate key 'attack'"),
        ("attack:\n\timages: 3", "not valid YAML: .* cannot start any token"),
        ("attack: {images: 3, seed: 1, 7: x}", r"does not know \[7\]"),
        ("attack: {images: 3, seed: 1, 7: x, a: y}", r"does not know \[7, 'a'\]"),
        ("[" * 5000, "not valid YAML"),
    ],
)
def test_an_error_names_an_invalid_section(tmp_path, text, message):
    with pytest.raises(ParamsError, match=message):
        params.load("attack", Section, write(tmp_path, text))


def test_a_byte_order_mark_is_no_part_of_the_first_section(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("attack: {images: 3, seed: 1}", encoding="utf-8-sig")
    assert params.load("attack", Section, path) == Section(3, 1)


def test_another_encoding_is_named(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes("attack: {images: 3} # für".encode("latin-1"))
    with pytest.raises(ParamsError, match=r"is not UTF-8 .*; save it as UTF-8"):
        params.read(path)


@pytest.mark.parametrize("profiles", ["3", "[a]", "{demo: 3}", "{1: {}, a: {}}"])
def test_profiles_that_are_none_are_refused(tmp_path, profiles):
    with pytest.raises(ParamsError, match="no profile 'demo'; there are"):
        params.apply_profile("demo", {}, write(tmp_path, f"profiles: {profiles}"))


def test_one_value_is_read_and_checked(tmp_path):
    path = write(tmp_path, "attack: {images: 3}")
    assert params.value("attack", "images", params.Count, path) == 3
    with pytest.raises(ParamsError, match=r"attack\.images: Input should be less than or equal to 1, got 3"):
        params.value("attack", "images", params.Share, path)
    with pytest.raises(ParamsError, match=r"section 'attack' misses \['seed'\]"):
        params.value("attack", "seed", params.Seed, path)


def test_outside_a_project_the_error_states_where_to_run(tmp_path):
    with pytest.raises(ParamsError, match="run from the project's root"):
        params.load("attack", Section, tmp_path / "params.yaml")


def test_profiles_with_empty_and_filled_maps_replace_each_other(tmp_path):
    path = write(tmp_path, PARAMS.read_text())
    params.apply_profile("demo", {}, path)
    before = params.read(path)
    for profile in ("ham10000", "paper", "ham10000"):
        params.apply_profile(profile, {}, path)
    assert params.read(path)["attack"]["subgroups"] == {"sex": [], "age": [40, 60], "localization": []}
    params.apply_profile("demo", {}, path)
    assert params.read(path) == before


def test_a_profile_changes_only_values(tmp_path):
    path = write(tmp_path, PARAMS.read_text())
    params.apply_profile("demo", {}, path)
    before = path.read_text().splitlines()
    params.apply_profile("paper", {"data.path": "/pictures"}, path)
    after = path.read_text().splitlines()
    assert params.read(path)["data"]["path"] == "/pictures"
    assert params.read(path)["data"]["image_size"] == 224
    assert [line.partition("#")[2] for line in before if "#" in line] == [
        line.partition("#")[2] for line in after if "#" in line
    ]
    params.apply_profile("demo", {}, path)
    assert path.read_text().splitlines() == before


def test_a_setting_within_a_mapping_changes_it_alone(tmp_path):
    path = write(tmp_path, PARAMS.read_text())
    path.chmod(0o640)
    params.apply_profile("demo", {}, path)
    before = params.read(path)
    params.apply_profile("demo", {"detect.evasion.steps": 3}, path)
    after = params.read(path)
    assert after["detect"].pop("evasion") == before["detect"].pop("evasion") | {"steps": 3}
    assert after == before
    assert path.stat().st_mode & 0o777 == 0o640


def test_every_profile_sets_the_same_keys():
    profiles = params.read(PARAMS)["profiles"]
    keys = {name: set(values) for name, values in profiles.items()}
    assert len({frozenset(names) for names in keys.values()}) == 1, keys


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("absent", {}, "no profile 'absent'"),
        *(
            ("demo", {key: 1}, f"sets '{re.escape(key)}'")
            for key in ("data.colour", "colour.size", "detect.evasion.colour", "data.seed.colour", "data.seed.a.b")
        ),
    ],
)
def test_an_unknown_profile_or_key_is_rejected(tmp_path, name, overrides, message):
    path = write(tmp_path, PARAMS.read_text())
    before = path.read_text()
    with pytest.raises(ParamsError, match=message):
        params.apply_profile(name, overrides, path)
    assert path.read_text() == before
