"""A release: the model, its evidence and the signed verdict in one directory.

This module turns the gate's decision into a signed document; `buckler.trust.verdict` verifies it.
"""

import dataclasses
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from buckler import params
from buckler.errors import BucklerError, DataError
from buckler.measurements.results import Rate
from buckler.measurements.stated import Measured
from buckler.models.info import load_info
from buckler.release.bill_of_materials import FILE as BILL_FILE
from buckler.release.bill_of_materials import Provenance, bill_of_materials
from buckler.release.evidence import Evidence, Reports, read_reports
from buckler.release.gate import decide
from buckler.release.packages import Package
from buckler.release.policy import EARLIER, Policy
from buckler.state import documents
from buckler.state.files import replacing_directory
from buckler.trust import verdict as verdicts
from buckler.trust.digests import digest_of, file_digest, file_digests
from buckler.trust.public_keys import PublicKeys
from buckler.trust.signing_key import SigningKey
from buckler.trust.verdict import EVIDENCE_DIR, MODEL_DIR, VERDICT_FILE, JudgedModel, Judgement, Source, Verdict

GIT_SECONDS = 60  # a repository on a slow disk answers within seconds


def policy_of(verdict: Verdict) -> Policy:
    """Return the policy under which ``verdict`` was issued."""
    return params.parse("policy", Policy, {**EARLIER, **verdict.policy}, Path(VERDICT_FILE))


def build(
    destination: Path,
    *,
    classifier: Path,
    detector: Path,
    runtime: Path | None = None,
    reports: Path,
    policy: Policy,
    name: str,
    intended_use: str = "",
    source: Source,
    packages: Sequence[Package],
    key: SigningKey,
    write_self_test: Callable[[Path], None] | None = None,
    now: datetime | None = None,
) -> Verdict:
    """Apply the gate to a model's reports, write its release and return the signed verdict, passing or not.

    The champion is not compared here, because stages do not read the registry; promotion decides again and compares.
    The directory is built beside ``destination`` and renamed, so it appears whole or not at all.

    Args:
        destination: Replaced if it exists.
        classifier, detector: Directories whose files are copied into ``model/``.
        runtime: Directory of the exported network, copied likewise; None: the model serves with Keras.
        reports: Directory of the model's reports; copied into ``evidence/``.
        policy: The gate's policy.
        name: Name of the model in the registry; the verdict is valid for no other.
        intended_use: What the model is for; empty: not stated.
        source: What the model was made from; its initial weights are taken from the classifier's description.
        packages: Python packages of the code, for the bill of materials.
        key: Signs the verdict.
        write_self_test: Writes reference pictures and answers into the model's directory, to be signed with the model
            (`buckler.serving.selftest.write`); the service loads no release without them.
        now: Aware time of issue; default: the current time.

    Raises:
        DataError: The reports describe another classifier or exported network.
        ModelError: The classifier's description is missing or malformed.
    """
    with replacing_directory(destination) as aside:
        parts = (classifier, detector) if runtime is None else (classifier, runtime, detector)
        files = _copy_model(aside / MODEL_DIR, parts)
        if write_self_test:
            write_self_test(aside / MODEL_DIR)
        found = _copy_evidence(reports, aside / EVIDENCE_DIR)
        _check_subjects(found, files, classifier, runtime)
        info, released = load_info(aside / MODEL_DIR), file_digests(aside / MODEL_DIR)
        provenance = Provenance(
            JudgedModel(name, digest_of(released), intended_use),
            released,
            dataclasses.replace(source, initial_weights=info.initial_weights),
            packages,
        )
        documents.write_json(aside / EVIDENCE_DIR / BILL_FILE, bill_of_materials(provenance, info, found.measured))
        judgement = _judge(found, policy, provenance, file_digests(aside / EVIDENCE_DIR), now or datetime.now(UTC))
        documents.write_json(aside / VERDICT_FILE, verdicts.sign(judgement, released, key))
    return verdicts.open_release(destination, PublicKeys.of(key.public_key()))


def _judge(
    found: Reports, policy: Policy, provenance: Provenance, evidence: Mapping[str, str], now: datetime
) -> Judgement:
    """Apply the gate; ``evidence`` are the digests of the files it rests on."""
    decision, issued = decide(Evidence.of(found), None, policy), now.replace(microsecond=0)
    return Judgement(
        model=provenance.model,
        passed=decision.passed,
        reasons=decision.failures,
        notes=decision.notes,
        policy=as_json(policy),
        issued_at=issued,
        expires_at=issued + timedelta(days=policy.valid_days),
        source=provenance.source,
        evidence=evidence,
        measured=found.measured.document(),
    )


