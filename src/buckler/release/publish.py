"""Records one pipeline execution in MLflow and registers its release as the challenger.

The reports are the source; MLflow repeats their numbers for its views.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from buckler.measurements.results import Cell, Interval, Rate
from buckler.measurements.stated import Measured, MeasuredDetector
from buckler.modality.base import RadiusUnit
from buckler.models.info import load_info
from buckler.release import tracking
from buckler.release.evidence import read_reports
from buckler.release.settings import PublishParams
from buckler.release.tracking import Point
from buckler.serving import model_card, registry, release_cache
from buckler.serving.aliases import CHALLENGER
from buckler.serving.version import Version
from buckler.state import documents, timings
from buckler.state.timings import Timings
from buckler.trust import digests
from buckler.trust.opened_files import OpenedFiles
from buckler.trust.verdict import EVIDENCE_DIR, MODEL_DIR, Source, Verdict

_PIPELINE, _ATTACK = _KINDS = ("pipeline", "attack")  # of runs
_IDENTITY = (registry.DIGEST_TAG, registry.VERDICT_TAG, registry.OUTCOME_TAG)


@dataclass(frozen=True, slots=True)
class Published:
    """A release's run and version in the registry; ``created`` is False if it was already registered."""

    run_id: str
    version: str
    created: bool


