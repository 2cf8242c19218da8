"""Stage ``attack``: every attack of the suite at every radius, scored in the runtime that serves.

Reads   models/classifier/, models/runtime/, models/surrogate/, data/splits/test.csv and its pictures,
        data/features/clean.npz
Writes  reports/robustness.json, reports/outcomes.csv, reports/illustrations.npz: pixels of example pictures,
        data/features/attacked.npz: logits and features of attacked pictures
Keeps   .buckler/attack/, outside its outputs, which DVC deletes before each run: finished parts, so that a killed run
        resumes and a later run computes no unchanged part again
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from buckler import params
from buckler.attacks.ball import on_grid
from buckler.attacks.base import Batch
from buckler.compute.machine import crafting_precision, instruction_set
from buckler.data import pictures
from buckler.evaluation import convergence, crafter_and_scorer, illustrations, reports, robustness, sanity, subgroups
from buckler.evaluation.accuracy import confusion
from buckler.evaluation.illustrations import Illustrated
from buckler.evaluation.journal import Journal
from buckler.evaluation.reports import OUTCOMES_FILE, MeasuredModel, RobustnessReport
from buckler.evaluation.suite import AttackOutcome, AttackSpec, check_names
from buckler.measurements.results import AttackedData, AttackedPicture, Illustration
from buckler.modality.base import Images, Labels, Modality
from buckler.models import checkpoint, restored
from buckler.models.classifier import Classifier
from buckler.models.forward import Forward
from buckler.models.gradients import GradientClassifier
from buckler.params import Count, CountOrAll, Real, Seed
from buckler.state import documents, paths, timings
from buckler.trust import digests
from pipelines.stage import stage

TEST = Path("data/splits/test.csv")
CLASSIFIER = Path("models/classifier")
RUNTIME = Path("models/runtime")
SURROGATE = Path("models/surrogate")
CLEAN = Path("data/features/clean.npz")
ATTACKED = Path("data/features/attacked.npz")
REPORTS = Path("reports")


@dataclass(frozen=True, slots=True)
class AttackParams:
    """Section ``attack`` of params.yaml; ``subgroups`` as `subgroups.groups` takes its bands."""

    records: CountOrAll
    batch_size: Count
    seed: Seed
    subgroups: Mapping[str, tuple[Real, ...]]
    suite: tuple[AttackSpec, ...]

    def __post_init__(self) -> None:
        """Reject duplicate names, and a suite without the white-box L-infinity attack that the sanity checks repeat."""
        check_names(self.suite)
        attacks = [spec.attack for spec in self.suite]
        if not any(attack.norm == "linf" and attack.knowledge == "white_box" for attack in attacks):
            names = ", ".join(attack.name for attack in attacks)
            raise ValueError(f"expected at least one white-box attack in the L-infinity norm (fgsm, pgd), got {names}")


def run(cfg: AttackParams) -> None:
    """Attack the test split and write the reports."""
    info = checkpoint.load_info(CLASSIFIER)
    everything = pictures.load(TEST, info.labels, info.form, description="decode test")
    test = everything.subset(cfg.records, cfg.seed)
    groups = subgroups.groups(pictures.columns(TEST, test.ids), cfg.subgroups)  # rejects unknown columns
    network = checkpoint.load_network(CLASSIFIER)
    crafter, scorer = crafter_and_scorer.choose(
        network, info, model=CLASSIFIER, batch_size=cfg.batch_size, seed=cfg.seed, runtime=RUNTIME
    )
    # An answer that is just wrong in the mean over draws may be right in the next draws: no early exit.
    randomised = info.defence == "randomised"
    suite = tuple(spec.without_early_exit() for spec in cfg.suite) if randomised else cfg.suite
    unattacked = _unattacked(everything.rows_of(test.ids))

    journal = Journal(paths.ATTACK_JOURNAL, _circumstances(cfg))
    found = robustness.evaluate(
        crafter, scorer, test, suite, info=info, clean=unattacked, seed=cfg.seed, groups=groups, journal=journal
    )
    curves = convergence.measure(
        crafter, test.images, test.truth, found.clean, found.worst, seed=cfg.seed, unit=info.form.modality.unit
    )
    checks = sanity.doubt(
        crafter,
        scorer,
        test.images,
        test.truth,
        outcomes=found.outcomes,
        clean=found.clean,
        seed=cfg.seed,
        randomised=randomised,
        surrogate=_surrogate(cfg),
        curves=curves,
        modality=info.form.modality,
    )
    shown = [
        _illustrate(cfg, outcome, test, found.guesses, info, crafter, scorer)
        for outcome in _outcomes_to_show(found, test.truth)
    ]
    report = RobustnessReport(
        model=MeasuredModel(
            digests.directory_digest(CLASSIFIER),
            digests.directory_digest(RUNTIME),
            initial_weights=info.initial_weights,
        ),
        data=AttackedData(info.data_version, len(test.ids), test.ids_digest, info.data_source),
        labels=info.labels,
        malignant=info.dangerous,
        computed_on=instruction_set(),
        clean_accuracy=found.clean_accuracy,
        clean_confusion=confusion(found.guesses, test.truth, len(info.labels)),
        cells=found.cells,
        worst_case=found.worst_case,
        subgroup_columns={column: tuple(cuts) for column, cuts in cfg.subgroups.items()},
        subgroups=found.subgroups,
        checks=tuple(checks),
        convergence=tuple(curves),
        illustrations=tuple(each.about for each in shown),
        findings=found.findings,
    )
    reports.write(report, REPORTS)
    _write_outcomes(test, info.labels, found)
    np.savez(ATTACKED, ids=np.array(test.ids), **_passes(found.outcomes))
    illustrations.write(REPORTS, shown)
    timings.record_attacks(REPORTS, found.seconds)
    journal.finish()


def _surrogate(cfg: AttackParams) -> GradientClassifier:
    network, info = checkpoint.load_network(SURROGATE), checkpoint.load_info(SURROGATE)
    classifier = Classifier(network, crafting_precision(), batch_size=cfg.batch_size)
    return restored.behind(restored.step_of(info, SURROGATE), classifier)


def _unattacked(rows: np.ndarray) -> Forward:
    with np.load(CLEAN, allow_pickle=False) as arrays:
        return Forward(arrays["test_logits"][rows], arrays["test_features"][rows])


def _write_outcomes(test: pictures.Pictures, labels: tuple[str, ...], found: robustness.RobustnessEvaluation) -> None:
    """Write for each picture whether it is right when clean, in the worst case at each radius, and in each cell."""
    clean = found.clean
    robust = {f"{o.spec.name}_{o.radius}": clean & (o.guesses == test.truth) for o in found.outcomes}
    documents.write_csv(
        REPORTS / OUTCOMES_FILE,
        [
            {"id": name, "label": labels[test.truth[i]], "clean": int(clean[i])}
            | {f"worst_{epsilon}": int(right[i]) for epsilon, right in found.worst.items()}
            | {column: int(right[i]) for column, right in robust.items()}
            for i, name in enumerate(test.ids)
        ],
    )


def _passes(outcomes: list[AttackOutcome]) -> dict[str, Any]:
    arrays = {}
    for o in outcomes:
        arrays[f"{o.spec.name}.attack"] = np.array(o.spec.attack.name)
        arrays[f"{o.spec.name}.stops_at_boundary"] = np.array(o.spec.attack.stops_at_boundary)
        name = f"{o.spec.name}@{o.radius}"
        arrays |= {name: o.features, f"{name}.logits": o.logits}
    return arrays


def _circumstances(cfg: AttackParams) -> dict[str, Any]:
    """Return what all answers depend on; the pictures are in the key of each part."""
    return {
        "model": digests.directory_digest(CLASSIFIER),
        "runtime": digests.directory_digest(RUNTIME),
        "batch_size": cfg.batch_size,
    }


def _outcomes_to_show(found: robustness.RobustnessEvaluation, truth: Labels) -> list[AttackOutcome]:
    """Return the suite's first outcome in the L-infinity norm, and the strongest of its other attacks, if any."""
    first = next(outcome for outcome in found.outcomes if outcome.spec.attack.norm == "linf")
    others = [o for o in found.outcomes if o.spec.name != first.spec.name and not o.spec.attack.control]
    return [first, *sorted(others, key=lambda o: int((found.clean & (o.guesses == truth)).sum()))[:1]]


