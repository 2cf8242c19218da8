"""Job ``reevaluate``: repeats the white-box attacks on the champion and lets the gate decide again.

Reads   the champion's release from the registry, data/splits/*.csv and the test pictures; the newest labelled pictures
        if watch.recent.path is set
Writes  .buckler/watch/reevaluate.json, a run in MLflow
Keeps   .buckler/watch/attack/: progress, to resume after a kill

The job fails if the champion no longer meets its verdict on the pinned or on the newest pictures, evaluated
separately. A pass renews the verdict (`buckler.trust.standing`), which needs the private key.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from buckler import params
from buckler.data import pictures, recent
from buckler.data.pictures import Pictures
from buckler.errors import BucklerError, DataError, ParamsError
from buckler.evaluation import accuracy, crafter_and_scorer, reports, robustness, subgroups
from buckler.evaluation.journal import Journal
from buckler.evaluation.reports import RobustnessReport
from buckler.evaluation.suite import AttackSpec, check_names
from buckler.measurements.results import Cell
from buckler.measurements.stated import Measured, MeasuredFinding
from buckler.modality.base import RadiusUnit
from buckler.models import checkpoint
from buckler.release import gate, publish, tracking
from buckler.release.assess import Assessor
from buckler.release.bundle import policy_of
from buckler.release.evidence import Evidence
from buckler.release.policy import Policy
from buckler.release.settings import PublishParams
from buckler.serving.assessment import Assessment, ReasonCode
from buckler.serving.registry import DIGEST_TAG, OUTCOME_TAG, Registry
from buckler.state import paths
from buckler.state.locations import Location
from buckler.trust import keys
from buckler.trust.verdict import EVIDENCE_DIR, MODEL_DIR, Verdict
from buckler.watch.settings import WatchParams
from buckler.watch.state import note_champion, write_state
from buckler.watch.table import Finding

SPLITS = Path("data/splits")
JOB = "reevaluate"
BATCH_SIZE = 32
PINNED, NEWEST = "pinned", "newest"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SetEvaluation:
    """The champion's evaluation on one set of pictures.

    Attributes:
        evidence: Input of the gate.
        cells: Results of each attack at each radius.
        decision: Decision of the gate on these pictures alone.
        unit: Of the radii.
    """

    evidence: Evidence
    cells: tuple[Cell, ...]
    decision: gate.GateDecision
    unit: RadiusUnit

    def as_state(self) -> dict[str, Any]:
        """Return the state stored for the exporter."""
        measured = Measured(
            clean_accuracy=self.evidence.clean_accuracy,
            worst_case=tuple((self.evidence.worst_case or {}).values()),
            attacks=self.cells,
        )
        reasons = list(self.decision.failures)
        return {"images": self.evidence.pictures, "measured": measured.document(), "reasons": reasons}


def run() -> Finding:
    """Attack the champion as configured in params.yaml, report, and return whether it still passes."""
    cfg, names = params.load("watch", WatchParams), params.load("publish", PublishParams)
    suite = suite_of(cfg)
    assessor = Assessor(Registry(names.model_name))
    # The release stays on disk for the hours that the attacks take.
    with assessor.opened(assessor.registry.champion()) as (release, assessment):
        note_standing(assessment)
        # Expiry is not checked: an expired champion that passes is renewed.
        verdict = release.require()
        policy = policy_of(verdict)
        released = reports.read(RobustnessReport, release.files / EVIDENCE_DIR)
        journal = Journal(paths.WATCH_JOURNAL, {"model": verdict.subject_digest, "batch_size": BATCH_SIZE})
        subject = Subject(release.files / MODEL_DIR, cfg, suite, journal, policy)
        evaluations = {PINNED: subject.pinned(released.subgroup_columns)}
        if cfg.recent.path:
            evaluations[NEWEST] = subject.newest()
    state = _state(assessment, verdict, policy, evaluations)
    write_state(JOB, state)
    _record(cfg, names, state, evaluations)
    if _can_sign():  # without the key the progress is kept: a retry with the key need not attack again
        journal.forget()  # the next job must attack again
    counts = " and ".join(f"{each.evidence.pictures} {name}" for name, each in evaluations.items())
    version = assessment.version
    message = f"{version.model} version {version.version}, {counts} pictures: {'; '.join(state['reasons']) or 'passed'}"
    return Finding(state["passed"], message, version=version.version, renews_days=policy.valid_days)


def suite_of(cfg: WatchParams) -> tuple[AttackSpec, ...]:
    """Return ``watch.suite``.

    Raises:
        ParamsError: An entry is not a valid attack of a suite.
    """
    try:
        suite = TypeAdapter(tuple[AttackSpec, ...]).validate_python([dict(line) for line in cfg.suite])
        check_names(suite)
    except ValidationError as error:
        faults = "; ".join(f"line {fault['loc'][0]}: {fault['msg']}" for fault in error.errors())
        raise ParamsError(f"params.yaml: watch.suite: {faults}") from error
    except ValueError as error:
        raise ParamsError(f"params.yaml: watch.suite: {error}") from error
    if not suite:
        raise ParamsError("params.yaml: watch.suite: expected at least one attack, got none")
    return suite


def note_standing(assessment: Assessment) -> None:
    """Store the champion's standing before the attack, for the exporter."""
    for reason in assessment.reasons:
        log.warning("%s", reason)
    if standing := assessment.standing:
        times = {"issued_at": standing.issued_at, "expires_at": standing.expires_at}
        note_champion(assessment.version.version, state=standing.state, reasons=standing.reasons, **times)


