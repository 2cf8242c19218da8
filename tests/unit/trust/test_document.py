"""Every kind of signed document is an in-toto statement, and passes for no other kind."""

import json
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest

from buckler.errors import VerdictError
from buckler.trust import envelope
from buckler.trust.document import PAYLOAD_TYPE, SignedDocument
from tests.projects import KEY, PUBLIC
from tests.unit.trust import signed
from tests.unit.trust.signed import KINDS

VERDICT = KINDS["verdict"]


def statement_of(kind: str) -> dict[str, Any]:
    return json.loads(b64decode(signed.envelope_of(kind)["payload"]))


def refusal(kind: str, statement: dict[str, Any]) -> str:
    with pytest.raises(VerdictError) as caught:
        KINDS[kind].open(envelope.sign(statement, KEY, payload_type=PAYLOAD_TYPE), PUBLIC)
    assert caught.value.reason == "malformed"
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_is_a_statement_about_subjects_with_sha256_digests(kind):
    statement = statement_of(kind)
    assert set(statement) == {"_type", "subject", "predicateType", "predicate"}
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == KINDS[kind].predicate_type
    assert [subject["name"] for subject in statement["subject"]] == list(signed.SUBJECTS[kind])
    assert all(len(bytes.fromhex(subject["digest"]["sha256"])) == 32 for subject in statement["subject"])


@pytest.mark.parametrize("kind", KINDS)
def test_opening_a_document_returns_what_was_signed(kind):
    opened = KINDS[kind].open(signed.envelope_of(kind), PUBLIC)
    assert opened.predicate == signed.PREDICATES[kind]
    assert opened.subjects == signed.SUBJECTS[kind]


@pytest.mark.parametrize("offered", KINDS)
@pytest.mark.parametrize("wanted", KINDS)
def test_a_document_of_one_kind_is_refused_as_any_other(offered, wanted):
    if offered == wanted:
        return
    with pytest.raises(VerdictError, match=f"expected predicateType '{KINDS[wanted].predicate_type}'") as caught:
        KINDS[wanted].open(signed.envelope_of(offered), PUBLIC)
    assert f"got '{KINDS[offered].predicate_type}'" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_version_of_the_predicate_is_one_clear_error(kind):
    newer = statement_of(kind) | {"predicateType": f"urn:buckler:{kind}:v4", "predicate": {"unknown": 1}}
    known = KINDS[kind].predicate_type
    assert refusal(kind, newer) == f"the signed {kind}: expected predicateType '{known}', got 'urn:buckler:{kind}:v4'"


@pytest.mark.parametrize("kind", KINDS)
def test_a_predicate_about_other_digests_than_its_subjects_is_refused(kind):
    statement = statement_of(kind)
    statement["subject"][0]["digest"]["sha256"] = 64 * "0"
    assert "predicate and subject differ in digests" in refusal(kind, statement)


def test_fields_that_were_added_later_are_ignored():
    statement = statement_of("verdict")
    statement["predicate"]["added_later"] = 1
    VERDICT.open(envelope.sign(statement, KEY, payload_type=PAYLOAD_TYPE), PUBLIC)


@pytest.mark.parametrize("field", ["_type", "subject", "predicateType", "predicate"])
@pytest.mark.parametrize("value", [None, [], {}, "x", 7])
def test_a_statement_of_another_form_is_refused(field, value):
    assert "the signed verdict" in refusal("verdict", statement_of("verdict") | {field: value})


SUBJECTS: list[Callable[[list[dict[str, Any]]], Any]] = [
    lambda subjects: subjects.append(dict(subjects[0])),
    lambda subjects: subjects[0].update(digest={"sha1": 40 * "0"}),
    lambda subjects: subjects[0].update(digest={"sha256": 64 * "A"}),
    lambda subjects: subjects[0].update(digest={"sha256": 63 * "a"}),
    lambda subjects: subjects[0].update(digest={"sha256": 64 * "a" + "\n"}),
    lambda subjects: subjects[0].update(name=7),
    lambda subjects: subjects[0].update(name="classifier.keras"),
    lambda subjects: subjects[0].update(name="evidence/classifier.keras"),
]


@pytest.mark.parametrize("change", SUBJECTS)
def test_subjects_that_are_not_files_of_the_model_with_their_sha256_are_refused(change):
    statement = statement_of("verdict")
    change(statement["subject"])
    refusal("verdict", statement)


@pytest.mark.parametrize("field", sorted(statement_of("verdict")["predicate"]))
def test_every_field_of_a_verdict_is_required_and_typed(field):
    statement = statement_of("verdict")
    value = statement["predicate"].pop(field)
    assert f"{field}: Field required" in refusal("verdict", statement)
    statement["predicate"][field] = "yes" if not isinstance(value, str) else "yesterday"
    assert f"{field}: " in refusal("verdict", statement)


@pytest.mark.parametrize("value", ["2026-02-01T00:00:00", "yesterday", 1767225600])
def test_a_time_without_its_zone_is_refused(value):
    statement = statement_of("verdict")
    statement["predicate"]["expires_at"] = value
    assert "expires_at: " in refusal("verdict", statement)


def test_a_number_that_json_cannot_express_is_refused():
    payload = b64decode(signed.envelope_of("verdict")["payload"]).replace(
        b'"clean_accuracy":0.8', b'"clean_accuracy":NaN'
    )
    assert b"NaN" in payload
    assert "JSON" in refused_bytes(payload)


def test_a_duplicate_key_is_refused():
    payload = b64decode(signed.envelope_of("verdict")["payload"]).replace(
        b'"passed":true', b'"passed":false,"passed":true'
    )
    assert "duplicate key" in refused_bytes(payload)


def refused_bytes(payload: bytes) -> str:
    with pytest.raises(VerdictError) as caught:
        VERDICT.open(signed.seal(payload), PUBLIC)
    return str(caught.value)


def test_the_signature_is_verified_before_the_payload_is_read():
    damaged = signed.seal(b"not JSON")
    damaged["signatures"][0]["sig"] = signed.seal(b"another")["signatures"][0]["sig"]
    with pytest.raises(VerdictError) as caught:
        VERDICT.open(damaged, PUBLIC)
    assert caught.value.reason == "signature"


def test_kinds_have_different_types():
    assert len({document.predicate_type for document in KINDS.values()}) == len(KINDS) == 6
    assert all(isinstance(document, SignedDocument) for document in KINDS.values())
