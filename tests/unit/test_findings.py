import pytest

from buckler import findings

LABELS = ("no_finding", "streaks", "streaks+veil", "veil")


def test_the_label_of_a_set_names_its_findings_in_one_order():
    assert findings.label_of({"veil", "streaks"}) == findings.label_of(["streaks", "veil"]) == "streaks+veil"
    assert findings.label_of(()) == "no_finding"
    for label in LABELS:
        assert findings.label_of(findings.members(label)) == label


def test_all_sets_of_findings():
    assert sorted(findings.sets_of(("streaks", "veil"))) == list(LABELS)
    assert len(findings.sets_of("abc")) == len(set(findings.sets_of("abc"))) == 8
    assert findings.of(LABELS) == ("streaks", "veil")


def test_a_set_is_dangerous_if_one_of_its_findings_is():
    assert findings.with_any(LABELS, ["veil"]) == ("streaks+veil", "veil")
    assert findings.with_only(LABELS, ("streaks+veil", "veil")) == ("veil",)
    assert findings.with_only(LABELS, ("streaks", "streaks+veil", "veil")) == ("streaks", "veil")
    assert findings.with_only(LABELS, ()) == ()


def test_the_probability_of_a_finding_is_that_of_all_sets_with_it():
    shares = findings.shares(dict(zip(LABELS, (0.1, 0.2, 0.3, 0.4), strict=True)), ("streaks", "veil"))
    assert shares == {"streaks": pytest.approx(0.5), "veil": pytest.approx(0.7)}


@pytest.mark.parametrize(("name", "fits"), [("veil", True), ("a+b", False), ("no_finding", False), ("", False)])
def test_names_that_a_set_could_not_be_told_from_are_refused(name, fits):
    assert findings.is_name(name) is fits
