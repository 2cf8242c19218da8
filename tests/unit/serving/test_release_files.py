"""What reading a release says about it; whatever its files contain, nothing that nobody signed is used."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.errors import VerdictError
from buckler.release.evidence import read_evidence
from buckler.serving.assessment import ReasonCode
from buckler.serving.release_files import read_release, unloadable
from buckler.trust.public_keys import PublicKeys, TrustedKeys
from buckler.trust.verdict import EVIDENCE_DIR, VERDICT_FILE, verify_release
from tests import projects

KEY = projects.PROMOTION_KEY
MODEL = "skin-lesion"
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    root = projects.make_project(tmp_path / "project")
    projects.build(root, name=MODEL)
    return root / "models/release"


def read(release: Path, model: str = MODEL, trusted: TrustedKeys = projects.TRUSTED) -> list[str]:
    return [reason.code.value for reason in read_release(release, trusted, model=model).reasons]


def test_an_authentic_release_can_be_used(release):
    opened = read_release(release, projects.TRUSTED, model=MODEL)
    assert (opened.reasons, opened.authentic) == ((), True)
    assert opened.require().passed


def remove_the_verdict(release: Path) -> None:
    (release / VERDICT_FILE).unlink()


def write_nonsense(release: Path) -> None:
    (release / VERDICT_FILE).write_text("{")


def sign_another_statement(release: Path) -> None:
    envelope = json.loads((release / VERDICT_FILE).read_text())
    envelope["signatures"][0]["sig"] = "A" * 86 + "=="
    (release / VERDICT_FILE).write_text(json.dumps(envelope))


def change_the_model(release: Path) -> None:
    (release / "model/classifier.keras").write_bytes(b"changed")


def change_the_evidence(release: Path) -> None:
    (release / "evidence/outcomes.csv").write_text("id,label,clean\n")


def add_a_file(release: Path) -> None:
    (release / "notes.txt").write_text("approved")


def link_the_model(release: Path) -> None:
    (release / "model").rename(release.parent / "elsewhere")
    (release / "model").symlink_to(release.parent / "elsewhere")


def link_the_verdict(release: Path) -> None:
    (release / VERDICT_FILE).rename(release.parent / "elsewhere.json")
    (release / VERDICT_FILE).symlink_to(release.parent / "elsewhere.json")


def put_a_fifo_beside_the_evidence(release: Path) -> None:
    os.mkfifo(release / "evidence/pipe")


def remove_everything(release: Path) -> None:
    shutil.rmtree(release)


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (remove_the_verdict, "missing"),
        (remove_everything, "missing"),
        (add_a_file, "digest"),
        (link_the_model, "digest"),
        (link_the_verdict, "digest"),
        (put_a_fifo_beside_the_evidence, "digest"),
        (write_nonsense, "malformed"),
        (sign_another_statement, "signature"),
        (change_the_model, "digest"),
        (change_the_evidence, "digest"),
    ],
)
def test_a_harmed_release_is_not_authentic(release, harm, code):
    harm(release)
    opened = read_release(release, projects.TRUSTED, model=MODEL)
    assert ([reason.code.value for reason in opened.reasons], opened.authentic) == ([code], False)
    assert str(release) not in opened.reasons[0].sentence  # often a temporary directory
    assert "`dvc repro`" in opened.reasons[0].sentence


def test_evidence_that_was_changed_after_it_was_verified_is_not_judged(release):
    opened = read_release(release, projects.TRUSTED, model=MODEL)
    assert read_evidence(opened.files / EVIDENCE_DIR) == read_evidence(release / EVIDENCE_DIR)
    change_the_evidence(release)
    with pytest.raises(VerdictError, match=r"outcomes\.csv was changed after it was verified"):
        read_evidence(opened.files / EVIDENCE_DIR)


def test_a_release_of_another_model_with_other_files_has_both_reasons(release):
    change_the_model(release)
    assert read(release, "lungs") == ["other_model", "digest"]
    stranger = PublicKeys.of(STRANGER.public_key())
    assert read(release, trusted=replace(projects.TRUSTED, verdict=stranger)) == ["signature"]


def test_a_verdict_by_the_promotion_key_is_refused(tmp_path):
    root = projects.make_project(tmp_path / "project")
    projects.build(root, name=MODEL, key=KEY)
    with pytest.raises(VerdictError, match="with a key of another role"):
        verify_release(root / "models/release", projects.PUBLIC)
    assert read(root / "models/release") == ["signature"]


def test_a_detector_of_another_schema_cannot_be_loaded_and_the_reason_says_what_to_do(tmp_path):
    root = projects.make_project(tmp_path)
    change_schema(root / "models/detector/detector.json")
    projects.build(root, name=MODEL)
    opened = read_release(root / "models/release", projects.TRUSTED, model=MODEL)
    (reason,) = opened.reasons
    assert (reason.code, opened.authentic) == (ReasonCode.UNLOADABLE, True)
    assert "expected a detector of schema" in reason.sentence
    assert "run `dvc repro` and `buckler promote`" in reason.sentence


@pytest.mark.parametrize(("name", "known"), [("model.json", "1, 2, 3 or 4"), ("runtime.json", "1")])
def test_a_model_of_another_schema_cannot_be_loaded(release, name, known):
    assert unloadable(release / "model") is None
    for part in ("classifier", "runtime"):
        for file in (release.parent / part).iterdir():
            shutil.copy(file, release / "model")
    change_schema(release / "model" / name)
    assert f"expected schema {known}, got 99" in unloadable(release / "model")


def change_schema(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))


def test_a_detector_whose_content_changed_under_the_same_schema_cannot_be_loaded_either(tmp_path):
    root = projects.make_project(tmp_path)
    path = root / "models/detector/detector.npz"
    with np.load(path) as arrays:
        changed = dict(arrays) | {"quality.low": np.zeros(3, np.float32)}
    np.savez(path, **changed)
    projects.build(root, name=MODEL)
    (reason,) = read_release(root / "models/release", projects.TRUSTED, model=MODEL).reasons
    assert (reason.code, "expected one low and one high a measure" in reason.sentence) == (ReasonCode.UNLOADABLE, True)


def test_bytes_that_nobody_signed_are_not_parsed(release):
    (release / "model/detector.npz").write_bytes(b"not signed")
    assert read(release) == ["digest"]
