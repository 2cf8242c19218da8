"""Approvals count for exactly one release, once for each person, and never for its author."""

import json
from base64 import b64decode
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from buckler.errors import BucklerError, VerdictError
from buckler.trust import approval, approvers, envelope, keys
from buckler.trust.approval import Approval, Approvals, Signatures
from buckler.trust.document import PAYLOAD_TYPE
from buckler.trust.public_keys import Approvers, PublicKeys, TrustedKeys
from tests import projects, verdicts
from tests.key_files import write_private

ALICE, BOB, CAROL, MALLORY = (Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in (1, 2, 3, 4))
EXPECTED = Approval("skin", "3", verdicts.MODEL_DIGEST, f"sha256:{'7d' * 32}", "production")
ANYBODY = Signatures(2, {})


def public(*owned: Ed25519PrivateKey) -> PublicKeys:
    return PublicKeys.of(*(key.public_key() for key in owned))


def knowing(*, required: int = 0, **people: Ed25519PrivateKey) -> TrustedKeys:
    people = people or {"alice": ALICE, "bob": BOB, "carol": CAROL}
    approvers = Approvers({name: public(key) for name, key in people.items()}, required)
    return replace(projects.TRUSTED, approvers=approvers)


def by(key: Ed25519PrivateKey, **changes: str) -> str:
    return approval.issue(replace(EXPECTED, **changes), key)


def count(*texts: str, demanded: Signatures = ANYBODY, trusted: TrustedKeys | None = None) -> Approvals:
    return approval.count(texts, EXPECTED, demanded, trusted or knowing())


def test_two_of_three_people_are_enough():
    one = count(by(ALICE))
    assert (one.approved, one.missing, one.enough) == (("alice",), ("bob", "carol"), False)
    two = count(by(ALICE), by(CAROL))
    assert (two.approved, two.missing, two.enough) == (("alice", "carol"), ("bob",), True)


def test_the_refusal_says_who_is_missing_and_what_they_run():
    assert count(by(ALICE)).sentence("3") == (
        "2 of 3 people must approve version 3, alice approved; bob or carol: `buckler approve --version 3 --as bob`"
    )
    assert "nobody did; alice, bob or carol: " in count().sentence("3")
    assert "further approvers" in count(by(ALICE), trusted=knowing(alice=ALICE)).sentence("3")


def test_everybody_signs_the_same_bytes():
    assert len({json.loads(by(key))["payload"] for key in (ALICE, BOB, CAROL)}) == 1


def test_the_joined_envelope_has_all_signatures_and_counts_as_its_parts_did():
    together = count(by(ALICE), by(BOB))
    assert len(json.loads(together.text)["signatures"]) == 2
    assert count(together.text) == together
    assert count(together.text, by(CAROL)).approved == ("alice", "bob", "carol")


def test_securesystemslib_counts_the_same_signatures():
    text = count(by(ALICE), by(BOB)).text
    known = [SSlibKey.from_crypto(key.public_key(), keyid=public(key).id) for key in (ALICE, BOB, CAROL)]
    verified = Envelope.from_dict(json.loads(text)).verify(known, threshold=2)
    assert set(verified) == {public(key).id for key in (ALICE, BOB)}
    with pytest.raises(VerificationError):
        Envelope.from_dict(json.loads(text)).verify(known, threshold=3)


# --- attacks


