"""Stage ``attack``: every attack of the suite at every radius, scored in the precision that serves.

Reads   models/classifier/, data/splits/test.csv and its pictures, data/features/clean.npz
Writes  reports/robustness.json, reports/outcomes.csv, reports/plots/{robustness.csv,robustness.png,
        confusion_attacked.png,triptych.png}, data/features/attacked.npz: detector features of attacked pictures
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from buckler import params, signing
from buckler.attacks.ball import as_8_bit
from buckler.attacks.gradient import fgsm
from buckler.attacks.table import ATTACKS
from buckler.data import pictures
from buckler.evaluation import plots, report, robustness, sanity
from buckler.evaluation.accuracy import confusion
from buckler.evaluation.statistics import Rate, wilson
from buckler.models import checkpoint
from buckler.models.classifier import Classifier
from buckler.models.precision import crafting_precision
from pipelines.stage import stage

TEST = Path("data/splits/test.csv")
CLASSIFIER = Path("models/classifier")
CLEAN = Path("data/features/clean.npz")
ATTACKED = Path("data/features/attacked.npz")
REPORTS = Path("reports")


@dataclass(frozen=True, slots=True)
class AttackParams:
    """Section ``attack`` of params.yaml."""

    images: int
    batch_size: int
    seed: int
    suite: tuple[robustness.AttackSpec, ...]

    def __post_init__(self) -> None:
        """Refuse a suite without a radius that the gate could ask for."""
        if not any(ATTACKS[spec.attack].norm == "linf" for spec in self.suite):
            raise ValueError("expected at least one attack in the L-infinity norm")


def run(cfg: AttackParams) -> None:
    """Attack the test split and write what held."""
    info = checkpoint.load_info(CLASSIFIER)
    everything = pictures.load(TEST, info.labels, size=info.image_size, description="decode test")
    test = everything.subset(cfg.images, cfg.seed)
    network = checkpoint.load_network(CLASSIFIER)
    crafter = Classifier(network, crafting_precision(), batch_size=cfg.batch_size)
    scorer = Classifier(network, batch_size=cfg.batch_size)
    clean_guesses = _clean_guesses(everything.ids, test.ids)
    clean = clean_guesses == test.truth

    outcomes = _attack(cfg, crafter, scorer, test)
    cells = robustness.cells(
        outcomes,
        clean,
        test.truth,
        labels=info.labels,
        malignant=info.malignant,
        seed=cfg.seed,
        crafted_in=crafter.precision,
        scored_in=scorer.precision,
    )
    worst = robustness.worst_case(outcomes, clean, test.truth)
    checks = sanity.doubt(crafter, scorer, test.images, test.truth, outcomes=outcomes, clean=clean, seed=cfg.seed)
    accuracy = wilson(int(clean.sum()), len(clean))
    report.write_json(
        REPORTS / "robustness.json",
        {
            "schema": 1,
            "model": {"digest": signing.directory_digest(CLASSIFIER)},
            "data": {"version": info.data_version, "images": len(test.ids)},
            "labels": info.labels,
            "clean_accuracy": accuracy,
            "clean_confusion": confusion(clean_guesses, test.truth, len(info.labels)),
            "cells": cells,
            "worst_case": [
                {"epsilon_255": epsilon, "robust_accuracy": wilson(int(right.sum()), len(right))}
                for epsilon, right in worst.items()
            ],
            "checks": [asdict(check) for check in checks],
        },
    )
    report.write_csv(
        REPORTS / "outcomes.csv",
        [
            {"id": name, "label": info.labels[test.truth[i]], "clean": int(clean[i])}
            | {f"worst_{epsilon}": int(right[i]) for epsilon, right in worst.items()}
            for i, name in enumerate(test.ids)
        ],
    )
    np.savez(ATTACKED, ids=np.array(test.ids), **{f"{o.spec.attack}@{o.epsilon_255}": o.features for o in outcomes})
    _draw(cells, outcomes, accuracy.value, clean_guesses, test, info, crafter, scorer)


def _clean_guesses(all_ids: tuple[str, ...], ids: tuple[str, ...]) -> np.ndarray:
    with np.load(CLEAN, allow_pickle=False) as arrays:
        guesses = arrays["test_logits"].argmax(axis=1)
    places = {name: place for place, name in enumerate(all_ids)}
    return guesses[[places[name] for name in ids]]


def _attack(
    cfg: AttackParams, crafter: Classifier, scorer: Classifier, test: pictures.Pictures
) -> list[robustness.Outcome]:
    right: dict[str, int] = {}
    with tqdm(total=len(cfg.suite) * len(test.ids), unit="picture", desc=f"attack in {crafter.precision}") as bar:

        def progress(name: str, done: int, still_right: int) -> None:
            bar.update(done)
            right[name] = right.get(name, 0) + still_right
            bar.set_postfix({name: f"{right[name]}/{len(test.ids)} right"})

        return robustness.run_suite(
            crafter, scorer, test.images, test.truth, cfg.suite, seed=cfg.seed, progress=progress
        )


def _draw(
    cells: list[robustness.Cell],
    outcomes: list[robustness.Outcome],
    clean: float,
    clean_guesses: np.ndarray,
    test: pictures.Pictures,
    info: checkpoint.ModelInfo,
    crafter: Classifier,
    scorer: Classifier,
) -> None:
    rows = [
        {
            "attack": c.attack,
            "epsilon_255": c.epsilon_255,
            "robust_accuracy": c.robust_accuracy.value,
            "low": c.robust_accuracy.low,
            "high": c.robust_accuracy.high,
        }
        for c in cells
    ]
    report.write_csv(REPORTS / "plots/robustness.csv", rows)
    chance = float(np.bincount(test.truth).max() / len(test.truth))
    curves: dict[str, dict[int, Rate]] = {}
    for c in sorted((c for c in cells if c.norm == "linf"), key=lambda c: c.epsilon_255):
        curves.setdefault(c.attack, {})[c.epsilon_255] = c.robust_accuracy
    plots.robustness(curves, clean, chance, REPORTS / "plots/robustness.png")
    before = confusion(clean_guesses, test.truth, len(info.labels))
    after = {f"{c.attack} {c.epsilon_255}/255": c.confusion for c in _strongest(cells)}
    plots.confusions({"clean": before, **after}, info.labels, REPORTS / "plots/confusion_attacked.png")
    first = next(outcome for outcome in outcomes if ATTACKS[outcome.spec.attack].norm == "linf")
    _draw_triptych(test, clean_guesses, first.guesses, info, crafter, scorer, first.epsilon_255)


def _strongest(cells: list[robustness.Cell]) -> list[robustness.Cell]:
    names = dict.fromkeys(cell.attack for cell in cells)
    return [min((c for c in cells if c.attack == n), key=lambda c: c.robust_accuracy.value) for n in names]


def _draw_triptych(
    test: pictures.Pictures,
    clean_guesses: np.ndarray,
    attacked_guesses: np.ndarray,
    info: checkpoint.ModelInfo,
    crafter: Classifier,
    scorer: Classifier,
    epsilon_255: int,
) -> None:
    """Draw one picture a class under FGSM: one that is right when clean and was flipped, where there is one."""
    right, held = clean_guesses == test.truth, attacked_guesses == test.truth
    telling = np.lexsort((held, ~right))
    shown = [int(telling[test.truth[telling] == place][0]) for place in range(len(info.labels))]
    images, truth = test.images[shown], test.truth[shown]
    adversarial = as_8_bit(fgsm(crafter, images, truth, epsilon=epsilon_255 / 255), images, epsilon_255 / 255)
    after = scorer.logits(adversarial).argmax(axis=1)
    captions = [
        (
            f"true {info.labels[t]}, answer {info.labels[clean_guesses[i]]}",
            f"FGSM {epsilon_255}/255: {info.labels[a]}",
        )
        for i, t, a in zip(shown, truth, after, strict=True)
    ]
    plots.triptych(images, adversarial, captions, REPORTS / "plots/triptych.png")


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("attack", AttackParams))


if __name__ == "__main__":
    stage(main)
