"""Records one pipeline execution in MLflow and registers its release as the challenger.

The reports are the source; MLflow repeats their numbers for its views.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from buckler.models.info import load_info
from buckler.release import bundle, tracking
from buckler.release.evidence import Reports
from buckler.release.settings import PublishParams
from buckler.release.tracking import Point
from buckler.serving import model_card, registry
from buckler.serving.aliases import CHALLENGER
from buckler.trust import digests
from buckler.trust.verdict import EVIDENCE_DIR, MODEL_DIR, Source, Verdict

_IDENTITY = (registry.DIGEST_TAG, registry.VERDICT_TAG, registry.OUTCOME_TAG)


@dataclass(frozen=True, slots=True)
class Published:
    """A release's run and version in the registry; ``created`` is False if it was already registered."""

    run_id: str
    version: str
    created: bool


def publish(
    release: Path,
    reports: Path,
    *,
    names: PublishParams,
    parameters: Mapping[str, Any],
    source: Source,
    verdict: Verdict,
    lock: Path = Path("dvc.lock"),
) -> Published:
    """Record the run and register ``release`` as the challenger; publishing it again changes nothing.

    Args:
        release: Directory named ``release``.
        reports: Directory of JSON reports, ``plots/*.png`` and ``training/history.csv``.
        names: Names of the experiment and the registered model.
        parameters: The whole of params.yaml.
        source: Commit of the code.
        verdict: Verdict of ``release``, passing or not.
        lock: DVC's lock file; its digest is recorded where it exists.

    Raises:
        RegistryError: The registry cannot be reached.
    """
    published = _published(names.model_name, verdict)
    if published is None:
        # Runs of an earlier publication that was killed before it registered its version.
        tracking.delete_runs(names.experiment, registry.VERDICT_TAG, verdict.id)
        tags, text = _tags(release, source, verdict, lock), _card(release, verdict, names.model_name)
        run_id = tracking.start_run(names.experiment, _name(names, verdict), {**tags, tracking.NOTE_TAG: text})
        uri = _record(run_id, release, reports, names.experiment, parameters, tags)
        number = tracking.register(
            names.model_name,
            uri,
            tags={name: tags[name] for name in _IDENTITY},
            description=text,
        )
        published = Published(run_id, number, True)
    tracking.set_alias(names.model_name, CHALLENGER, published.version)
    return published


def _published(model_name: str, verdict: Verdict) -> Published | None:
    for entry in registry.versions(model_name):
        if (entry.verdict, entry.digest) == (verdict.id, verdict.subject_digest):
            return Published(entry.run_id, entry.version, False)
    return None


def _name(names: PublishParams, verdict: Verdict) -> str:
    return f"{names.model_name} {verdict.subject_digest.removeprefix('sha256:')[:8]}"


def _card(release: Path, verdict: Verdict, name: str) -> str:
    info = load_info(release / MODEL_DIR)
    # The registry assigns the number afterwards; the card is shown without it.
    card = model_card.card(verdict, info, name=name, version="", now=datetime.now(UTC))
    return model_card.markdown(card)


def _tags(release: Path, source: Source, verdict: Verdict, lock: Path) -> dict[str, str]:
    return {
        tracking.KIND_TAG: "pipeline",
        "data_version": str(verdict.measured["data"]["version"]),
        "git_commit": f"{source.commit or 'none'}{'+dirty' if source.dirty else ''}",
        "defence": load_info(release / MODEL_DIR).defence,
        registry.DIGEST_TAG: verdict.subject_digest,
        registry.VERDICT_TAG: verdict.id,
        registry.OUTCOME_TAG: "passed" if verdict.passed else "failed",
        "dvc_lock": digests.file_digest(lock) if lock.exists() else "none",
    }


def _record(
    run_id: str,
    release: Path,
    reports: Path,
    experiment: str,
    parameters: Mapping[str, Any],
    tags: Mapping[str, str],
) -> str:
    measured = bundle.read_evidence(release / EVIDENCE_DIR)
    tracking.log(run_id, params=flatten(parameters), metrics=[*_summary(measured.reports), *_history(reports)])
    for cell in measured.reports["robustness"]["cells"]:
        _record_cell(run_id, experiment, cell, tags)
    files = [path for path in sorted(reports.glob("*.json")) if path.name != "publish.json"]
    tracking.attach(run_id, "reports", [*files, *sorted(reports.glob("*.csv")), *sorted(reports.glob("*.html"))])
    tracking.attach(run_id, "reports/training", sorted(reports.glob("training/*.csv")))
    tracking.attach(run_id, "plots", sorted(reports.glob("plots/*.png")))
    info = load_info(release / MODEL_DIR)
    uri = tracking.log_release(run_id, release, labels=info.labels, shape=info.shape)
    tracking.finish_run(run_id)
    return uri