class Subject:
    """The champion under attack.

    Args:
        model: A release's ``model/``.
        cfg: Numbers of pictures, and seed.
        suite: The attacks.
        journal: Progress of an interrupted run.
        policy: Policy of its verdict.
    """

    def __init__(
        self, model: Location, cfg: WatchParams, suite: Sequence[AttackSpec], journal: Journal, policy: Policy
    ) -> None:
        self._cfg, self._suite, self._journal, self._policy = cfg, suite, journal, policy
        self._info = checkpoint.load_info(model)
        self._sides = crafter_and_scorer.choose(
            checkpoint.load_network(model),
            self._info,
            model=model,
            batch_size=BATCH_SIZE,
            seed=cfg.seed,
            runtime=model,
        )

    def pinned(self, bands: subgroups.Bands) -> SetEvaluation:
        """Attack the pinned test pictures.

        Args:
            bands: Subgroups to report, as in the release's own evidence.

        Raises:
            DataError: The model was trained on data other than the local data, so its training data may include
                the local test split.
        """
        info, here = self._info, pictures.version(SPLITS)
        if here != info.data_version:
            raise DataError(
                f"the champion was trained on data {info.data_version}, {SPLITS} contains {here}; "
                "check out that version (`git checkout`, `dvc checkout`) or promote a model trained on this one"
            )
        everything = pictures.load(SPLITS / "test.csv", info.labels, info.form, description="decode test")
        test = everything.subset(self._cfg.records, self._cfg.seed)
        return self._measure(test, pictures.columns(SPLITS / "test.csv", test.ids), bands)

    def newest(self) -> SetEvaluation:
        """Attack the newest labelled pictures.

        Raises:
            DataError: The model was trained on all of them.
        """
        info, cfg = self._info, self._cfg.recent
        learnt = [SPLITS / "train.csv", SPLITS / "calibration.csv"]
        found = recent.load_recent(Path(cfg.path), info.labels, info.form, count=cfg.records, known=learnt)
        return self._measure(found, {"label": [info.labels[place] for place in found.truth]}, {})

    def _measure(self, test: Pictures, columns: dict[str, list[str]], bands: subgroups.Bands) -> SetEvaluation:
        info, (crafter, scorer) = self._info, self._sides
        clean = scorer.forward(test.images)
        found = robustness.evaluate(
            crafter,
            scorer,
            test,
            self._suite,
            info=info,
            clean=clean,
            seed=self._cfg.seed,
            groups=subgroups.groups(columns, bands),
            journal=self._journal,
        )
        evidence = Evidence(
            pictures=len(test.ids),
            labels=info.labels,
            clean_accuracy=found.clean_accuracy,
            worst_case={entry.radius: entry for entry in found.worst_case},
            subgroups=found.subgroups,
            malignant_recall=accuracy.danger_recall(found.guesses, test.truth, info.labels, info.dangerous),
            findings={
                name: MeasuredFinding(clean=row, worst_case=found.findings[name])
                for name, row in accuracy.finding_rows(clean.logits, test.truth, info.labels, info.findings).items()
            },
            dangerous=info.dangerous,
        )
        decision = gate.decide_again(evidence, self._policy)
        return SetEvaluation(evidence, found.cells, decision, info.form.modality.unit)