def publish(
    release: OpenedFiles,
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
        release: Files of a directory named ``release``, from which ``verdict`` was read.
        reports: Directory of JSON reports, ``plots/*.png`` and ``training/history.csv``.
        names: Names of the experiment and the registered model.
        parameters: The whole of params.yaml.
        source: Commit of the code.
        verdict: Verdict of ``release``, passing or not.
        lock: DVC's lock file; its digest is recorded where it exists.

    Raises:
        RegistryError: The registry cannot be reached.
    """
    model = tracking.WritableRegistry(names.model_name)
    # DVC's lock on the stages lets one publication run at a time in a project.
    tracking.end_unfinished(names.experiment, _KINDS)
    published = _published(model, verdict)
    if published is None:
        # Runs of an earlier publication that was killed before it registered its version.
        tracking.delete_runs(names.experiment, registry.VERDICT_TAG, verdict.id)
        tags, text = _tags(release, source, verdict, lock), _card(release, verdict, names.model_name)
        run_id = tracking.start_run(names.experiment, _name(names, verdict), {**tags, tracking.NOTE_TAG: text})
        uri = _record(run_id, release, reports, names.experiment, parameters, tags)
        number = model.register(uri, tags={name: tags[name] for name in _IDENTITY}, description=text)
        published = Published(run_id, number, True)
    model.set_alias(CHALLENGER, published.version)
    return published


def _published(model: registry.Registry, verdict: Verdict) -> Published | None:
    """Return the version of the registry that has this release, files included; None without one."""
    for entry in reversed(model.versions()):
        same = (entry.verdict, entry.digest) == (verdict.id, verdict.subject_digest)
        if same and _is_whole(model, entry):
            return Published(entry.run_id, entry.version, False)
    return None


def _is_whole(model: registry.Registry, entry: Version) -> bool:
    """Return whether the files of ``entry`` are still where the registry says: it may have lost them."""
    with release_cache.shared(model) as cache, cache.opened(entry, fresh=True, store=False) as found:
        return found.authentic


def _name(names: PublishParams, verdict: Verdict) -> str:
    return f"{names.model_name} {verdict.subject_digest.removeprefix('sha256:')[:8]}"


def _card(release: OpenedFiles, verdict: Verdict, name: str) -> str:
    info = load_info(release / MODEL_DIR)
    # The registry assigns the number afterwards; the card is shown without it.
    card = model_card.card(verdict, info, name=name, version="", now=datetime.now(UTC))
    return model_card.markdown(card)


def _tags(release: OpenedFiles, source: Source, verdict: Verdict, lock: Path) -> dict[str, str]:
    return {
        tracking.KIND_TAG: _PIPELINE,
        "data_version": load_info(release / MODEL_DIR).data_version,
        "git_commit": f"{source.commit or 'none'}{'+dirty' if source.dirty else ''}",
        "defence": load_info(release / MODEL_DIR).defence,
        registry.DIGEST_TAG: verdict.subject_digest,
        registry.VERDICT_TAG: verdict.id,
        registry.OUTCOME_TAG: "passed" if verdict.passed else "failed",
        "dvc_lock": digests.file_digest(lock) if lock.exists() else "none",
    }


def _record(
    run_id: str,
    release: OpenedFiles,
    reports: Path,
    experiment: str,
    parameters: Mapping[str, Any],
    tags: Mapping[str, str],
) -> str:
    measured = read_reports(release / EVIDENCE_DIR).measured
    times = timings.read(reports)
    info = load_info(release / MODEL_DIR)
    points = [*_summary(measured, info.form.modality.unit), *_history(reports), *_stage_seconds(times)]
    tracking.log(run_id, params=flatten(parameters), metrics=points)
    for cell in measured.attacks:
        _record_cell(run_id, experiment, cell, times.attacks.get(f"{cell.name}@{cell.radius}"), tags)
    files = [path for path in sorted(reports.glob("*.json")) if path.name != "publish.json"]
    tracking.attach(run_id, "reports", [*files, *sorted(reports.glob("*.csv")), *sorted(reports.glob("*.html"))])
    tracking.attach(run_id, "reports/training", sorted(reports.glob("training/*.csv")))
    tracking.attach(run_id, "plots", sorted(reports.glob("plots/*.png")))
    # From its path: whoever downloads it verifies it again.
    uri = tracking.log_release(run_id, release.path, labels=info.labels, shape=info.shape)
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


def _summary(measured: Measured, unit: RadiusUnit) -> Iterator[Point]:
    """Yield the headline numbers; where a radius matters the step is its number of steps of the grid."""
    yield from _rate("clean_accuracy", measured.clean_accuracy)
    yield from _rate("balanced_accuracy", measured.balanced_accuracy)
    yield from _rate("malignant_recall", measured.malignant_recall)
    yield from _number("roc_auc", measured.roc_auc)
    yield from _bounds("roc_auc", measured.roc_auc_interval)
    yield from _number("calibration_error", measured.calibration_error)
    if measured.decisions:
        yield from _rate("accepted_misses", measured.decisions.with_limit.accepted_misses)
        yield from _rate("reviews", measured.decisions.with_limit.reviews)
    for row in measured.worst_case:
        step = unit.grid_steps(row.radius)
        yield from _rate("worst_case_robust_accuracy", row.robust_accuracy, step)
        yield from _rate("worst_case_malignant_to_benign_rate", row.malignant_to_benign_rate, step)
        yield from _rate("worst_case_sensitivity", row.sensitivity, step)
        yield from _rate("worst_case_specificity", row.specificity, step)
    for name, finding in measured.findings.items():
        yield from _number(f"finding_{name}_roc_auc", finding.clean.roc_auc)
        rates = [(0, finding.clean.sensitivity, finding.clean.specificity)]
        rates += [(unit.grid_steps(row.radius), row.sensitivity, row.specificity) for row in finding.worst_case]
        for step, sensitivity, specificity in rates:
            yield from _rate(f"finding_{name}_sensitivity", sensitivity, step)
            yield from _rate(f"finding_{name}_specificity", specificity, step)
    for cell in measured.attacks:
        step = unit.grid_steps(cell.radius)
        yield from _rate(f"{cell.name}_robust_accuracy", cell.robust_accuracy, step)
        yield Point(f"{cell.name}_success_rate", cell.attack_success_rate, step)
    if measured.detector:
        yield from _detector(measured.detector, unit)


def _detector(detector: MeasuredDetector, unit: RadiusUnit) -> Iterator[Point]:
    yield from _rate("detector_clean_fpr", detector.clean_fpr)
    for row in detector.attacks:
        step = unit.grid_steps(row.radius)
        if row.adaptive:
            yield from _rate(f"{row.attack}_wrong_and_unflagged", row.wrong_and_unflagged, step)
        elif not row.stops_at_boundary:  # the detector is measured by the variant that does not stop
            yield Point(f"{row.attack}_detector_auc", row.auc, step)


def _rate(name: str, rate: Rate | None, step: int = 0) -> Iterator[Point]:
    return iter(()) if rate is None else rate_points(name, rate, step)


def _number(name: str, value: float | None) -> Iterator[Point]:
    if value is not None:
        yield Point(name, value)


def _bounds(name: str, interval: Interval | None) -> Iterator[Point]:
    if interval is not None:
        yield Point(f"{name}_low", interval[0])
        yield Point(f"{name}_high", interval[1])


def rate_points(name: str, rate: Rate, step: int = 0) -> Iterator[Point]:
    """Yield a rate and the bounds of its interval as three metrics."""
    yield Point(name, rate.value, step)
    yield Point(f"{name}_low", rate.low, step)
    yield Point(f"{name}_high", rate.high, step)


def _stage_seconds(times: Timings) -> Iterator[Point]:
    for stage, time in times.stages.items():
        yield Point(f"stage_{stage}_seconds", time.seconds)


def _history(reports: Path) -> Iterator[Point]:
    """Yield the training curves; the step is the epoch."""
    path = reports / "training" / "history.csv"
    for row in documents.read_csv(path) if path.exists() else []:
        for column, value in row.items():
            if column != "epoch" and value:
                yield Point(f"training_{column}", float(value), int(row["epoch"]))


_CELL_RATES = ("attack_success_rate", "malignant_to_benign_rate")
_CELL_RESULTS = {  # the rest are the attack's parameters
    *_CELL_RATES,
    *(f"{name}_interval" for name in _CELL_RATES),
    *("robust_accuracy", "confusion"),
}


def _record_cell(parent: str, experiment: str, cell: Cell, seconds: float | None, tags: Mapping[str, str]) -> None:
    """Record one attack at one radius as a nested run, so that MLflow draws accuracy against epsilon."""
    name = f"{cell.name} {cell.radius}"
    run_id = tracking.start_run(experiment, name, {**tags, tracking.KIND_TAG: _ATTACK}, parent=parent)
    tracking.log(
        run_id,
        params={key: value for key, value in asdict(cell).items() if key not in _CELL_RESULTS},
        metrics=[
            *rate_points("robust_accuracy", cell.robust_accuracy),
            *_bare_rate("attack_success_rate", cell.attack_success_rate, cell.attack_success_rate_interval),
            *_bare_rate(
                "malignant_to_benign_rate", cell.malignant_to_benign_rate, cell.malignant_to_benign_rate_interval
            ),
            *_number("seconds", seconds),
        ],
    )
    tracking.finish_run(run_id)


def _bare_rate(name: str, value: float | None, interval: Interval | None) -> Iterator[Point]:
    if value is not None and interval is not None:
        yield Point(name, value)
        yield from _bounds(name, interval)
