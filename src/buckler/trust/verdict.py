"""The signed verdict of the gate: a document that others can verify, with this package or without.

A verdict is an in-toto statement in a DSSE envelope, signed with Ed25519. Its subjects are the files of the model; its
predicate contains the digests of every report that the gate read, so that one signature covers the whole release::

    <release>/model/        the served files; the statement's subjects
    <release>/evidence/     the reports the gate read; their digests are in the predicate
    <release>/verdict.json  the envelope

Nothing else may be in a release.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from buckler.errors import VerdictError
from buckler.trust import envelope
from buckler.trust.digests import digest_of
from buckler.trust.document import SignedDocument, Subjects, Time
from buckler.trust.opened_files import OpenedFiles, opened
from buckler.trust.public_keys import PublicKeys
from buckler.trust.signing_key import SigningKey

MODEL_DIR = "model"
EVIDENCE_DIR = "evidence"
VERDICT_FILE = "verdict.json"
MAX_VERDICT_BYTES = 16 * 2**20  # thousands of times what a verdict has; it is read before its signature is known


@dataclass(frozen=True, slots=True)
class JudgedModel:
    """The model that a verdict is about.

    Attributes:
        name: Its name in the registry.
        digest: ``directory_digest`` of its files.
        intended_use: What its maker states that it is for; empty if that is not stated.
    """

    name: str
    digest: str
    intended_use: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """What the model was made from.

    Attributes:
        commit: Commit of the code; None outside git.
        dirty: Whether tracked files were changed since.
        initial_weights: What training started from: ``sha256:…`` of a file, ``md5:…`` of a download, or ``none``; None
            if it was not recorded.
    """

    commit: str | None
    dirty: bool
    initial_weights: str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gate states about a model.

    Attributes:
        model: The judged model.
        passed: Whether the gate passed the model.
        reasons: Why it did not; empty if it passed.
        notes: Remarks of the gate.
        policy: The floors and ceilings that were applied, as the section ``gate`` of params.yaml.
        issued_at: Aware time of the decision.
        expires_at: Aware time from which the verdict is no longer valid.
        source: What the model was made from.
        evidence: Path below ``evidence/`` -> ``sha256:…``.
        measured: Results of the evaluation, in short; the reports in ``evidence/`` have all of them.
    """

    model: JudgedModel
    passed: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    policy: Mapping[str, Any]
    issued_at: Time
    expires_at: Time
    source: Source
    evidence: Mapping[str, str]
    measured: Mapping[str, Any]

    @property
    def model_name(self) -> str:
        """Name of the judged model in the registry."""
        return self.model.name

    @property
    def subject_digest(self) -> str:
        """``directory_digest`` of the judged model."""
        return self.model.digest

    def is_about(self, subjects: Subjects) -> bool:
        """Return whether ``subjects`` are the files of the judged model."""
        return subjects == _subjects(files := _files(subjects)) and digest_of(files) == self.model.digest

    def expired(self, now: datetime | None = None) -> bool:
        """Return whether the verdict has expired at ``now`` (an aware time; default: the current time)."""
        return (now or datetime.now(UTC)) >= self.expires_at


@dataclass(frozen=True, slots=True)
class Verdict(Judgement):
    """A judgement whose signature and digests are valid.

    Attributes:
        id: ``sha256:…`` of the signed payload; identifies this verdict.
        files: Path below ``model/`` -> ``sha256:…``.
    """

    id: str
    files: Mapping[str, str]

    @property
    def signed_files(self) -> dict[str, str]:
        """Path in the release -> ``sha256:…`` of every file that the signature covers."""
        evidence = {f"{EVIDENCE_DIR}/{name}": digest for name, digest in self.evidence.items()}
        return dict(sorted({**_subjects(self.files), **evidence}.items()))


DOCUMENT = SignedDocument("verdict", Judgement, version=3)


def sign(judgement: Judgement, files: Mapping[str, str], key: SigningKey) -> dict[str, Any]:
    """Return the envelope of a verdict.

    Args:
        judgement: What it states.
        files: Path below ``model/`` -> ``sha256:…`` of the judged model.
        key: Signs.
    """
    return DOCUMENT.sign(judgement, _subjects(files), key)


