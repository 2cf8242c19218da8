"""A promotion is valid only as signed, for its own version of its own model."""

import json
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.errors import VerdictError
from buckler.trust import envelope, promotion
from buckler.trust.document import PAYLOAD_TYPE, SignedDocument
from tests import verdicts
from tests.projects import KEY, PUBLIC
from tests.unit.trust.signed import envelope_of

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


JUDGED = verdicts.verdict()
RECORD = promotion.PromotionRecord("skin", "3", JUDGED.subject_digest, JUDGED.id, MOMENT, "production", 4)


def issued(key: Ed25519PrivateKey = KEY) -> str:
    return promotion.issue(RECORD, key)


def read(text: str, version: str = "3", name: str = "skin", registry: str = "production") -> promotion.PromotionRecord:
    return promotion.read(text, PUBLIC, model_name=name, version=version, registry=registry)


def test_reading_a_signed_record_returns_it_unchanged():
    assert read(issued()) == RECORD
    RECORD.check(JUDGED)


def test_a_record_of_staging_is_refused_in_production():
    with pytest.raises(VerdictError, match="was signed for the registry 'production', this is 'staging'") as caught:
        read(issued(), registry="staging")
    assert caught.value.reason == "not_promoted"
    with pytest.raises(VerdictError, match="was signed for the registry 'production'"):
        promotion.read_latest(issued(), PUBLIC, model_name="skin", registry="staging")


def test_a_record_that_names_no_registry_was_signed_by_an_earlier_version_and_is_refused():
    earlier = SignedDocument("promotion", promotion.PromotionRecord)
    sealed = earlier.sign(replace(RECORD, registry="", sequence=0), {"skin": RECORD.digest}, KEY)
    with pytest.raises(VerdictError, match="earlier version of Buckler and names no registry"):
        read(json.dumps(sealed))


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
        ('{"payload": "\ud800"}', "not valid JSON"),  # half a character, as JSON of a registry can contain
        (issued(Ed25519PrivateKey.generate()), "expected a signature of key"),
        (issued().replace('"payload":"', '"payload":"AA'), "does not match|base64"),
        (json.dumps(envelope_of("standing")), "expected predicateType 'urn:buckler:promotion:v2'"),
        (signed(moment="2026-01-01T00:00:00"), "moment: Input should have timezone info"),
        (signed(sequence=-1), "sequence: Input should be greater than or equal to 0"),
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
