"""Stage ``detect``: decisions on clean pictures; detection of attacks that the detector was not fitted on; evasion.

Reads   models/{classifier,runtime,detector}/, data/splits/test.csv and its pictures, data/splits/calibration.csv,
        data/features/{clean,attacked}.npz
Writes  reports/detector.json, reports/decisions.json, reports/curves/detector_roc.csv
Keeps   .buckler/detect/: finished parts, so that a killed run resumes and a later run computes no unchanged part again

The suite's attacks take all their steps, without early exit. The attacks of the stage ``attack`` that exit early have
rows of their own, marked ``stops_at_boundary``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import ConfigDict, Field
from tqdm import tqdm

from buckler import params
from buckler.attacks.iterative import PGD
from buckler.attacks.table import ATTACKS
from buckler.compute.machine import crafting_precision, instruction_set
from buckler.data import pictures
from buckler.detection.reasons import Reason
from buckler.detection.screening import Screening
from buckler.evaluation import accuracy, crafter_and_scorer, decisions, detection, reports, subgroups
from buckler.evaluation.detection import Screened
from buckler.evaluation.evasion import Evader, Objective
from buckler.evaluation.journal import Journal
from buckler.evaluation.reports import DecisionsReport, DetectorReport, MeasuredModel
from buckler.evaluation.suite import AttackOutcome, AttackSpec, run_shown, run_suite
from buckler.measurements.detection import BenignChange, DetectedAttack, Strangers
from buckler.measurements.results import DataVersion
from buckler.models import checkpoint, restored
from buckler.models.forward import Forward, probabilities
from buckler.params import Count, CountOrAll, Seed
from buckler.radius import StatedRadius
from buckler.state import documents, paths
from buckler.trust.digests import directory_digest
from pipelines.settings import EvaluateParams
from pipelines.stage import stage

CALIBRATION = Path("data/splits/calibration.csv")
TEST = Path("data/splits/test.csv")
CLASSIFIER = Path("models/classifier")
RUNTIME = Path("models/runtime")
DETECTOR = Path("models/detector")
CLEAN = Path("data/features/clean.npz")
ATTACKED = Path("data/features/attacked.npz")
REPORTS = Path("reports")
ROC = REPORTS / "curves/detector_roc.csv"


@dataclass(frozen=True, slots=True)
class EvasionParams:
    """Budget of an attacker who knows the detector: PGD on each of ``objectives``."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    records: CountOrAll
    radii: tuple[StatedRadius, ...]
    steps: Count
    objectives: tuple[Objective, ...]


@dataclass(frozen=True, slots=True)
class DetectParams:
    """Section ``detect`` of params.yaml; ``records`` of the test split, ``strangers`` of each kind."""

    records: CountOrAll
    strangers: Annotated[Count, Field(le=10_000)]
    batch_size: Count
    seed: Seed
    suite: tuple[AttackSpec, ...]
    evasion: EvasionParams


class Bench:
    """The test pictures, the network, its detector, and the screened clean answers."""

    def __init__(self, cfg: DetectParams) -> None:
        self.cfg, self.info = cfg, checkpoint.load_info(CLASSIFIER)
        self.test = pictures.load(TEST, self.info.labels, self.info.form, description="decode test")
        self.network = checkpoint.load_network(CLASSIFIER)
        self.crafter, self.scorer = crafter_and_scorer.choose(
            self.network, self.info, model=CLASSIFIER, batch_size=cfg.batch_size, seed=cfg.seed, runtime=RUNTIME
        )
        self.screening = Screening.load(DETECTOR)
        with np.load(CLEAN, allow_pickle=False) as arrays:
            self.clean = self.screen(self.test, Forward(arrays["test_logits"], arrays["test_features"]))
            self.calibration_logits = arrays["calibration_logits"]
        self.journals: list[Journal] = []

    def journal(self, attacker: str) -> Journal:
        """Return the journal of one attacker's finished chunks."""
        circumstances = {"batch_size": self.cfg.batch_size, "seed": self.cfg.seed, "attacker": attacker}
        self.journals.append(Journal(paths.DETECT_JOURNAL, _digests() | circumstances))
        return self.journals[-1]

    def screen(self, clean: pictures.Pictures, forward: Forward) -> Screened:
        """Screen the answers ``forward`` to ``clean``, or to attacked copies: these have nearly the same quality."""
        return Screened.of(self.screening, clean.images, forward)

    def among(self, some: pictures.Pictures) -> Screened:
        """Return the screened clean answers to ``some`` of the test pictures."""
        return self.clean.subset(self.test.rows_of(some.ids))


