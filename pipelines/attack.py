"""Stage ``attack``: every attack of the suite at every radius, scored in the precision that serves.

Reads   models/classifier/, data/splits/test.csv and its pictures, data/features/clean.npz
Writes  reports/robustness.json, reports/robustness.html, reports/outcomes.csv,
        reports/plots/{robustness.csv,robustness.png,confusion_attacked.png,triptych.png},
        data/features/attacked.npz: detector features of attacked pictures
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from buckler import params, signing
from buckler.attacks.ball import as_8_bit
from buckler.attacks.base import Batch, Options
from buckler.attacks.table import ATTACKS
from buckler.data import pictures
from buckler.evaluation import convergence, page, plots, report, robustness, sanity
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
    few = slice(0, cfg.batch_size)
    checks = sanity.check_model(crafter, test.images[few], test.truth[few]) + sanity.check_cells(cells)
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
            "convergence": convergence.measure(crafter, test.images, test.truth, clean, worst, seed=cfg.seed),
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
    triptychs = [
        _triptychs(cfg, outcome, test, clean_guesses, info.labels, crafter, scorer)
        for outcome in _telling(outcomes, clean, test.truth)
    ]
    _draw(cells, worst, clean_guesses, test.truth, info.labels, triptychs[0])
    text = page.render(report.read_json(REPORTS / "robustness.json"), triptychs)
    (REPORTS / "robustness.html").write_text(text, encoding="utf-8")


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
    worst: dict[int, robustness.Right],
    clean_guesses: np.ndarray,
    truth: np.ndarray,
    labels: tuple[str, ...],
    triptychs: page.Triptychs,
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
    chance = float(np.bincount(truth).max() / len(truth))
    curves: dict[str, dict[int, Rate]] = {}
    for c in sorted((c for c in cells if c.norm == "linf"), key=lambda c: c.epsilon_255):
        curves.setdefault(c.attack, {})[c.epsilon_255] = c.robust_accuracy
    lowest = {epsilon: wilson(int(right.sum()), len(right)) for epsilon, right in worst.items()}
    clean = float((clean_guesses == truth).mean())
    plots.robustness(curves, lowest, clean, chance, REPORTS / "plots/robustness.png")
    before = confusion(clean_guesses, truth, len(labels))
    after = {f"{c.attack} {c.epsilon_255}/255": c.confusion for c in _strongest(cells)}
    plots.confusions({"clean": before, **after}, labels, REPORTS / "plots/confusion_attacked.png")
    shown = triptychs.examples
    attack = f"{triptychs.attack} {triptychs.epsilon_255}/255"
    captions = [(f"true {e.truth}, answer {e.before}", f"{attack}: {e.after}") for e in shown]
    images, adversarial = (np.stack(side) for side in zip(*((e.clean, e.adversarial) for e in shown), strict=True))
    plots.triptych(images, adversarial, captions, REPORTS / "plots/triptych.png")


def _strongest(cells: list[robustness.Cell]) -> list[robustness.Cell]:
    names = dict.fromkeys(cell.attack for cell in cells)
    return [min((c for c in cells if c.attack == n), key=lambda c: c.robust_accuracy.value) for n in names]


def _telling(
    outcomes: list[robustness.Outcome], clean: robustness.Right, truth: np.ndarray
) -> list[robustness.Outcome]:
    """Return the suite's first outcome in the L-infinity norm, and the strongest of its other attacks, if any."""
    first = next(outcome for outcome in outcomes if ATTACKS[outcome.spec.attack].norm == "linf")
    others = [o for o in outcomes if o.spec.attack != first.spec.attack and not ATTACKS[o.spec.attack].control]
    return [first, *sorted(others, key=lambda o: int((clean & (o.guesses == truth)).sum()))[:1]]


def _triptychs(
    cfg: AttackParams,
    outcome: robustness.Outcome,
    test: pictures.Pictures,
    clean_guesses: np.ndarray,
    labels: tuple[str, ...],
    crafter: Classifier,
    scorer: Classifier,
) -> page.Triptychs:
    """Craft again one picture a class: one that is right when clean and was flipped, where there is one."""
    right, held = clean_guesses == test.truth, outcome.guesses == test.truth
    telling = np.lexsort((held, ~right))
    shown = [int(telling[test.truth[telling] == place][0]) for place in range(len(labels))]
    spec, attack, epsilon = outcome.spec, ATTACKS[outcome.spec.attack], outcome.epsilon_255 / 255
    batch = Batch(test.images[shown], test.truth[shown], shown)
    options = Options(spec.steps, spec.restarts, spec.early_exit, cfg.seed, spec.target, spec.queries)
    crafted = next(attack.craft(crafter, batch, [epsilon], options))
    adversarial = as_8_bit(crafted, batch.images, epsilon, attack.norm)
    after = scorer.logits(adversarial).argmax(axis=1)
    examples = tuple(
        page.Example(labels[test.truth[i]], labels[clean_guesses[i]], labels[a], test.images[i], picture)
        for i, a, picture in zip(shown, after, adversarial, strict=True)
    )
    return page.Triptychs(spec.attack, attack.norm, outcome.epsilon_255, examples)


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("attack", AttackParams))


if __name__ == "__main__":
    stage(main)
