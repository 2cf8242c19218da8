import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.errors import VerdictError
from buckler.trust.digests import directory_digest, file_digest, file_digests
from buckler.trust.opened_files import opened
from buckler.trust.public_keys import PublicKeys
from buckler.trust.verdict import (
    MAX_VERDICT_BYTES,
    JudgedModel,
    Judgement,
    Source,
    open_release,
    sign,
    verify_release,
)

ISSUED = datetime(2026, 1, 1, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = PublicKeys.of(KEY.public_key())


def judgement(release: Path, **changes: Any) -> Judgement:
    judged = Judgement(
        model=JudgedModel("skin-lesion", directory_digest(release / "model")),
        passed=True,
        reasons=(),
        notes=(),
        policy={"min_clean_accuracy": 0.7},
        issued_at=ISSUED,
        expires_at=ISSUED + timedelta(days=30),
        source=Source("0" * 40, False),
        evidence=file_digests(release / "evidence"),
        measured={"clean_accuracy": 0.8},
    )
    return replace(judged, **changes)


def sealed(release: Path, key: Ed25519PrivateKey = KEY, **changes: Any) -> dict[str, Any]:
    return sign(judgement(release, **changes), file_digests(release / "model"), key)


def seal(release: Path, key: Ed25519PrivateKey = KEY, **changes: Any) -> None:
    (release / "verdict.json").write_text(json.dumps(sealed(release, key, **changes)))


def make_release(root: Path) -> Path:
    release = root / "release"
    for name, content in {
        "model/classifier.keras": bytes(range(256)),
        "model/model.json": b'{"schema": 1}',
        "evidence/robustness.json": b'{"cells": []}',
    }.items():
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_bytes(content)
    seal(release)
    return release


@pytest.fixture
def release(tmp_path):
    return make_release(tmp_path)


@pytest.fixture(scope="module")
def shared_release(tmp_path_factory):
    return make_release(tmp_path_factory.mktemp("shared"))


def refused(release: Path, reason: str, **options: object) -> str:
    options.setdefault("now", ISSUED)
    with pytest.raises(VerdictError) as caught:
        verify_release(release, PUBLIC, **options)
    assert caught.value.reason == reason, caught.value
    return str(caught.value)


def test_a_sealed_release_is_valid_and_its_verdict_contains_the_signed_fields(release):
    verdict = verify_release(release, PUBLIC, now=ISSUED)
    assert verdict.passed
    assert verdict.subject_digest == directory_digest(release / "model")
    assert verdict.issued_at == ISSUED
    assert verdict.id.startswith("sha256:")
    assert len(verdict.id) == len("sha256:") + 64


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(min_value=0), bit=st.integers(0, 7), data=st.data())
def test_any_flipped_bit_in_model_evidence_or_verdict_is_refused(shared_release, position, bit, data):
    files = sorted(path for path in shared_release.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    before = path.read_bytes()
    content = bytearray(before)
    content[position % len(content)] ^= 1 << bit
    path.write_bytes(content)
    try:
        if path.name == "verdict.json" and same_json(before, bytes(content)):
            return  # white space between the envelope's fields has no meaning
        with pytest.raises(VerdictError) as caught:
            verify_release(shared_release, PUBLIC, now=ISSUED)
        assert caught.value.reason in {"malformed", "signature", "digest"}
    finally:
        path.write_bytes(before)


def same_json(one: bytes, other: bytes) -> bool:
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


def test_another_key_is_refused_and_both_keys_are_named(release):
    seal(release, Ed25519PrivateKey.generate())
    assert PUBLIC.id in refused(release, "signature")


def test_another_keys_signature_under_our_key_id_is_refused(release):
    envelope = sealed(release, Ed25519PrivateKey.generate())
    envelope["signatures"][0]["keyid"] = PUBLIC.id
    (release / "verdict.json").write_text(json.dumps(envelope))
    refused(release, "signature")


def test_a_second_signature_is_ignored(release):
    envelope = sealed(release)
    other = sealed(release, Ed25519PrivateKey.generate())
    envelope["signatures"] = [*other["signatures"], *envelope["signatures"]]
    (release / "verdict.json").write_text(json.dumps(envelope))
    assert verify_release(release, PUBLIC, now=ISSUED).passed


def test_a_failed_verdict_is_refused_with_its_reasons(release):
    seal(release, passed=False, reasons=("clean accuracy 0.500 < 0.700",))
    assert "clean accuracy 0.500 < 0.700" in refused(release, "failed")


def test_a_verdict_is_valid_until_the_moment_it_expires(release):
    end = ISSUED + timedelta(days=30)
    verify_release(release, PUBLIC, now=end - timedelta(seconds=1))
    assert end.isoformat() in refused(release, "expired", now=end)


def test_an_expired_or_failed_release_can_still_be_opened_as_evidence(release):
    seal(release, passed=False)
    verdict = open_release(release, PUBLIC)
    assert not verdict.passed
    assert verdict.expired(ISSUED + timedelta(days=31))


def test_an_added_a_removed_and_a_renamed_file_are_refused(release):
    added = release / "model" / "extra.bin"
    added.write_bytes(b"")
    refused(release, "digest")
    added.unlink()
    (release / "model" / "model.json").rename(release / "model" / "other.json")
    refused(release, "digest")
    (release / "model" / "other.json").unlink()
    refused(release, "digest")


def test_added_evidence_is_refused_by_name(release):
    (release / "evidence" / "praise.json").write_text("{}")
    assert "praise.json" in refused(release, "digest")


def test_a_symbolic_link_is_refused_even_to_the_same_bytes(release, tmp_path):
    inside = release / "model" / "model.json"
    outside = tmp_path / "elsewhere.json"
    outside.write_bytes(inside.read_bytes())
    inside.unlink()
    inside.symlink_to(outside)
    refused(release, "digest")


@pytest.mark.parametrize("part", ["model", "evidence", "verdict.json", "evidence/robustness.json"])
def test_a_part_that_is_a_symbolic_link_is_refused_even_to_the_same_bytes(release, tmp_path, part):
    moved = tmp_path / "moved"
    (release / part).rename(moved)
    (release / part).symlink_to(moved)
    assert f"the symbolic link {part}" in refused(release, "digest")


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "verdict.json.bak", "models/classifier.keras", "model.json"])
def test_an_unknown_file_in_the_root_of_a_release_is_refused_by_name(release, name):
    (release / name).parent.mkdir(exist_ok=True)
    (release / name).write_bytes(b"")
    assert repr(name) in refused(release, "digest")


