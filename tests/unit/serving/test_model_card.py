import copy
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from buckler.evaluation.statistics import wilson
from buckler.models.checkpoint import ModelInfo
from buckler.serving import model_card
from tests import projects, verdicts
from tests.forms import square

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
INFO = ModelInfo(
    ("benign", "malignant"), ("malignant",), square(112), data_version="sha256:data", defence="adversarial"
)


@pytest.fixture
def verdict(project):
    return projects.build(project, now=NOW)


def card(verdict, info=INFO, now=NOW):
    return model_card.card(verdict, info, name="skin-lesion", version="3", now=now)


def test_the_card_contains_the_values_of_the_signed_verdict(verdict):
    measured, found = verdict.measured, card(verdict)
    assert (found.model.name, found.model.version, found.model.digest) == ("skin-lesion", "3", verdict.subject_digest)
    assert found.verdict.id == verdict.id
    assert found.data.pictures_attacked == measured["data"]["images"]
    assert asdict(found.clean.accuracy) == measured["clean_accuracy"]
    assert [row.radius for row in found.worst_case] == [row["radius"] for row in measured["worst_case"]]
    for row, expected in zip(found.worst_case, measured["worst_case"], strict=True):
        assert asdict(row.robust_accuracy) == expected["robust_accuracy"]
    assert [row.name for row in found.attacks] == [row["name"] for row in measured["attacks"]]
    assert [row.group for row in found.subgroups] == [row["group"] for row in measured["subgroups"]]
    assert [(row.name, row.passed) for row in found.checks] == [
        (row["name"], row["passed"]) for row in measured["checks"]
    ]
    assert found.detector.threshold == measured["detector"]["threshold"]
    assert found.floors == verdict.policy
    assert found.clean.calibration_error == measured["calibration_error"]
    assert [asdict(row) for row in found.clean.reliability] == measured["reliability"]
    assert found.decisions.model_dump(mode="json") == measured["decisions"]


def test_the_card_shows_an_expired_or_failed_verdict(project, verdict):
    assert not card(verdict).verdict.expired
    assert card(verdict, now=NOW + timedelta(days=31)).verdict.expired
    projects.make_project(project, clean=60, robust=10)
    failed = card(projects.build(project, now=NOW)).verdict
    assert (failed.passed, len(failed.reasons)) == (False, 2)


def test_the_limits_name_the_largest_attacked_radius_and_the_expiry(verdict):
    text = "\n".join(card(verdict).limits)
    radius = max(row["radius"] for row in verdict.measured["worst_case"])
    assert f"at most {radius}" in text
    assert "2026-01-31 12:00 UTC" in text
    assert "without a defence" not in text
    plain = ModelInfo(INFO.labels, (), square(112), data_version="sha256:data")
    assert "without a defence" in "\n".join(card(verdict, plain).limits)


def test_a_model_of_drawn_pictures_says_so_in_intended_use_limits_and_markdown(verdict):
    found = card(verdict, replace(INFO, data_source="synthetic"))
    assert found.data.source == "synthetic"
    assert found.intended_use == "To try Buckler on drawn pictures. Not for clinical use."
    assert "not for clinical use" in found.limits[0]
    assert "\n**Demo model, synthetic pictures, not for clinical use**\n" in model_card.markdown(found)


@pytest.mark.parametrize("source", ["directory", None])
def test_a_model_of_other_pictures_has_no_such_warning(verdict, source):
    found = card(verdict, replace(INFO, data_source=source))
    assert found.data.source == source
    assert "clinical use" not in "\n".join(found.limits)
    assert "Demo model" not in model_card.markdown(found)
    assert ("from a folder" in model_card.markdown(found)) == (source == "directory")


def test_the_intended_use_is_the_one_that_the_verdict_states(project, verdict):
    assert card(verdict).intended_use == (
        "To support a clinician who judges which of these a picture shows: benign, malignant."
    )
    use = "Sorting pictures of moles before a dermatologist sees them."
    found = card(projects.build(project, now=NOW, intended_use=use), replace(INFO, data_source="synthetic"))
    assert found.intended_use == use
    assert f"Intended use: {use}" in model_card.markdown(found)


def with_limit(verdict, limit):
    measured = copy.deepcopy(verdict.measured)
    measured["decisions"]["danger"]["limit"] = limit
    return replace(verdict, measured=measured)