def _subjects(files: Mapping[str, str]) -> dict[str, str]:
    return {f"{MODEL_DIR}/{name}": digest for name, digest in files.items()}


def _files(subjects: Subjects) -> dict[str, str]:
    return {name.removeprefix(f"{MODEL_DIR}/"): digest for name, digest in subjects.items()}


def verify_release(
    release: Path | OpenedFiles,
    public_keys: PublicKeys,
    *,
    name: str | None = None,
    now: datetime | None = None,
) -> Verdict:
    """Return the verdict of ``release`` if it is authentic, matches the files, has passed and has not expired.

    A directory has neither promotion nor renewal; `buckler.serving.assessment` judges a registered version.

    Args:
        release: Directory with ``model/``, ``evidence/`` and ``verdict.json``. Who uses the files afterwards opens them
            before, and reads them from there: files that are opened by their path again may be others.
        public_keys: Keys of verdicts, of which one must have signed it.
        name: Registered model that the verdict must be about; default: any.
        now: Aware time at which the expiry is checked; default: the current time.

    Raises:
        VerdictError: ``reason`` names the first check that failed.
    """
    verdict = open_release(release, public_keys, name=name)
    if not verdict.passed:
        reasons = "; ".join(verdict.reasons) or "no reason given"
        raise VerdictError("failed", f"the gate did not pass the model (verdict {verdict.id}): {reasons}")
    if verdict.expired(now):
        end = verdict.expires_at.isoformat()
        raise VerdictError("expired", f"the verdict {verdict.id} expired at {end}; `dvc repro` makes a new one")
    return verdict


def open_release(release: Path | OpenedFiles, public_keys: PublicKeys, *, name: str | None = None) -> Verdict:
    """Return the verdict of ``release`` if it is authentic and matches the files, even if it failed or has expired.

    A failed or expired verdict still documents the measurements.

    Args:
        release: As for `verify_release`.
        public_keys: Keys of verdicts, of which one must have signed it.
        name: Registered model that the verdict must be about; default: any.

    Raises:
        VerdictError: ``missing``, ``malformed``, ``signature``, ``digest`` or ``other_model``.
    """
    with opened(release) as files:
        verdict = read_verdict(files, public_keys)
        if name is not None:
            check_name(verdict, name)
        check_files(verdict, files)
    return verdict


def read_verdict(release: OpenedFiles, public_keys: PublicKeys) -> Verdict:
    """Return the authentic verdict of ``release``, whatever its files contain.

    Raises:
        VerdictError: ``missing``, ``malformed`` or ``signature``; ``digest`` if it is a link.
    """
    try:
        content = release.read(VERDICT_FILE, limit=MAX_VERDICT_BYTES)
    except OSError as error:
        raise VerdictError("missing", f"expected a signed verdict {release / VERDICT_FILE}: {error}") from error
    document = DOCUMENT.open(envelope.parse_object(content, VERDICT_FILE), public_keys)
    judgement = document.predicate
    stated = {field.name: getattr(judgement, field.name) for field in fields(judgement)}
    return Verdict(**stated, id=document.digest, files=_files(document.subjects))


def check_name(verdict: Verdict, name: str) -> None:
    """Check that ``verdict`` is about the registered model ``name``.

    Raises:
        VerdictError: ``other_model``.
    """
    if verdict.model_name != name:
        raise VerdictError("other_model", f"the verdict is about a model named {verdict.model_name!r}, not {name!r}")


def check_files(verdict: Verdict, release: OpenedFiles) -> None:
    """Check that the files in ``release`` are those that ``verdict`` is about, and no others.

    Raises:
        VerdictError: ``missing`` if a whole directory is, else ``digest``.
    """
    found, expected = release.digests, verdict.signed_files
    found.pop(VERDICT_FILE, None)  # its signature was verified
    for directory in (MODEL_DIR, EVIDENCE_DIR):
        start = f"{directory}/"
        if _any(expected, start) and not _any(found, start):
            raise VerdictError("missing", f"expected files in {release / directory}, there are none")
    if found != expected:
        changed = sorted({name for name, _ in set(found.items()) ^ set(expected.items())})
        raise VerdictError("digest", f"files in {release.path} differ from the digests in the verdict: {changed}")


def _any(names: Iterable[str], start: str) -> bool:
    return any(name.startswith(start) for name in names)