@pytest.mark.parametrize(
    "changes",
    [
        {"registry": "staging"},
        {"model": "lungs"},
        {"version": "2"},
        {"digest": f"sha256:{'0' * 64}"},
        {"verdict": f"sha256:{'0' * 64}"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_approval_of_anything_else_does_not_count(changes):
    assert count(by(ALICE), by(BOB, **changes)).approved == ("alice",)


def test_one_person_counts_once_however_often_she_signs():
    text = by(ALICE)
    assert count(text, text, by(ALICE)).approved == ("alice",)


def test_a_person_with_two_keys_counts_once():
    both = replace(projects.TRUSTED, approvers=Approvers({"alice": public(ALICE, BOB)}))
    assert count(by(ALICE), by(BOB), trusted=both).approved == ("alice",)


def test_one_key_under_two_names_is_an_error():
    with pytest.raises(ValueError, match="expected a key under one name"):
        knowing(alice=ALICE, al=ALICE)


@pytest.mark.parametrize("author", [projects.KEY, projects.PROMOTION_KEY], ids=["verdicts", "promotions"])
def test_a_key_of_verdicts_or_promotions_approves_nothing(author):
    found = count(by(author), by(ALICE), trusted=knowing(author=author, alice=ALICE))
    assert (found.approved, found.missing) == (("alice",), ())


def test_a_stranger_does_not_count_and_does_not_spoil_the_others():
    assert count(by(MALLORY), by(ALICE), "{", "", "\ud800", "[]").approved == ("alice",)


def test_a_known_person_whom_the_verdict_does_not_name_does_not_count():
    named = Signatures(2, {"alice": public(ALICE).id, "bob": public(BOB).id})
    found = count(by(ALICE), by(CAROL), demanded=named)
    assert (found.approved, found.missing) == (("alice",), ("bob",))


def test_a_person_whom_only_the_verdict_names_does_not_count():
    named = Signatures(1, {"mallory": public(MALLORY).id})
    assert count(by(MALLORY), demanded=named).approved == ()


def test_a_verdict_that_demands_nothing_does_not_lower_the_verifiers_own_number():
    waived = Signatures(0, {})
    assert count(by(ALICE), demanded=waived, trusted=knowing(required=2)).enough is False
    assert count(by(ALICE), demanded=waived).enough is True


def labelled(text: str, key: Ed25519PrivateKey) -> str:
    """Return an approval whose signature claims to be of another key."""
    sealed = json.loads(text)
    sealed["signatures"][0]["keyid"] = public(key).id
    return json.dumps(sealed)


def test_a_signature_under_the_id_of_another_persons_key_counts_for_nobody():
    assert count(labelled(by(MALLORY), BOB)).approved == ()
    assert count(labelled(by(ALICE), BOB)).approved == ()


def test_a_forged_signature_beside_a_valid_one_does_not_replace_the_genuine_one():
    spoiled = json.loads(by(BOB))
    spoiled["signatures"] += json.loads(labelled(by(MALLORY), ALICE))["signatures"]
    for texts in ([by(ALICE), json.dumps(spoiled)], [json.dumps(spoiled), by(ALICE)]):
        joined = count(*texts)
        assert joined.approved == ("alice", "bob")
        assert count(joined.text).approved == ("alice", "bob")


def test_two_signatures_of_one_key_are_refused_as_by_securesystemslib():
    doubled = json.loads(by(ALICE))
    doubled["signatures"] += json.loads(by(ALICE))["signatures"]
    assert count(json.dumps(doubled)).approved == ()
    with pytest.raises(VerdictError, match="expected one signature of each key"):
        envelope.open_payload(doubled, public(ALICE), payload_types=(PAYLOAD_TYPE,))
    with pytest.raises(ValueError, match="Multiple signatures"):
        Envelope.from_dict(doubled)


def test_other_bytes_that_say_the_same_do_not_count():
    statement = json.loads(b64decode(json.loads(by(BOB))["payload"]))
    statement["predicate"]["note"] = "and more"
    sealed = envelope.sign(statement, BOB, payload_type=PAYLOAD_TYPE)
    assert count(by(ALICE), json.dumps(sealed)).approved == ("alice",)


def test_a_promotion_or_standing_signed_by_an_approver_is_no_approval():
    for kind in ("promotion", "standing"):
        statement = json.loads(b64decode(json.loads(by(BOB))["payload"]))
        statement["predicateType"] = f"urn:buckler:{kind}:v2"
        assert count(json.dumps(envelope.sign(statement, BOB, payload_type=PAYLOAD_TYPE))).approved == ()


# --- what a verdict demands


def test_an_earlier_verdict_demands_nothing():
    assert Signatures.of(verdicts.verdict(policy={})) == Signatures(0, {})


@pytest.mark.parametrize(
    "stated",
    [
        {"required": -1, "keys": {}},
        {"required": 2, "keys": {"alice": f"sha256:{'a' * 64}"}},
        {"required": "0", "keys": {}},
        {"required": 0},
        {"required": 0, "keys": {}, "except": "me"},
        {"required": 1, "keys": {"alice": "sha256:a"}},
        {"required": 1, "keys": {"../alice": f"sha256:{'a' * 64}"}},
        {"required": 1, "keys": {"alice": f"sha256:{'a' * 64}", "al": f"sha256:{'a' * 64}"}},
        None,
        [],
    ],
)
def test_a_demand_that_cannot_be_read_is_an_error(stated):
    with pytest.raises(VerdictError, match="signatures in the policy") as caught:
        Signatures.of(verdicts.verdict(policy={"signatures": stated}))
    assert caught.value.reason == "malformed"


# --- whom a machine knows


@pytest.fixture
def directory(project):
    path = project / ".buckler/keys/approvers"
    path.mkdir(parents=True)
    return path


def test_the_files_of_the_directory_are_the_people(directory, monkeypatch):
    (directory / "alice.pub").write_bytes(public(ALICE).pem)
    (directory / "bob.pub").write_bytes(public(BOB, CAROL).pem)
    write_private(directory / "bob.pem", BOB)
    (directory / ".carol.pub").write_bytes(b"half written")
    monkeypatch.setenv("BUCKLER_SIGNATURES", "2")
    assert approvers.load() == Approvers({"alice": public(ALICE), "bob": public(BOB, CAROL)}, 2)


def test_a_machine_without_the_directory_knows_nobody(project):
    assert approvers.load() == Approvers()


def test_every_change_of_people_or_number_is_another_set_of_keys():
    sets = [knowing(), knowing(required=1), knowing(alice=ALICE), knowing(al=ALICE), knowing(alice=BOB)]
    assert len({trusted.id for trusted in sets}) == len(sets)


@pytest.mark.parametrize(
    ("files", "elsewhere", "message"),
    [
        ({"alice": b"nonsense"}, "", "not a public key in PEM form"),
        ({"alice": public(ALICE).pem, "al": public(ALICE).pem}, "", "expected a key under one name"),
        ({"alice smith": public(ALICE).pem}, "", "expected names of letters"),
        ({}, "/nowhere", "BUCKLER_APPROVER_KEYS names no directory"),
    ],
)
def test_where_the_approvers_are_not_clear_nobody_approves(directory, monkeypatch, files, elsewhere, message):
    for name, content in files.items():
        (directory / f"{name}.pub").write_bytes(content)
    monkeypatch.setenv("BUCKLER_APPROVER_KEYS", elsewhere)
    (directory.parent / "verdict.pub").write_bytes(projects.PUBLIC.pem)
    (directory.parent / "promotion.pub").write_bytes(projects.PROMOTION_PUBLIC.pem)
    trusted = keys.load_trusted_keys()  # verdicts and withdrawals are verified as before
    assert trusted.promotion == projects.PROMOTION_PUBLIC
    assert message in count(by(ALICE), by(BOB), trusted=trusted).sentence("3")
    assert count(by(ALICE), by(BOB), trusted=trusted).approved == ()


@pytest.mark.parametrize("value", ["two", "-1", "1.0", "²"])
def test_a_number_of_people_that_is_no_number_is_an_error(project, monkeypatch, value):
    monkeypatch.setenv("BUCKLER_SIGNATURES", value)
    with pytest.raises(BucklerError, match="expected a number of people in BUCKLER_SIGNATURES"):
        approvers.load()