def _copy_model(destination: Path, parts: Sequence[Path]) -> dict[Path, str]:
    """Copy each directory's files into ``destination``; return each one's digest, taken from the copies."""
    destination.mkdir()
    digests = {}
    for part in parts:
        names = file_digests(part)
        clash = [name for name in names if (destination / name).exists()]
        if clash:
            raise DataError(f"{part}: another part of the release has files of the same names: {clash}")
        for name in names:
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(part / name, destination / name)
        # Digests of the copies: the gate must decide on the released files, even if `part` changes meanwhile.
        digests[part] = digest_of({name: file_digest(destination / name) for name in names})
    return digests


def _copy_evidence(reports: Path, destination: Path) -> Reports:
    """Copy the reports and read the copies: the gate must decide on the signed bytes."""
    destination.mkdir()
    for file in read_reports(reports).files:  # its errors name the original files
        shutil.copyfile(reports / file, destination / file)
    return read_reports(destination)


def _check_subjects(found: Reports, digests: Mapping[Path, str], classifier: Path, runtime: Path | None) -> None:
    """Check that every report is about the released network.

    Raises:
        DataError: One is about another.
    """
    others = [report for report in (found.decisions, found.runtime if runtime else None) if report]
    for report in (found.evaluation, found.robustness, found.detector, *others):
        _check_subject(report.FILE, report.model.digest, classifier, digests[classifier])
        if runtime:
            _check_subject(report.FILE, report.model.runtime, runtime, digests[runtime])


def _check_subject(file: str, judged: str, part: Path, digest: str) -> None:
    if judged != digest:
        raise DataError(
            f"reports/{file} is about {part.name} {judged}, models/{part.name} is {digest}; "
            "the reports are stale, run `dvc repro`"
        )


def as_json(policy: Policy) -> dict[str, Any]:
    """Return ``policy`` as a JSON object, with radii as text."""
    return {
        name: {str(radius): floor for radius, floor in sorted(value.items())} if isinstance(value, Mapping) else value
        for name, value in dataclasses.asdict(policy).items()
    }


def source_of(root: Path) -> Source:
    """Return the git commit of ``root``; ``commit`` is None without git or without a commit."""
    commit = _git(root, "rev-parse", "HEAD")
    # Ignore files that new results change: dvc.lock and the documents.
    ignored = (":!dvc.lock", ":!docs", ":!README.md")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *ignored)
    return Source(commit or None, bool(commit and changes))


def _git(root: Path, *arguments: str) -> str:
    program = shutil.which("git")
    if program is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603
            [program, *arguments], cwd=root, capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BucklerError(
            f"expected an answer of `git {arguments[0]}` within {GIT_SECONDS} s, got none; find out what holds {root}"
        ) from error
    return done.stdout.strip() if done.returncode == 0 else ""


def describe(verdict: Verdict) -> str:
    """Return a summary for people: the model, the results, the expiry."""
    measured = Measured.read(verdict.measured)
    data = measured.data
    lines = [
        f"verdict    {'passed' if verdict.passed else 'FAILED'}  {verdict.id}",
        f"model      {verdict.model_name}  {verdict.subject_digest}",
        f"data       {data.version}, {data.images} pictures attacked" if data else "data       not stated",
        f"code       {_commit(verdict.source)}",
        f"clean      {_percent(measured.clean_accuracy)}",
        *(
            f"<= {entry.radius}   {_percent(entry.robust_accuracy)}  under the worst attack"
            for entry in measured.worst_case
        ),
        f"issued     {verdict.issued_at.isoformat()}",
        f"expires    {verdict.expires_at.isoformat()}",
        *(f"reason     {reason}" for reason in verdict.reasons),
        *(f"note       {note}" for note in verdict.notes),
    ]
    return "\n".join(lines)


def _commit(source: Source) -> str:
    return f"{source.commit or 'not in git'}{' with uncommitted changes' if source.dirty else ''}"


def _percent(rate: Rate | None) -> str:
    return f"{rate.value:6.1%}  ({rate.low:.1%} to {rate.high:.1%})" if rate else "not stated"