def test_the_limits_say_how_many_dangerous_pictures_are_accepted(verdict):
    assert "2.0% (0.4% to 10.5%) got a harmless label and no reason for review" in "\n".join(card(verdict).limits)
    none = "\n".join(card(with_limit(verdict, None)).limits)
    assert "93 dangerous calibration pictures set no limit: every answer with a harmless label needs review." in none
    unknown = "\n".join(card(verdicts.verdict()).limits)
    assert "It is not known how many dangerous pictures it accepts as harmless." in unknown
    without = "\n".join(card(verdict, replace(INFO, dangerous=())).limits)
    assert "No label is marked as dangerous to miss: no answer goes to review because" in without


@pytest.mark.parametrize(("hits", "shown"), [(80, True), (79, False)])
def test_heat_maps_that_miss_the_lesion_too_often_are_not_shown(verdict, hits, shown):
    check = {"pointed": asdict(wilson(hits, 100)), "by_label": {}, "flat": 0}
    found = card(replace(verdict, measured={**verdict.measured, "heat_map": check})).heat_map
    assert (found.checked, found.shown) == (wilson(hits, 100), shown)
    words = "Not shown: the hottest spot lay on the lesion in only 79% of 100 test pictures; at least 80% are required."
    assert found.reason == (None if shown else words)


def test_heat_maps_without_a_check_are_shown_with_a_note(verdict):
    found = card(verdict).heat_map
    assert (found.checked, found.shown) == (None, True)
    assert found.reason.startswith("Not checked: it is not known where on the test pictures")


def test_a_restoration_step_is_named_with_where_attacks_change_pictures(verdict):
    found = card(verdict, replace(INFO, restore="nl_means"))
    assert found.model.restore == "nl_means"
    assert "restored: nl_means" in model_card.markdown(found)
    assert any(limit.startswith("Every picture passes the step nl_means before the network.") for limit in found.limits)
    assert not any("passes the step" in limit for limit in card(verdict).limits)


def test_a_network_from_a_file_is_named_by_its_digest_and_its_training_is_unknown(verdict):
    found = card(
        verdict, replace(INFO, defence="none", architecture="file", initial_weights="sha256:ab", heat_maps=False)
    )
    assert (found.model.architecture, found.model.initial_weights) == ("file", "sha256:ab")
    assert "| network | file, sha256:ab, " in model_card.markdown(found)
    assert any(limit.startswith("It was trained elsewhere, on pictures that are not known") for limit in found.limits)
    assert not any("without a defence" in limit for limit in found.limits)
    assert (found.heat_map.checked, found.heat_map.shown) == (None, False)
    assert found.heat_map.reason.startswith("Not shown: no heat map explains this network")


def test_values_that_a_verdict_lacks_are_none():
    found = card(verdicts.verdict())
    assert (found.decisions, found.clean.reliability) == (None, ())
    assert (found.clean.accuracy, found.detector, found.worst_case, found.verdict.commit) == (None, None, (), None)
    assert "Its robustness is unknown" in "\n".join(found.limits)


def test_the_markdown_contains_verdict_numbers_and_limits(verdict):
    text = model_card.markdown(card(verdict))
    assert text.startswith("## skin-lesion: passed its gate")
    assert verdict.id in text
    assert verdict.subject_digest in text
    assert "| clean accuracy | 80.0% (71.1% to 86.7%) |" in text
    assert "| accepted misses | 2.0% (0.4% to 10.5%) |" in text
    assert "| reviews | 12.0% (7.0% to 19.8%) |" in text
    assert "| 1/255 | 40.0% (30.9% to 49.8%) |" in text
    assert all(f"- {limit}" in text for limit in card(verdict).limits)
    assert "Why it failed" not in text


def test_the_markdown_of_a_failed_verdict_gives_the_reasons(project):
    projects.make_project(project, clean=60, robust=10)
    text = model_card.markdown(card(projects.build(project, now=NOW)))
    assert text.startswith("## skin-lesion: FAILED its gate")
    assert "- clean accuracy 0.600 < 0.700" in text


def test_the_markdown_omits_many_attacks(verdict):
    found = card(verdict)
    many = found.model_copy(update={"attacks": found.attacks * 100})
    assert len(model_card.markdown(many)) <= model_card.LONGEST_MARKDOWN
    assert "see the nested runs" in model_card.markdown(many)
    assert all(limit in model_card.markdown(many) for limit in found.limits)


def test_the_markdown_shows_values_that_a_verdict_lacks_as_not_measured():
    assert "| clean accuracy | not measured |" in model_card.markdown(card(verdicts.verdict()))