def flatten(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return params.yaml as ``section.key`` -> value, without the profiles."""
    return {
        f"{section}.{key}": value
        for section, values in parameters.items()
        if section != "profiles"
        for key, value in values.items()
    }


def _summary(reports: Reports) -> Iterator[Point]:
    """Yield the headline numbers; where a radius matters the step is ``epsilon_255``."""
    evaluation, robustness, detector = (reports[name] for name in ("evaluation", "robustness", "detector"))
    yield from rate("clean_accuracy", evaluation["clean_accuracy"])
    if evaluation["malignant_recall"] is not None:
        yield from rate("malignant_recall", evaluation["malignant_recall"])
    yield Point("roc_auc", evaluation["roc_auc"])
    yield Point("calibration_error", evaluation["calibration_error"])
    yield from rate("detector_clean_fpr", detector["clean_fpr"])
    for entry in robustness["worst_case"]:
        for name in ("robust_accuracy", "malignant_to_benign_rate", "sensitivity", "specificity"):
            if entry[name] is not None:
                yield from rate(f"worst_case_{name}", entry[name], entry["epsilon_255"])
    for cell in robustness["cells"]:
        yield from rate(f"{cell['name']}_robust_accuracy", cell["robust_accuracy"], cell["epsilon_255"])
        yield Point(f"{cell['name']}_success_rate", cell["attack_success_rate"], cell["epsilon_255"])
    for row in detector["attacks"]:
        if row["adaptive"]:
            yield from rate(f"{row['attack']}_wrong_and_unflagged", row["wrong_and_unflagged"], row["epsilon_255"])
        elif not row["stops_at_boundary"]:  # the detector is measured by the variant that does not stop
            yield Point(f"{row['attack']}_detector_auc", row["auc"], row["epsilon_255"])


def rate(name: str, values: Mapping[str, float], step: int = 0) -> Iterator[Point]:
    """Yield a rate and the bounds of its interval as three metrics."""
    yield Point(name, values["value"], step)
    yield Point(f"{name}_low", values["low"], step)
    yield Point(f"{name}_high", values["high"], step)


def _history(reports: Path) -> Iterator[Point]:
    """Yield the training curves; the step is the epoch."""
    path = reports / "training" / "history.csv"
    for row in bundle.read_rows(path) if path.exists() else []:
        for column, value in row.items():
            if column != "epoch" and value:
                yield Point(f"training_{column}", float(value), int(row["epoch"]))


_CELL_RATES = ("attack_success_rate", "malignant_to_benign_rate")
_CELL_RESULTS = {  # the rest are the attack's parameters
    *_CELL_RATES,
    *(f"{name}_interval" for name in _CELL_RATES),
    *("robust_accuracy", "confusion", "seconds"),
}


def _record_cell(parent: str, experiment: str, cell: Mapping[str, Any], tags: Mapping[str, str]) -> None:
    """Record one attack at one radius as a nested run, so that MLflow draws accuracy against epsilon."""
    name = f"{cell['name']} {cell['epsilon_255']}/255"
    run_id = tracking.start_run(experiment, name, {**tags, tracking.KIND_TAG: "attack"}, parent=parent)
    tracking.log(
        run_id,
        params={key: value for key, value in cell.items() if key not in _CELL_RESULTS},
        metrics=[
            *rate("robust_accuracy", cell["robust_accuracy"]),
            *_bare_rates(cell),
            Point("seconds", cell["seconds"]),
        ],
    )
    tracking.finish_run(run_id)


def _bare_rates(cell: Mapping[str, Any]) -> Iterator[Point]:
    for name in _CELL_RATES:
        if cell[name] is not None and cell[f"{name}_interval"] is not None:
            low, high = cell[f"{name}_interval"]
            yield from rate(name, {"value": cell[name], "low": low, "high": high})
