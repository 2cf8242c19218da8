"""A release: the model, its evidence and the signed verdict in one directory.

This module turns the gate's decision into a signed document; `buckler.trust.verdict` verifies it.
"""

import csv
import dataclasses
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler import params
from buckler.errors import DataError
from buckler.release.evidence import Evidence, Reports
from buckler.release.gate import decide
from buckler.release.policy import Policy
from buckler.state import documents
from buckler.state.files import replacing_directory
from buckler.trust import verdict as verdicts
from buckler.trust.digests import digest_of, file_digest, file_digests
from buckler.trust.verdict import EVIDENCE_DIR, MODEL_DIR, VERDICT_FILE, JudgedModel, Judgement, Source, Verdict

REPORTS = ("validation", "evaluation", "robustness", "detector")
RUNTIME_REPORT = "runtime"  # not in releases from before networks were exported
OUTCOMES_FILE = "outcomes.csv"


@dataclass(frozen=True, slots=True)
class ReportedEvidence:
    """The reports of one evaluation by name, and the gate's evidence read from them."""

    reports: Reports
    evidence: Evidence


def read_evidence(directory: Path) -> ReportedEvidence:
    """Return the reports in ``directory``: a project's ``reports/`` or a release's ``evidence/``.

    Raises:
        DataError: One is missing or malformed.
    """
    reports = {name: documents.read_json(directory / f"{name}.json") for name in _reports_in(directory)}
    return ReportedEvidence(reports, Evidence.from_reports(reports, read_outcomes(directory / OUTCOMES_FILE)))


def _reports_in(directory: Path) -> tuple[str, ...]:
    return (*REPORTS, RUNTIME_REPORT) if (directory / f"{RUNTIME_REPORT}.json").exists() else REPORTS


def read_outcomes(path: Path) -> dict[str, dict[str, bool]]:
    """Return picture id -> column -> whether right, from a table ``id,label,clean,worst_1,…`` of 0 and 1.

    Raises:
        DataError: There is no such table, an id occurs twice, or a cell is neither 0 nor 1.
    """
    outcomes = {}
    for row in read_rows(path):
        name, cells = row.get("id"), {k: v for k, v in row.items() if k not in ("id", "label")}
        if not name or name in outcomes or not cells or not set(cells.values()) <= {"0", "1"}:
            raise DataError(f"{path}: expected unique ids and cells of 0 or 1, got the row {row}")
        outcomes[name] = {column: cell == "1" for column, cell in cells.items()}
    return outcomes


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file as dicts by column.

    Raises:
        DataError: There is no such file.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise DataError(f"no {path}; run `dvc repro` first") from error


def policy_of(verdict: Verdict) -> Policy:
    """Return the policy under which ``verdict`` was issued."""
    return params.parse("policy", Policy, verdict.policy, Path(VERDICT_FILE))


