"""A standing counts only as it was signed, about this version of this model."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.errors import VerdictError
from buckler.trust import standing
from buckler.trust.envelope import PAYLOAD_TYPE, open_envelope, sign
from buckler.trust.standing import Claim
from buckler.trust.verdict import Verdict
from tests.projects import KEY, PUBLIC

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
DEGRADED, WITHDRAWN = Claim("degraded", "too dark"), Claim("withdrawn", "0.1 < 0.3")


def verdict(digest: str = "sha256:model", identity: str = "sha256:verdict") -> Verdict:
    return Verdict(
        identity, digest, passed=True, issued_at=MOMENT, expires_at=MOMENT + timedelta(days=30), statement={}
    )


def stands(**claims: Claim) -> standing.Standing:
    found = standing.of_verdict(verdict(), model_name="skin", version="3")
    for job, claim in claims.items():
        found = found.claimed(job, claim)
    return found


def read(text: str, version: str = "3", name: str = "skin") -> standing.Standing:
    return standing.read(text, PUBLIC, model_name=name, version=version)


def test_of_which_nobody_has_said_anything_holds_as_long_as_its_verdict():
    found = stands()
    assert (found.state, found.reasons) == ("holds", ())
    assert found.expires_at == verdict().expires_at
    found.check(verdict())


def test_what_was_signed_is_read_again():
    found = stands(drift=DEGRADED, reevaluate=WITHDRAWN)
    assert read(standing.issue(found, KEY)) == found


def test_the_worst_claim_counts_and_each_job_lifts_its_own_only():
    both = stands(drift=DEGRADED, reevaluate=WITHDRAWN)
    assert both.state == "withdrawn"
    assert both.reasons == ("drift: too dark", "reevaluate: 0.1 < 0.3")
    assert both.claimed("reevaluate", None).state == "degraded"
    assert both.claimed("drift", None).state == "withdrawn"
    assert both.claimed("drift", None).claimed("reevaluate", None).state == "holds"


def test_the_document_states_what_a_reader_needs_without_this_package():
    envelope = json.loads(standing.issue(stands(reevaluate=WITHDRAWN), KEY))
    said = open_envelope(envelope, PUBLIC, payload_type=standing.PAYLOAD_TYPE)
    assert (said["model"], said["version"], said["state"]) == ("skin", "3", "withdrawn")
    assert said["reasons"] == ["reevaluate: 0.1 < 0.3"]
    assert said["expires_at"] == (MOMENT + timedelta(days=30)).isoformat()


def test_long_reasons_are_cut_so_that_the_registry_takes_them():
    long = standing.issue(stands(**{f"job{i}": Claim("degraded", "x" * 5000) for i in range(4)}), KEY)
    assert len(long) < 5000
    assert read(long).claims["job0"].reason == "x" * standing.LONGEST_REASON


@pytest.mark.parametrize("other", [verdict(digest="sha256:other"), verdict(identity="sha256:older")])
def test_another_model_or_another_verdict_under_that_number_is_none_of_its_business(other):
    with pytest.raises(VerdictError, match="it now holds") as caught:
        stands().check(other)
    assert caught.value.reason == "standing"


def signed(payload_type: str = standing.PAYLOAD_TYPE, **changes: object) -> str:
    times = dict.fromkeys(("issued_at", "expires_at", "moment"), MOMENT.isoformat())
    statement = {"schema": 1, "model": "skin", "version": "3", "digest": "d", "verdict": "v", "state": "holds"}
    content = statement | times | {"claims": {}, "reasons": []} | changes
    return json.dumps(sign(content, KEY, payload_type=payload_type))


def test_the_form_that_the_faults_below_are_made_from_is_good():
    assert read(signed()).state == "holds"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        (standing.issue(stands(), Ed25519PrivateKey.generate()), "expected a signature of key"),
        (standing.issue(stands(), KEY).replace('"payload":"', '"payload":"AA'), "does not fit|base64"),
        (signed(PAYLOAD_TYPE), "payloadType"),
        (signed(schema=2), "expected schema 1"),
        (signed(moment="2026-01-01T00:00:00"), "with its zone"),
        (signed(digest=7), "expected text"),
        (signed(version="4"), "is that of version 4 of skin"),
        (signed(model="lungs"), "is that of version 3 of lungs"),
        (signed(state="degraded"), "expected the state 'holds'"),
        (signed(claims={"drift": {"state": "holds", "reason": ""}}), "expected a claim of"),
        (signed(claims=[]), "does not hold what it must"),
    ],
)
def test_what_was_not_signed_as_this_standing_is_refused(text, why):
    with pytest.raises(VerdictError, match=why) as caught:
        read(text)
    assert caught.value.reason == "standing"
