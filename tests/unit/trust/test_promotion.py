"""A promotion is valid only as signed, for its own version of its own model."""

import json
from base64 import b64decode
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.errors import VerdictError
from buckler.trust import envelope, promotion
from buckler.trust.document import PAYLOAD_TYPE
from tests import verdicts
from tests.projects import KEY, PUBLIC
from tests.unit.trust.signed import envelope_of

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def issued(key: Ed25519PrivateKey = KEY) -> str:
    return promotion.issue(key, model_name="skin", version="3", verdict=verdicts.verdict(), moment=MOMENT)


def read(text: str, version: str = "3", name: str = "skin") -> promotion.PromotionRecord:
    return promotion.read(text, PUBLIC, model_name=name, version=version)


def test_reading_a_signed_record_returns_it_unchanged():
    record = read(issued())
    found = verdicts.verdict()
    assert record == promotion.PromotionRecord("skin", "3", found.subject_digest, found.id, MOMENT)
    record.check(found)


@pytest.mark.parametrize("other", [verdicts.verdict(digest="sha256:other"), verdicts.verdict(id="sha256:older")])
def test_a_promotion_does_not_cover_another_model_or_verdict_under_the_same_number(other):
    with pytest.raises(VerdictError, match="but now contains") as caught:
        read(issued()).check(other)
    assert caught.value.reason == "not_promoted"


def signed(**changes: object) -> str:
    statement = json.loads(b64decode(json.loads(issued())["payload"]))
    statement["predicate"] |= changes
    statement["subject"][0]["name"] = statement["predicate"]["model"]
    return json.dumps(envelope.sign(statement, KEY, payload_type=PAYLOAD_TYPE))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "moved by hand"),
        ("{", "not valid JSON"),
        (issued(Ed25519PrivateKey.generate()), "expected a signature of key"),
        (issued().replace('"payload":"', '"payload":"AA'), "does not match|base64"),
        (json.dumps(envelope_of("standing")), "expected predicateType 'urn:buckler:promotion:v1'"),
        (signed(moment="2026-01-01T00:00:00"), "moment: Input should have timezone info"),
        (signed(digest=7), "digest: Input should be a valid string"),
        (signed(version="4"), "carries the promotion of version 4"),
        (signed(model="lungs"), "carries the promotion of version 3 of lungs"),
    ],
)
def test_a_document_that_is_not_this_promotion_is_rejected(text, why):
    with pytest.raises(VerdictError, match=why) as caught:
        read(text)
    assert caught.value.reason == "not_promoted"


def test_the_record_of_one_version_is_rejected_for_another():
    with pytest.raises(VerdictError, match="carries the promotion of version 3"):
        read(issued(), version="2")