_MODELS = {"digest": CLASSIFIER, "runtime": RUNTIME, "detector": DETECTOR}


def _digests() -> dict[str, str]:
    return {name: directory_digest(place) for name, place in _MODELS.items()}


def run(cfg: DetectParams, bins: int) -> None:
    """Evaluate decisions and detector and write the reports; ``bins`` as ``calibration_bins`` of `EvaluateParams`."""
    bench = Bench(cfg)
    reports.write(_decisions(bench, bins), REPORTS)
    chosen = bench.test.subset(cfg.records, cfg.seed)
    outcomes = _outcomes(bench, chosen)
    evasions = list(_evasions(bench))
    rows = [*_rows(bench, chosen, outcomes), *_boundary_rows(bench), *(evasion.row for evasion in evasions)]
    groups = subgroups.groups(pictures.columns(TEST, bench.test.ids), {})
    flagged = detection.clean_rates(bench.clean)
    report = DetectorReport(
        model=MeasuredModel(**_digests(), initial_weights=bench.info.initial_weights),
        scored_in=bench.scorer.precision,
        computed_on=instruction_set(),
        threshold=bench.screening.threshold,
        max_fpr=bench.screening.max_fpr,
        clean_fpr=flagged[Reason.ADVERSARIAL],
        clean_flagged=flagged,
        subgroups=detection.subgroup_rows(bench.clean, groups),
        attacks=tuple(rows),
        worst=detection.worst_by_radius(rows, _evaded_by_radius(evasions)),
        harmless=tuple(_benign_change_rows(bench)),
        foreign=tuple(_strangers_rows(bench)),
        risk_coverage=detection.risk_coverage(bench.clean, bench.test.truth),
    )
    reports.write(report, REPORTS)
    documents.write_csv(ROC, list(_roc_points(bench, chosen, outcomes)))
    for journal in bench.journals:
        journal.finish()


def _decisions(bench: Bench, bins: int) -> DecisionsReport:
    screening, clean, truth = bench.screening, bench.clean, bench.test.truth
    logits, answers = clean.forward.logits, clean.forward.logits.argmax(axis=1)
    raw, served = (shares.max(axis=1) for shares in (probabilities(logits), screening.probabilities(logits)))
    return DecisionsReport(
        model=MeasuredModel(**_digests(), initial_weights=bench.info.initial_weights),
        data=DataVersion(bench.info.data_version, len(truth)),
        scored_in=bench.scorer.precision,
        computed_on=instruction_set(),
        temperature=screening.temperature,
        uncalibrated_error=accuracy.calibration_error(raw, answers == truth, bins),
        calibration_error=accuracy.calibration_error(served, answers == truth, bins),
        reliability=decisions.confidence_bins(served, answers == truth, bins),
        danger=decisions.measured_limit(
            screening, bench.calibration_logits, pictures.truth_of(CALIBRATION, bench.info.labels)
        ),
        with_limit=decisions.measure(clean.flags, answers, truth, screening.dangerous),
        without_limit=decisions.measure(decisions.without_limit(clean.flags), answers, truth, screening.dangerous),
    )


def _roc_points(
    bench: Bench, chosen: pictures.Pictures, outcomes: list[AttackOutcome]
) -> Iterator[dict[str, str | float]]:
    """Yield the points of each attack's ROC curve: its attacked pictures against the clean test pictures."""
    for o in outcomes:
        attacked = bench.screen(chosen, Forward(o.logits, o.features)).scores
        for x, y in zip(*detection.curve(bench.clean.scores, attacked, corners=True), strict=True):
            yield {"attack": o.spec.name, "radius": str(o.radius), "fpr": x, "tpr": y}


def _outcomes(bench: Bench, chosen: pictures.Pictures) -> list[AttackOutcome]:
    suite = tuple(spec.without_early_exit() for spec in bench.cfg.suite)
    return run_shown(
        bench.crafter,
        bench.scorer,
        chosen.images,
        chosen.truth,
        suite,
        description="attack the detector's pictures",
        seed=bench.cfg.seed,
        clean=bench.among(chosen).forward,
        unit=bench.info.form.modality.unit,
        journal=bench.journal("unaware"),
    )


def _rows(bench: Bench, chosen: pictures.Pictures, outcomes: list[AttackOutcome]) -> Iterator[DetectedAttack]:
    for outcome in outcomes:
        attacked = bench.screen(chosen, Forward(outcome.logits, outcome.features))
        yield detection.attack_row(bench.clean, attacked, chosen.truth, **_facts(outcome.spec, outcome.radius))


