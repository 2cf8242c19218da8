import pytest

from buckler.data import expectations, manifest
from tests.forms import PICTURE

LIMITS = expectations.ValidateParams(
    min_side=32, max_side=100, min_per_class=3, max_imbalance=2.0, max_undecodable=0.1, labels=()
)
FACTS = PICTURE.checks(low=LIMITS.min_side, high=LIMITS.max_side)
NAMES = {
    "columns",
    "unique_ids",
    "decodes",
    "colour_mode",
    "mostly_colour",
    "width",
    "height",
    "known_labels",
    "one_label_a_content",
    "no_repeated_files",
    "malignant_labels",
    "pictures_in_every_class",
    "pictures_a_class",
    "class_balance",
}


def row(index, **changes):
    label = "malignant" if index % 2 else "benign"
    return {
        "id": f"{label}/{index:02}.png",
        "path": "",
        "sha256": f"digest {index}",
        "label": label,
        "width": "64",
        "height": "48",
        "mode": "RGB",
        "bytes": 100,
        "source": "directory",
        "group": "",
        **changes,
    }


def check(changes=None, problems=None, *, count=12, limits=LIMITS, malignant=("malignant",)):
    """Check ``count`` good rows with ``changes`` {index: columns}; ``problems`` are {index: code}."""
    frame = manifest.build([row(index, **(changes or {}).get(index, {})) for index in range(count)])
    codes = {row(index)["id"]: code for index, code in (problems or {}).items()}
    kept = frame[~frame["id"].isin(codes)]
    return expectations.check(frame, [codes.get(name, "none") for name in frame["id"]], kept, limits, malignant, FACTS)


def failed(outcome):
    return {result.name: result.seen for result in outcome.results if not result.passed}


def test_good_pictures_meet_every_expectation():
    outcome = check()
    assert {result.name for result in outcome.results} == NAMES
    assert failed(outcome) == {}
    severities = {result.name: result.severity for result in outcome.results}
    assert {name for name, severity in severities.items() if severity == "warning"} == {*expectations.warnings(FACTS)}


@pytest.mark.parametrize(
    ("changes", "name", "seen"),
    [
        ({2: {"id": "x"}, 4: {"id": "x"}}, "unique_ids", "2 of 12 violate it: x, x"),
        (
            {3: {"sha256": "same"}, 4: {"sha256": "same"}},
            "one_label_a_content",
            "2 of 12 violate it: benign/04.png (2), malignant/03.png (2)",
        ),
    ],
)
def test_what_would_falsify_results_is_critical_and_names_the_pictures(changes, name, seen):
    outcome = check(changes)
    assert seen in failed(outcome)[name]
    assert name in {one.name for one in outcome.violated("critical")}


@pytest.mark.parametrize(
    ("changes", "name", "seen"),
    [
        ({3: {"width": "31"}}, "width", "1 of 12 violate it: malignant/03.png (31"),
        ({3: {"height": "101"}}, "height", "malignant/03.png (101"),
        ({3: {"mode": "LAB"}}, "colour_mode", "malignant/03.png (LAB)"),
        ({index: {"mode": "L"} for index in range(4)}, "mostly_colour", "4 of 12 violate it"),
        ({2: {"sha256": "same"}, 4: {"sha256": "same"}}, "no_repeated_files", "2 of 12 violate it"),
    ],
)
def test_what_results_can_stand_is_a_warning(changes, name, seen):
    outcome = check(changes)
    assert seen in failed(outcome)[name]
    assert name in {one.name for one in outcome.violated("warning")}
    assert outcome.violated("critical") == ()


def test_undecodable_files_are_allowed_up_to_a_share():
    broken = {"width": "", "height": "", "mode": ""}
    assert failed(check({1: broken}, {1: "image_empty"}, count=20)) == {}
    three = failed(check(dict.fromkeys((1, 2, 3), broken), dict.fromkeys((1, 2, 3), "image_empty"), count=20))
    assert three.keys() == {"decodes"}
    assert three["decodes"].startswith("3 of 20 violate it: benign/02.png (image_empty), ")


def test_many_violations_are_counted_and_the_first_named():
    seen = failed(check({index: {"width": "8"} for index in range(12)}))["width"]
    assert seen.startswith("12 of 12 violate it: benign/00.png (8")
    assert seen.endswith(" and 7 more")


def test_the_result_names_small_and_unbalanced_classes():
    changes = {index: {"label": "benign"} for index in (3, 5, 7, 9)}
    outcome = check(changes)
    assert failed(outcome) == {
        "pictures_a_class": "1 of 2 violate it: malignant (2)",
        "class_balance": "1 of 2 violate it: malignant (5.0)",
    }
    assert outcome.violated("critical") == ()


def test_a_class_without_usable_pictures_is_critical():
    malignant = dict.fromkeys(range(1, 12, 2), "image_empty")
    outcome = check(problems=malignant)
    assert failed(outcome)["pictures_in_every_class"] == "1 of 2 violate it: malignant (0)"
    assert [one.name for one in outcome.violated("critical")] == ["pictures_in_every_class"]


def test_pictures_of_which_none_decodes_are_critical():
    outcome = check(problems=dict.fromkeys(range(12), "image_empty"))
    assert [one.seen for one in outcome.violated("critical")] == ["2 of 2 violate it: benign (0), malignant (0)"]


def test_the_result_names_unknown_labels():
    limits = expectations.ValidateParams(32, 100, 1, 20.0, 0.1, ("benign", "malignant"))
    seen = failed(check({2: {"label": "begnin"}}, limits=limits))
    assert seen == {"known_labels": "1 of 12 violate it: benign/02.png (begnin)"}


def test_the_result_names_a_malignant_label_without_pictures():
    assert failed(check(malignant=("malignant", "mel"))) == {"malignant_labels": "none of mel"}
    assert failed(check(malignant=())) == {}


def test_pages_show_names_and_do_not_run_them():
    name = "benign/<script>alert(1)</script><img src=x onerror=alert(2)>.png"
    outcome = check({0: {"id": name, "mode": "<svg onload=alert(3)>", "width": 1}})
    page = outcome.pages()["validations/pictures.html"]
    assert "<script" not in page
    assert "<svg" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt;.png" in page
    assert failed(outcome)["width"] == f"1 of 12 violate it: {name} (1.0)"
