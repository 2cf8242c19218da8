"""A standing is valid only as signed, for its own version of its own model."""

import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.errors import VerdictError
from buckler.trust import standing
from buckler.trust.document import PAYLOAD_TYPE
from buckler.trust.envelope import sign
from buckler.trust.standing import Claim
from buckler.trust.verdict import Verdict
from tests import verdicts
from tests.projects import KEY, PUBLIC
from tests.unit.trust.signed import envelope_of

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
DEGRADED, WITHDRAWN = Claim("degraded", "too dark"), Claim("withdrawn", "0.1 < 0.3")


def verdict(**changes: Any) -> Verdict:
    return verdicts.verdict(issued_at=MOMENT, expires_at=MOMENT + timedelta(days=30), **changes)


def standing_with(**claims: Claim) -> standing.Standing:
    found = standing.of_verdict(verdict(), model_name="skin", version="3")
    for job, claim in claims.items():
        found = found.claimed(job, claim)
    return found


def read(text: str, version: str = "3", name: str = "skin") -> standing.Standing:
    return standing.read(text, PUBLIC, model_name=name, version=version, registry="production")


def test_a_version_without_claims_is_valid_as_long_as_its_verdict():
    found = standing_with()
    assert (found.state, found.reasons) == ("holds", ())
    assert found.expires_at == verdict().expires_at
    found.check(verdict())


def test_reading_a_signed_standing_returns_it_unchanged():
    found = standing_with(drift=DEGRADED, reevaluate=WITHDRAWN)
    assert read(standing.issue(found, KEY)) == found


def test_the_state_is_the_worst_claim_and_each_job_lifts_only_its_own():
    both = standing_with(drift=DEGRADED, reevaluate=WITHDRAWN)
    assert both.state == "withdrawn"
    assert both.reasons == ("drift: too dark", "reevaluate: 0.1 < 0.3")
    assert both.claimed("reevaluate", None).state == "degraded"
    assert both.claimed("drift", None).state == "withdrawn"
    assert both.claimed("drift", None).claimed("reevaluate", None).state == "holds"


def test_the_document_can_be_read_without_this_package():
    envelope = json.loads(standing.issue(standing_with(reevaluate=WITHDRAWN), KEY))
    predicate = json.loads(b64decode(envelope["payload"]))["predicate"]
    assert (predicate["model"], predicate["version"]) == ("skin", "3")
    assert predicate["claims"] == {"reevaluate": {"state": "withdrawn", "reason": "0.1 < 0.3"}}
    assert predicate["expires_at"] == (MOMENT + timedelta(days=30)).isoformat()


def test_long_reasons_are_shortened_to_fit_a_tag_of_the_registry():
    long = standing.issue(standing_with(**{f"job{i}": Claim("degraded", "x" * 5000) for i in range(4)}), KEY)
    assert len(long) < 5000
    assert read(long).claims["job0"].reason == "x" * standing.LONGEST_REASON


@pytest.mark.parametrize("other", [verdict(digest="sha256:other"), verdict(id="sha256:older")])
def test_a_standing_does_not_apply_to_another_model_or_verdict_under_the_same_number(other):
    with pytest.raises(VerdictError, match="but the version now contains") as caught:
        standing_with().check(other)
    assert caught.value.reason == "standing"


def signed(**changes: object) -> str:
    statement = json.loads(b64decode(json.loads(standing.issue(standing_with(), KEY))["payload"]))
    statement["predicate"] |= changes
    statement["subject"][0]["name"] = statement["predicate"]["model"]
    return json.dumps(sign(statement, KEY, payload_type=PAYLOAD_TYPE))


def test_the_base_of_the_faulty_documents_below_is_valid():
    assert read(signed()).state == "holds"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ('{"payload": "\ud800"}', "not valid JSON"),  # half a character, as JSON of a registry can contain
        (standing.issue(standing_with(), Ed25519PrivateKey.generate()), "expected a signature of key"),
        (standing.issue(standing_with(), KEY).replace('"payload":"', '"payload":"AA'), "does not match|base64"),
        (json.dumps(envelope_of("promotion")), "expected predicateType 'urn:buckler:standing:v2'"),
        (signed(moment="2026-01-01T00:00:00"), "moment: Input should have timezone info"),
        (signed(sequence=-1), "sequence: Input should be greater than or equal to 0"),
        (signed(digest=7), "digest: Input should be a valid string"),
        (signed(version="4"), "belongs to version 4 of skin"),
        (signed(model="lungs"), "belongs to version 3 of lungs"),
        (signed(claims={"drift": {"state": "holds", "reason": ""}}), "drift.state: Input should be 'degraded' or"),
        (signed(claims=[]), "claims: Input should be an object"),
    ],
)
def test_a_document_that_is_not_this_standing_is_rejected(text, why):
    with pytest.raises(VerdictError, match=why) as caught:
        read(text)
    assert caught.value.reason == "standing"
