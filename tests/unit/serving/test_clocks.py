"""Signed documents whose time lies in the future are named, and only those."""

from dataclasses import replace
from datetime import timedelta

import pytest

from buckler.serving.clocks import from_future
from buckler.trust import standing
from buckler.trust.standing import DEGRADED, Claim
from tests.unit.serving.test_assessment import ISSUED, KEY, NOW, PROMOTED, SOUND, Documents

RENEWED = NOW + timedelta(minutes=10)


def renewed(**changes: object) -> Documents:
    return Documents(signed_standing=lambda current: standing.issue(replace(current, **changes), KEY))


@pytest.mark.parametrize("behind", [timedelta(), timedelta(minutes=4)])
def test_what_was_signed_in_the_past_or_by_a_clock_a_little_ahead_is_not_named(behind):
    assert from_future(Documents().assess(), PROMOTED - behind) == ()


def test_a_verdict_and_a_promotion_of_a_clock_that_was_ahead_are_named_with_what_to_do():
    judged, promoted = from_future(Documents().assess(), ISSUED - timedelta(minutes=6))
    assert judged.startswith(f"the verdict {SOUND.id} is from {ISSUED.isoformat()}, which lies in the future")
    assert "`buckler watch --once reevaluate` renews it from now on" in judged
    assert promoted.startswith(f"the promotion of version 2 is from {PROMOTED.isoformat()}, which lies in the future")


def test_a_renewal_with_the_right_time_replaces_the_time_of_the_verdict():
    now = ISSUED - timedelta(days=1)
    found = renewed(issued_at=now, moment=now).assess()
    assert [each.partition(" is from")[0] for each in from_future(found, now)] == ["the promotion of version 2"]


def test_a_renewal_and_a_claim_of_a_clock_that_was_ahead_are_named():
    claims = {"canary": Claim(DEGRADED, "wrong answers")}
    found = renewed(issued_at=RENEWED, moment=RENEWED, claims=claims).assess()
    renewal, claim = from_future(found, NOW)
    assert renewal.startswith(f"the renewal of the verdict {SOUND.id} is from {RENEWED.isoformat()}")
    assert claim.startswith("the claim of canary is from")
    assert claim.endswith("run it again: `buckler watch --once canary`")
