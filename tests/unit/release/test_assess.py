"""Assessments and standings of versions in a real registry."""

from buckler.release.assess import Assessor
from buckler.release.promote import rollback
from buckler.release.restate import restate
from buckler.serving.aliases import CHAMPION
from buckler.serving.assessment import Assessment
from buckler.trust.standing import Claim
from tests.unit.release.promoted import at, promote, registry_of


def champion(name: str, days: int = 1) -> Assessment | None:
    return Assessor(registry_of(name), at(days)).champion()


def test_without_a_champion_there_is_no_assessment(registry, publish):
    publish()
    assert champion(registry) is None


def test_a_promoted_champion_may_serve_until_its_verdict_expires(registry, publish):
    publish()
    promote(registry)
    assert champion(registry).reasons == ()
    later = champion(registry, days=31)
    assert later.codes == ("expired",)
    assert later.verdict.passed


def test_a_champion_set_by_hand_may_serve_after_its_promotion(registry, publish):
    publish()
    registry_of(registry).set_alias(CHAMPION, "1")
    assert champion(registry).codes == ("not_promoted",)
    assert not promote(registry, days=1, number="1").changed
    assert champion(registry).reasons == ()


def test_a_version_that_was_rolled_back_does_not_serve_again_by_moving_the_alias(registry, publish):
    for day in range(2):
        publish(days=day)
        promote(registry, days=day)
    rollback(registry_of(registry), now=at(2))
    assert champion(registry, days=3).reasons == ()
    registry_of(registry).set_alias(CHAMPION, "2")
    assert champion(registry, days=3).codes == ("superseded",)
    assert rollback(registry_of(registry), now=at(3)).version == "1"
    assert promote(registry, days=3, number="2").version == "2"
    assert champion(registry, days=3).reasons == ()


def test_a_version_that_another_replaced_does_not_serve_again_by_moving_the_alias(registry, publish):
    for day in range(2):
        publish(days=day)
        promote(registry, days=day)
    registry_of(registry).set_alias(CHAMPION, "1")
    assert champion(registry, days=2).codes == ("superseded",)


def test_a_champion_with_a_claim_needs_review_until_the_claim_is_lifted(registry, publish):
    publish()
    promote(registry)
    restate(registry_of(registry), "1", "canary", Claim("degraded", "0 of 3 known answers"), now=at(1))
    assessment = champion(registry)
    assert "canary: 0 of 3 known answers" in assessment.reasons[0].sentence
    assert (assessment.standing.state, assessment.may_serve, assessment.must_review) == ("degraded", True, True)
    restate(registry_of(registry), "1", "canary", None, now=at(1))
    assert champion(registry).reasons == ()


def test_a_new_standing_counts_as_later_than_the_one_before_even_if_the_clock_was_set_back(registry, publish):
    publish()
    first = restate(registry_of(registry), "1", "drift", Claim("degraded", "darker"), now=at(2))
    second = restate(registry_of(registry), "1", "drift", None, now=at(1))
    assert (first.sequence, second.sequence) == (1, 2)
    assert champion(registry) is None


def test_a_standing_signed_with_another_key_is_ignored_when_a_new_one_is_signed(registry, publish):
    publish()
    registry_of(registry).tag("1", "buckler.standing", "{}")
    assert restate(registry_of(registry), "1", "drift", None, now=at(1)).state == "holds"
    assert registry_of(registry).version("1").standing != "{}"
