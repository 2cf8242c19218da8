"""Stage ``attack``: every attack of the suite at every radius, scored in the runtime that serves.

Reads   models/classifier/, models/runtime/, models/surrogate/, data/splits/test.csv and its pictures,
        data/features/clean.npz
Writes  reports/robustness.json, reports/robustness.html, reports/outcomes.csv,
        reports/plots/{robustness.csv,robustness.png,confusion_attacked.png,triptych.png},
        data/features/attacked.npz: logits and features of attacked pictures
Keeps   .buckler/attack/, outside its outputs, which DVC deletes before each run: state from which a killed run resumes
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from buckler import params
from buckler.attacks.ball import as_8_bit
from buckler.attacks.base import Batch
from buckler.compute.machine import crafting_precision
from buckler.data import pictures
from buckler.evaluation import convergence, crafter_and_scorer, robustness, sanity, subgroups
from buckler.evaluation.accuracy import confusion
from buckler.evaluation.journal import Journal
from buckler.evaluation.statistics import Rate, wilson
from buckler.evaluation.suite import AttackOutcome, AttackSpec, check_names
from buckler.modality.base import Radius
from buckler.models import checkpoint
from buckler.models.classifier import Classifier, GradientClassifier
from buckler.models.forward import Forward
from buckler.reporting import page, plots
from buckler.state import documents, paths
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

    records: int
    batch_size: int
    seed: int
    subgroups: Mapping[str, tuple[float, ...]]
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
    everything = pictures.load(TEST, info.labels, size=info.image_size, description="decode test")
    test = everything.subset(cfg.records, cfg.seed)
    groups = subgroups.groups(pictures.columns(TEST, test.ids), cfg.subgroups)  # rejects unknown columns
    network = checkpoint.load_network(CLASSIFIER)
    crafter, scorer = crafter_and_scorer.choose(
        network, info, batch_size=cfg.batch_size, seed=cfg.seed, runtime=RUNTIME
    )
    # An answer that is just wrong in the mean over draws may be right in the next draws: no early exit.
    randomised = info.defence == "randomised"
    suite = tuple(spec.without_early_exit() for spec in cfg.suite) if randomised else cfg.suite
    unattacked = _unattacked(everything.rows_of(test.ids))
    clean_guesses = unattacked.logits.argmax(axis=1)
    clean = clean_guesses == test.truth

    journal = Journal(paths.ATTACK_JOURNAL, _circumstances(cfg, info, test))
    found = robustness.evaluate(
        crafter, scorer, test, suite, info=info, clean=unattacked, seed=cfg.seed, journal=journal
    )
    curves = convergence.measure(crafter, test.images, test.truth, clean, found.worst, seed=cfg.seed)
    checks = sanity.doubt(
        crafter,
        scorer,
        test.images,
        test.truth,
        outcomes=found.outcomes,
        clean=clean,
        seed=cfg.seed,
        randomised=randomised,
        surrogate=Classifier(checkpoint.load_network(SURROGATE), crafting_precision(), batch_size=cfg.batch_size),
        curves=curves,
    )
    documents.write_json(
        REPORTS / "robustness.json",
        {
            "schema": 1,
            "model": {
                "digest": digests.directory_digest(CLASSIFIER),
                "runtime": digests.directory_digest(RUNTIME),
            },
            "data": {"version": info.data_version, "images": len(test.ids), "ids_sha256": test.ids_digest},
            "labels": info.labels,
            "malignant": info.dangerous,
            "clean_accuracy": wilson(int(clean.sum()), len(clean)),
            "clean_confusion": confusion(clean_guesses, test.truth, len(info.labels)),
            "cells": found.cells,
            "worst_case": robustness.worst_case_rates(
                found.outcomes, clean_guesses, test.truth, labels=info.labels, dangerous=info.dangerous
            ),
            "subgroup_columns": cfg.subgroups,
            "subgroups": robustness.subgroup_rates(
                groups, found.outcomes, clean_guesses, test.truth, labels=info.labels, dangerous=info.dangerous
            ),
            "checks": [asdict(check) for check in checks],
            "convergence": curves,
        },
    )
    _write_outcomes(test, info.labels, clean, found)
    np.savez(ATTACKED, ids=np.array(test.ids), **_passes(found.outcomes))
    triptychs = [
        _triptychs(cfg, outcome, test, clean_guesses, info.labels, crafter, scorer)
        for outcome in _illustrated(found.outcomes, clean, test.truth)
    ]
    _draw(found.cells, found.worst, clean_guesses, test.truth, info.labels, triptychs[0])
    text = page.render(documents.read_json(REPORTS / "robustness.json"), triptychs)
    (REPORTS / "robustness.html").write_text(text, encoding="utf-8")
    journal.finish()


def _unattacked(rows: np.ndarray) -> Forward:
    with np.load(CLEAN, allow_pickle=False) as arrays:
        return Forward(arrays["test_logits"][rows], arrays["test_features"][rows])


def _write_outcomes(
    test: pictures.Pictures,
    labels: tuple[str, ...],
    clean: robustness.Right,
    found: robustness.RobustnessEvaluation,
) -> None:
    """Write for each picture whether it is right when clean, in the worst case at each radius, and in each cell."""
    robust = {f"{o.spec.name}_{o.epsilon_255}": clean & (o.guesses == test.truth) for o in found.outcomes}
    documents.write_csv(
        REPORTS / "outcomes.csv",
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
        name = f"{o.spec.name}@{o.epsilon_255}"
        arrays |= {name: o.features, f"{name}.logits": o.logits}
    return arrays


def _circumstances(cfg: AttackParams, info: checkpoint.ModelInfo, test: pictures.Pictures) -> dict[str, Any]:
    return {
        "model": digests.directory_digest(CLASSIFIER),
        "runtime": digests.directory_digest(RUNTIME),
        "data": info.data_version,
        "ids": test.ids_digest,
        "batch_size": cfg.batch_size,
    }


def _draw(
    cells: list[robustness.Cell],
    worst: dict[int, robustness.Right],
    clean_guesses: np.ndarray,
    truth: np.ndarray,
    labels: tuple[str, ...],
    triptychs: page.Triptychs,
) -> None:
    rows = [
        {
            "attack": c.name,
            "epsilon_255": c.epsilon_255,
            "robust_accuracy": c.robust_accuracy.value,
            "low": c.robust_accuracy.low,
            "high": c.robust_accuracy.high,
        }
        for c in cells
    ]
    documents.write_csv(REPORTS / "plots/robustness.csv", rows)
    chance = float(np.bincount(truth).max() / len(truth))
    curves: dict[str, dict[int, Rate]] = {}
    for c in sorted((c for c in cells if c.norm == "linf"), key=lambda c: c.epsilon_255):
        curves.setdefault(c.name, {})[c.epsilon_255] = c.robust_accuracy
    lowest = {epsilon: wilson(int(right.sum()), len(right)) for epsilon, right in worst.items()}
    clean = float((clean_guesses == truth).mean())
    plots.robustness(curves, lowest, clean, chance, REPORTS / "plots/robustness.png")
    before = confusion(clean_guesses, truth, len(labels))
    after = {f"{c.name} {c.epsilon_255}/255": c.confusion for c in _strongest(cells)}
    plots.confusions({"clean": before, **after}, labels, REPORTS / "plots/confusion_attacked.png")
    shown = triptychs.examples
    attack = f"{triptychs.attack} {triptychs.epsilon_255}/255"
    captions = [(f"true {e.truth}, answer {e.before}", f"{attack}: {e.after}") for e in shown]
    images, adversarial = (np.stack(side) for side in zip(*((e.clean, e.adversarial) for e in shown), strict=True))
    plots.triptych(images, adversarial, captions, REPORTS / "plots/triptych.png")


def _strongest(cells: list[robustness.Cell]) -> list[robustness.Cell]:
    names = dict.fromkeys(cell.name for cell in cells)
    return [min((c for c in cells if c.name == n), key=lambda c: c.robust_accuracy.value) for n in names]


def _illustrated(outcomes: list[AttackOutcome], clean: robustness.Right, truth: np.ndarray) -> list[AttackOutcome]:
    """Return the suite's first outcome in the L-infinity norm, and the strongest of its other attacks, if any."""
    first = next(outcome for outcome in outcomes if outcome.spec.attack.norm == "linf")
    others = [o for o in outcomes if o.spec.name != first.spec.name and not o.spec.attack.control]
    return [first, *sorted(others, key=lambda o: int((clean & (o.guesses == truth)).sum()))[:1]]


