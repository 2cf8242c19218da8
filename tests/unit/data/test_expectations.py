import pytest

from buckler.data import expectations, manifest

LIMITS = expectations.ValidateParams(
    min_side=32, max_side=100, min_per_class=3, max_imbalance=2.0, max_undecodable=0.1, labels=()
)
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
        "width": 64,
        "height": 48,
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
    return expectations.check(frame, [codes.get(name, "none") for name in frame["id"]], kept, limits, malignant)


def failed(outcome):
    return {result.name: result.seen for result in outcome.results if not result.passed}


def test_good_pictures_meet_every_expectation():
    outcome = check()
    assert {result.name for result in outcome.results} == NAMES
    assert failed(outcome) == {}
    assert outcome.violated == ()


@pytest.mark.parametrize(
    ("changes", "name", "seen"),
    [
        ({3: {"width": 31}}, "width", "1 of 12 violate it: malignant/03.png (31"),
        ({3: {"height": 101}}, "height", "malignant/03.png (101"),
        ({3: {"mode": "LAB"}}, "colour_mode", "malignant/03.png (LAB)"),
        ({2: {"id": "x"}, 4: {"id": "x"}}, "unique_ids", "2 of 12 violate it: x, x"),
        (
            {3: {"sha256": "same"}, 4: {"sha256": "same"}},
            "one_label_a_content",
            "2 of 12 violate it: benign/04.png (2), malignant/03.png (2)",
        ),
    ],
)
def test_a_violated_hard_expectation_names_the_pictures(changes, name, seen):
    outcome = check(changes)
    assert seen in failed(outcome)[name]
    assert name in {finding.name for finding in outcome.violated}


def test_undecodable_files_are_allowed_up_to_a_share():
    broken = {"width": None, "height": None, "mode": ""}
    assert failed(check({1: broken}, {1: "image_empty"}, count=20)) == {}
    three = failed(check(dict.fromkeys((1, 2, 3), broken), dict.fromkeys((1, 2, 3), "image_empty"), count=20))
    assert three.keys() == {"decodes"}
    assert three["decodes"].startswith("3 of 20 violate it: benign/02.png (image_empty), ")


def test_a_repeated_file_violates_a_soft_expectation():
    outcome = check({2: {"sha256": "same"}, 4: {"sha256": "same"}})
    assert failed(outcome).keys() == {"no_repeated_files"}
    assert outcome.violated == ()


def test_many_grey_pictures_violate_a_soft_expectation():
    outcome = check({index: {"mode": "L"} for index in range(4)})
    assert failed(outcome).keys() == {"mostly_colour"}
    assert outcome.violated == ()


def test_many_violations_are_counted_and_the_first_named():
    seen = failed(check({index: {"width": 8} for index in range(12)}))["width"]
    assert seen.startswith("12 of 12 violate it: benign/00.png (8")
    assert seen.endswith(" and 7 more")


def test_the_result_names_small_and_unbalanced_classes():
    changes = {index: {"label": "benign"} for index in (3, 5, 7, 9)}
    outcome = check(changes)
    assert failed(outcome) == {
        "pictures_a_class": "1 of 2 violate it: malignant (2)",
        "class_balance": "1 of 2 violate it: malignant (5.0)",
    }
    assert len(outcome.violated) == 2


def test_a_class_without_usable_pictures_is_too_small():
    malignant = dict.fromkeys(range(1, 12, 2), "image_empty")
    assert failed(check(problems=malignant))["pictures_a_class"] == "1 of 2 violate it: malignant (0)"


def test_the_result_names_unknown_labels():
    limits = expectations.ValidateParams(32, 100, 1, 20.0, 0.1, ("benign", "malignant"))
    seen = failed(check({2: {"label": "begnin"}}, limits=limits))
    assert seen == {"known_labels": "1 of 12 violate it: benign/02.png (begnin)"}


def test_the_result_names_a_malignant_label_without_pictures():
    assert failed(check(malignant=("malignant", "mel"))) == {"malignant_labels": "none of mel"}
    assert failed(check(malignant=())) == {}