@pytest.mark.parametrize("place", ["", "model", "evidence"])
def test_a_fifo_is_refused_and_not_waited_for(release, place):
    os.mkfifo(release / place / "pipe")
    assert "the special file" in refused(release, "digest")


def test_a_huge_verdict_is_not_read(release):
    with (release / "verdict.json").open("ab") as file:
        file.truncate(2**40)
    assert "verdict.json of" in refused(release, "digest")
    os.truncate(release / "verdict.json", MAX_VERDICT_BYTES + 1)
    assert f"at most {MAX_VERDICT_BYTES} bytes" in refused(release, "digest")


def test_files_that_were_opened_once_are_verified_whatever_is_in_their_place_now(release, tmp_path):
    with opened(release) as files:
        release.rename(tmp_path / "elsewhere")
        (tmp_path / "other").mkdir()
        make_release(tmp_path / "other").rename(release)
        (release / "model/classifier.keras").write_bytes(b"other")
        refused(release, "digest")
        assert verify_release(files, PUBLIC, now=ISSUED).passed


@pytest.mark.parametrize("part", ["verdict.json", "model", "evidence"])
def test_a_missing_part_is_refused(release, part):
    (release / part).rename(release / "gone")
    refused(release, "missing")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"payload": "e30="}',
        b'{"payload": 1, "payloadType": "application/vnd.in-toto+json", "signatures": []}',
        b'{"payload": "e30", "payloadType": "application/vnd.in-toto+json", "signatures": []}',
        b'{"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": []}',
        b'{"payload": "e30=", "payloadType": "text/plain", "signatures": [{"keyid": "", "sig": ""}]}',
    ],
)
def test_an_envelope_of_another_form_is_malformed(release, content):
    (release / "verdict.json").write_bytes(content)
    refused(release, "malformed")


def test_the_directory_digest_covers_names_and_contents(tmp_path):
    for folder, name, content in (("a", "x", "1"), ("b", "x", "2"), ("c", "y", "1"), ("d", "x", "1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(content)
    digests = [directory_digest(tmp_path / folder) for folder in "abcd"]
    assert digests[0] == digests[3]
    assert len(set(digests)) == 3


def test_the_digest_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "empty").touch()
    # sha256 of nothing, from FIPS 180-4's test vectors
    expected = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert file_digest(tmp_path / "empty") == expected