def _illustrate(
    cfg: AttackParams,
    outcome: AttackOutcome,
    test: pictures.Pictures,
    clean_guesses: Labels,
    info: checkpoint.ModelInfo,
    crafter: GradientClassifier,
    scorer: crafter_and_scorer.Scorer,
) -> Illustrated:
    """Attack one picture of each class again: if possible one that is right when clean and was flipped.

    A class of which no picture was attacked, because ``cfg.records`` are few, is not shown.
    """
    labels = info.labels
    right, still_right = clean_guesses == test.truth, outcome.guesses == test.truth
    order = np.lexsort((still_right, ~right))
    shown = [int(order[test.truth[order] == place][0]) for place in np.unique(test.truth)]
    spec, attack, radius = outcome.spec, outcome.spec.attack, info.form.modality.unit.radius(outcome.radius)
    batch = Batch(test.images[shown], test.truth[shown], shown, cfg.seed)
    adversarial = on_grid(attack(crafter, batch, radius), batch.images, radius, attack.norm)
    after = scorer.forward(adversarial).logits.argmax(axis=1)
    answers = tuple(
        AttackedPicture(test.ids[i], labels[test.truth[i]], labels[clean_guesses[i]], labels[a])
        for i, a in zip(shown, after, strict=True)
    )
    about = Illustration(spec.name, attack.norm, outcome.radius, answers)
    return Illustrated(about, *(_drawn(side, info.form.modality) for side in (batch.images, adversarial)))


def _drawn(images: Images, modality: Modality) -> Images:
    pictures = np.stack([np.asarray(modality.draw(each)) for each in images])
    return np.asarray(pictures / np.float32(255), np.float32)


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("attack", AttackParams))


if __name__ == "__main__":
    stage(main)