def build(
    destination: Path,
    *,
    classifier: Path,
    detector: Path,
    runtime: Path | None = None,
    reports: Path,
    policy: Policy,
    name: str,
    source: Source,
    key: Ed25519PrivateKey,
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
        source: What the model was made from.
        key: Signs the verdict.
        write_self_test: Writes reference pictures and answers into the model's directory, to be signed with the model
            (`buckler.serving.selftest.write`); the service loads no release without them.
        now: Aware time of issue; default: the current time.

    Raises:
        DataError: The reports describe another classifier or exported network.
    """
    with replacing_directory(destination) as aside:
        parts = (classifier, detector) if runtime is None else (classifier, runtime, detector)
        files = _copy_model(aside / MODEL_DIR, parts)
        if write_self_test:
            write_self_test(aside / MODEL_DIR)
        measured = _copy_evidence(reports, aside / EVIDENCE_DIR)
        _check_subject(measured.reports, "digest", classifier, files[classifier])
        if runtime is not None:
            _check_subject(measured.reports, "runtime", runtime, files[runtime])
        released = file_digests(aside / MODEL_DIR)
        decision = decide(measured.evidence, None, policy)
        issued = (now or datetime.now(UTC)).replace(microsecond=0)
        judgement = Judgement(
            model=JudgedModel(name, digest_of(released)),
            passed=decision.passed,
            reasons=decision.failures,
            notes=decision.notes,
            policy=as_json(policy),
            issued_at=issued,
            expires_at=issued + timedelta(days=policy.valid_days),
            source=source,
            evidence=file_digests(aside / EVIDENCE_DIR),
            measured=_measurements(measured.reports),
        )
        documents.write_json(aside / VERDICT_FILE, verdicts.sign(judgement, released, key))
    return verdicts.open_release(destination, key.public_key())


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


def _copy_evidence(reports: Path, destination: Path) -> ReportedEvidence:
    """Copy the reports and read the copies: the gate must decide on the signed bytes."""
    destination.mkdir()
    read_evidence(reports)  # its errors name the original files
    for file in (*(f"{report_name}.json" for report_name in _reports_in(reports)), OUTCOMES_FILE):
        shutil.copyfile(reports / file, destination / file)
    return read_evidence(destination)


def _check_subject(reports: Reports, key: str, part: Path, digest: str) -> None:
    names = ("evaluation", "robustness", *([RUNTIME_REPORT] if key == "runtime" else ()))
    for name in names:
        measured = reports.get(name, {}).get("model", {}).get(key)
        if measured != digest:
            raise DataError(
                f"reports/{name}.json is about {part.name} {measured}, models/{part.name} is {digest}; "
                "the reports are stale, run `dvc repro`"
            )


def _measurements(reports: Reports) -> dict[str, Any]:
    evaluation, robustness, detector = (reports[name] for name in ("evaluation", "robustness", "detector"))
    return {
        "data": robustness["data"],
        "labels": evaluation["labels"],
        "clean_accuracy": evaluation["clean_accuracy"],
        "malignant_recall": evaluation["malignant_recall"],
        "calibration_error": evaluation["calibration_error"],
        "attacks": robustness["cells"],
        "worst_case": robustness["worst_case"],
        "subgroups": robustness["subgroups"],
        "checks": robustness["checks"],
        "detector": {name: detector[name] for name in ("threshold", "max_fpr", "clean_fpr", "attacks")},
        **({"runtime": dict(reports[RUNTIME_REPORT])} if RUNTIME_REPORT in reports else {}),
    }


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
    done = subprocess.run([program, *arguments], cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else ""


def headline(reports: Reports) -> dict[str, float]:
    """Return the numbers by which runs are compared, flat, for `dvc metrics diff` and `dvc exp show`.

    ``worst_case_2`` is the robust accuracy under all attacks and radii up to 2/255, ``fgsm_2`` that under FGSM alone,
    ``sensitivity_2`` and ``specificity_2`` are the clinical rates under all attacks and radii up to 2/255.
    """
    evaluation, robustness, detector = (reports[name] for name in ("evaluation", "robustness", "detector"))
    recall = evaluation["malignant_recall"]
    numbers = {
        "clean_accuracy": evaluation["clean_accuracy"]["value"],
        **({"malignant_recall": recall["value"]} if recall else {}),
        "roc_auc": evaluation["roc_auc"],
        "calibration_error": evaluation["calibration_error"],
        **{f"worst_case_{r['epsilon_255']}": r["robust_accuracy"]["value"] for r in robustness["worst_case"]},
        **{
            f"{name}_{row['epsilon_255']}": row[name]["value"]
            for name in ("sensitivity", "specificity")
            for row in robustness["worst_case"]
            if row[name]
        },
        **{f"{c['name']}_{c['epsilon_255']}": c["robust_accuracy"]["value"] for c in robustness["cells"]},
        "detector_clean_fpr": detector["clean_fpr"]["value"],
    }
    return {name: round(float(value), 4) for name, value in numbers.items()}


def describe(verdict: Verdict) -> str:
    """Return a summary for people: the model, the results, the expiry."""
    measured = verdict.measured
    lines = [
        f"verdict    {'passed' if verdict.passed else 'FAILED'}  {verdict.id}",
        f"model      {verdict.model_name}  {verdict.subject_digest}",
        f"data       {measured['data']['version']}, {measured['data']['images']} pictures attacked",
        f"code       {_commit(verdict.source)}",
        f"clean      {_percent(measured['clean_accuracy'])}",
        *(
            f"<= {entry['epsilon_255']}/255   {_percent(entry['robust_accuracy'])}  under the worst attack"
            for entry in measured["worst_case"]
        ),
        f"issued     {verdict.issued_at.isoformat()}",
        f"expires    {verdict.expires_at.isoformat()}{'  EXPIRED' if verdict.expired() else ''}",
        *(f"reason     {reason}" for reason in verdict.reasons),
        *(f"note       {note}" for note in verdict.notes),
    ]
    return "\n".join(lines)


def _commit(source: Source) -> str:
    return f"{source.commit or 'not in git'}{' with uncommitted changes' if source.dirty else ''}"


def _percent(rate: Mapping[str, float]) -> str:
    return f"{rate['value']:6.1%}  ({rate['low']:.1%} to {rate['high']:.1%})"