def _triptychs(
    cfg: AttackParams,
    outcome: AttackOutcome,
    test: pictures.Pictures,
    clean_guesses: np.ndarray,
    labels: tuple[str, ...],
    crafter: GradientClassifier,
    scorer: crafter_and_scorer.Scorer,
) -> page.Triptychs:
    """Attack one picture of each class again: if possible one that is right when clean and was flipped.

    A class of which no picture was attacked, because ``cfg.records`` are few, is not shown.
    """
    right, still_right = clean_guesses == test.truth, outcome.guesses == test.truth
    order = np.lexsort((still_right, ~right))
    shown = [int(order[test.truth[order] == place][0]) for place in np.unique(test.truth)]
    spec, attack, radius = outcome.spec, outcome.spec.attack, Radius(outcome.epsilon_255 / 255)
    batch = Batch(test.images[shown], test.truth[shown], shown, cfg.seed)
    adversarial = as_8_bit(attack(crafter, batch, radius), batch.images, radius, attack.norm)
    after = scorer.forward(adversarial).logits.argmax(axis=1)
    examples = tuple(
        page.Example(labels[test.truth[i]], labels[clean_guesses[i]], labels[a], test.images[i], picture)
        for i, a, picture in zip(shown, after, adversarial, strict=True)
    )
    return page.Triptychs(spec.name, attack.norm, outcome.epsilon_255, examples)


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("attack", AttackParams))


if __name__ == "__main__":
    stage(main)
