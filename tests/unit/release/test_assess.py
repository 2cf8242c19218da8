from datetime import timedelta

from buckler.release import tracking
from buckler.release.assess import Assessment, Assessor
from buckler.release.restate import restate
from buckler.serving.aliases import CHAMPION
from buckler.serving.registry import version
from buckler.trust.standing import Claim
from tests import projects
from tests.unit.release.promoted import at, promote


def champion(name: str, days: int = 1) -> Assessment | None:
    return Assessor(name, projects.PUBLIC, at(days)).champion()


def test_without_a_champion_there_is_no_assessment(registry, publish):
    publish()
    assert champion(registry) is None


def test_a_promoted_champion_may_serve_until_its_verdict_expires(registry, publish):
    publish()
    promote(registry)
    assert champion(registry).problem is None
    later = champion(registry, days=31)
    assert "expired" in later.problem
    assert later.verdict.passed


def test_a_champion_set_by_hand_may_serve_after_its_promotion(registry, publish):
    publish()
    tracking.set_alias(registry, CHAMPION, "1")
    assert "moved by hand" in champion(registry).problem
    assert not promote(registry, days=1, number="1").changed
    assert champion(registry).problem is None


def test_a_champion_with_a_claim_may_not_serve_until_the_claim_is_lifted(registry, publish):
    publish()
    promote(registry)
    restate(registry, "1", projects.KEY, "canary", Claim("degraded", "0 of 3 known answers"), now=at(1))
    assessment = champion(registry)
    assert "canary: 0 of 3 known answers" in assessment.problem
    assert assessment.standing.state == "degraded"
    restate(registry, "1", projects.KEY, "canary", None, now=at(1))
    assert champion(registry).problem is None


def test_a_new_standing_is_later_than_the_one_before_even_if_the_clock_was_set_back(registry, publish):
    publish()
    first = restate(registry, "1", projects.KEY, "drift", Claim("degraded", "darker"), now=at(2))
    second = restate(registry, "1", projects.KEY, "drift", None, now=at(1))
    assert second.moment == first.moment + timedelta(microseconds=1)


def test_a_standing_signed_with_another_key_is_ignored_when_a_new_one_is_signed(registry, publish):
    publish()
    tracking.tag_version(registry, "1", "buckler.standing", "{}")
    assert restate(registry, "1", projects.KEY, "drift", None, now=at(1)).state == "holds"
    assert version(registry, "1").standing != "{}"