def _state(
    assessment: Assessment, verdict: Verdict, policy: Policy, evaluations: dict[str, SetEvaluation]
) -> dict[str, Any]:
    failures, reasons = _failures(assessment, evaluations)
    version = assessment.version
    return {
        "schema": 3,
        "finished_at": datetime.now(UTC).isoformat(),
        "model": {"name": version.model, "version": version.version, "digest": verdict.subject_digest},
        "verdict": {"id": verdict.id, "expires_at": verdict.expires_at.isoformat()},
        "passed": not reasons,
        "failures": failures,
        "floors": dict(sorted(policy.min_robust_accuracy.items())),
        **evaluations[PINNED].as_state(),
        "reasons": reasons,
        **({NEWEST: evaluations[NEWEST].as_state()} if NEWEST in evaluations else {}),
    }


def _failures(assessment: Assessment, evaluations: dict[str, SetEvaluation]) -> tuple[list[str], list[str]]:
    """Return the reasons for failure: as labels of the metric, and as sentences."""
    kinds, reasons = [], []
    for name, evaluation in evaluations.items():
        prefix = "" if name == PINNED else f"{name} pictures: "
        kinds += [kind if name == PINNED else f"{name}_{kind}" for kind in evaluation.decision.kinds]
        reasons += [f"{prefix}{failure}" for failure in evaluation.decision.failures]
    if ReasonCode.FAILED in assessment.codes:
        kinds.append("verdict_failed")
        reasons.append("its verdict states that it did not pass the gate")
    return kinds, reasons


def _can_sign() -> bool:
    try:
        keys.load_signing_key(keys.PROMOTIONS)
    except BucklerError:
        return False
    return True


def _record(
    cfg: WatchParams, names: PublishParams, state: dict[str, Any], evaluations: dict[str, SetEvaluation]
) -> None:
    tags = {
        tracking.KIND_TAG: "job",
        "job": JOB,
        "model_version": state["model"]["version"],
        DIGEST_TAG: state["model"]["digest"],
        OUTCOME_TAG: "passed" if state["passed"] else "failed",
    }
    run_id = tracking.start_run(names.experiment, f"{JOB} {state['finished_at']}", tags)
    points = [
        point
        for name, evaluation in evaluations.items()
        for point in _points(evaluation, "" if name == PINNED else f"{name}_")
    ]
    parameters = publish.flatten({"watch": asdict(cfg)})
    tracking.log(run_id, params=parameters, metrics=points)
    tracking.finish_run(run_id)


def _points(evaluation: SetEvaluation, before: str) -> Iterator[tracking.Point]:
    if clean := evaluation.evidence.clean_accuracy:
        yield from publish.rate_points(f"{before}clean_accuracy", clean)
    for cell in evaluation.cells:
        name = f"{before}{cell.name}_robust_accuracy"
        yield from publish.rate_points(name, cell.robust_accuracy, evaluation.unit.grid_steps(cell.radius))