def _boundary_rows(bench: Bench) -> Iterator[DetectedAttack]:
    """Yield a row for each attack of the stage ``attack`` that stops as soon as the answer is wrong."""
    with np.load(ATTACKED, allow_pickle=False) as arrays:
        found: Mapping[str, Any] = dict(arrays)
    some = bench.test.at(bench.test.rows_of(found["ids"].tolist()))
    for cell in (key.removesuffix(".logits") for key in found if key.endswith(".logits")):
        line, _, radius = cell.partition("@")
        if found[f"{line}.stops_at_boundary"]:
            attacked = bench.screen(some, Forward(found[f"{cell}.logits"], found[cell]))
            norm = ATTACKS[str(found[f"{line}.attack"])].norm
            facts: dict[str, Any] = {
                "attack": line,
                "norm": norm,
                "radius": StatedRadius(radius),
                "stops_at_boundary": True,
            }
            yield detection.attack_row(bench.clean, attacked, some.truth, **facts)


@dataclass(frozen=True, slots=True)
class Evasion:
    """Result of PGD that knows the detector, for one objective and radius.

    Attributes:
        radius: The radius.
        row: In the report.
        evaded: Which pictures are wrong and not flagged, ``(n,)``.
    """

    radius: StatedRadius
    row: DetectedAttack
    evaded: detection.Flagged


def _evasions(bench: Bench) -> Iterator[Evasion]:
    """Attack network and detector together, with each objective at each radius."""
    cfg = bench.cfg.evasion
    if bench.info.defence == "randomised" or not cfg.radii:
        return  # the gradient of one random draw says little; a gate with a limit for this number then fails
    some = bench.test.subset(cfg.records, bench.cfg.seed)
    spec, step = AttackSpec(PGD(steps=cfg.steps), cfg.radii), restored.step_of(bench.info, CLASSIFIER)
    for objective in tqdm(cfg.objectives, unit="objective", desc="attack network and detector"):
        evader = Evader(
            bench.network, bench.screening, objective, crafting_precision(), batch_size=bench.cfg.batch_size
        )
        line = replace(spec, name=f"pgd-{objective}")
        for outcome in run_suite(
            restored.behind(step, evader),
            bench.scorer,
            some.images,
            some.truth,
            (line,),
            seed=bench.cfg.seed,
            clean=bench.among(some).forward,
            unit=bench.info.form.modality.unit,
            journal=bench.journal(objective),
        ):
            attacked = bench.screen(some, Forward(outcome.logits, outcome.features))
            facts = _facts(line, outcome.radius) | {"stops_at_boundary": True, "objective": objective}
            row = detection.attack_row(bench.clean, attacked, some.truth, adaptive=True, **facts)
            yield Evasion(outcome.radius, row, attacked.wrong_and_unflagged(some.truth))


def _evaded_by_radius(evasions: Sequence[Evasion]) -> dict[StatedRadius, detection.Flagged]:
    """Return for each radius which pictures evade the detector by any objective: the attacker tries all of them."""
    evaded: dict[StatedRadius, detection.Flagged] = {}
    for evasion in evasions:
        evaded[evasion.radius] = evasion.evaded | evaded.get(evasion.radius, False)
    return evaded


def _benign_change_rows(bench: Bench) -> Iterator[BenignChange]:
    generator = np.random.default_rng(bench.cfg.seed)
    for name, change in tqdm(
        bench.info.form.modality.evaluation_changes.items(), unit="change", desc="change without attack"
    ):
        changed = change(bench.test.images, generator)
        screened = Screened.of(bench.screening, changed, bench.scorer.forward(changed))
        yield detection.benign_change_row(bench.clean, screened, name)


def _strangers_rows(bench: Bench) -> Iterator[Strangers]:
    for kind, draw in bench.info.form.modality.strangers.items():
        images = draw(bench.cfg.strangers, bench.info.shape, bench.cfg.seed)
        yield detection.strangers_row(Screened.of(bench.screening, images, bench.scorer.forward(images)), kind)


def _facts(spec: AttackSpec, radius: StatedRadius) -> dict[str, Any]:
    return {
        "attack": spec.name,
        "norm": spec.attack.norm,
        "radius": radius,
        "steps": spec.attack.settings.get("steps", 1),
        "stops_at_boundary": False,
    }


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("detect", DetectParams), params.load("evaluate", EvaluateParams).calibration_bins)


if __name__ == "__main__":
    stage(main)
