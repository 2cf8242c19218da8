"""A promotion is valid only as signed, for its own version of its own model."""

import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.errors import VerdictError
from buckler.trust import envelope, promotion
from buckler.trust.verdict import PAYLOAD_TYPE as VERDICT_TYPE
from buckler.trust.verdict import Verdict
from tests.projects import KEY, PUBLIC

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def verdict(digest: str = "sha256:model", identity: str = "sha256:verdict") -> Verdict:
    return Verdict(identity, digest, passed=True, issued_at=MOMENT, expires_at=MOMENT, statement={})


def issued(key: Ed25519PrivateKey = KEY) -> str:
    return promotion.issue(key, model_name="skin", version="3", verdict=verdict(), moment=MOMENT)


def read(text: str, version: str = "3", name: str = "skin") -> promotion.PromotionRecord:
    return promotion.read(text, PUBLIC, model_name=name, version=version)


def test_reading_a_signed_record_returns_it_unchanged():
    record = read(issued())
    assert record == promotion.PromotionRecord("skin", "3", "sha256:model", "sha256:verdict", MOMENT)
    record.check(verdict())


@pytest.mark.parametrize("other", [verdict(digest="sha256:other"), verdict(identity="sha256:older")])
def test_a_promotion_does_not_cover_another_model_or_verdict_under_the_same_number(other):
    with pytest.raises(VerdictError, match="but now contains") as caught:
        read(issued()).check(other)
    assert caught.value.reason == "not_promoted"


def signed(payload_type: str = promotion.PAYLOAD_TYPE, **changes: object) -> str:
    statement = {"schema": 1, "model": "skin", "version": "3", "digest": "d", "verdict": "v"}
    return json.dumps(
        envelope.sign(statement | {"moment": MOMENT.isoformat()} | changes, KEY, payload_type=payload_type)
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "moved by hand"),
        ("{", "not valid JSON"),
        (issued(Ed25519PrivateKey.generate()), "expected a signature of key"),
        (issued().replace('"payload":"', '"payload":"AA'), "does not match|base64"),
        (signed(VERDICT_TYPE), "payloadType"),
        (signed(schema=2), "expected schema 1"),
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
