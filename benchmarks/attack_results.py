"""Results of the attack benchmark: targets, tables and chart."""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks import results as documents
from benchmarks.engines import AttackTask
from buckler.compute.machine import Precision

OURS = "buckler"
FGSM, GRID = AttackTask("fgsm", (1,)), AttackTask("fgsm", (1, 2, 4, 8))
PGD = AttackTask("pgd-10", (1,), steps=10)
PGD_AS_SHIPPED = AttackTask("pgd-10 early exit", (1,), steps=10, early_exit=True)
POINT = 0.01  # allowed difference of robust accuracies
# Minimum ratio of images per second, Buckler's to the fastest peer's. The first two need a processor with AMX.
TARGETS: tuple[tuple[AttackTask, Precision, float], ...] = (
    (FGSM, "bfloat16", 4.0),
    (GRID, "bfloat16", 12.0),
    (FGSM, "float32", 1.0),
    (GRID, "float32", 1.0),
    (PGD, "float32", 1.0),
)


@dataclass(frozen=True, slots=True)
class EngineResult:
    """One engine at one attack.

    Attributes:
        images_per_second: Adversarial pictures per second in the median round.
        low, high: The same in the slowest and the fastest round.
        rates: The same in every round.
        robust_accuracy: Share of ``images`` classified correctly clean and at every radius, after rounding to 8 bits.
        clean_accuracy: Share of ``images`` classified correctly.
        peak_memory_mib: Peak memory of the engine's process, network and libraries included.
    """

    engine: str
    attack: str
    epsilons_255: int | tuple[int, ...]
    dtype: str
    images_per_second: float
    low: float
    high: float
    robust_accuracy: float
    clean_accuracy: float
    peak_memory_mib: float
    rounds: int
    images: int
    rates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A target, the measured value as text, and whether it is reached; None where this machine cannot measure it."""

    name: str
    measured: str | None
    reached: bool | None


def compare(results: Sequence[EngineResult]) -> list[Target]:
    """Return the targets and whether the results reach them."""
    targets = []
    for task, dtype, wanted in TARGETS:
        name = f"{task.name} {radii(task)} in {dtype}: at least {wanted:g} times the fastest peer"
        ours = [r for r in results if _is_of(r, task) and (r.engine, r.dtype) == (OURS, dtype)]
        if not ours:
            targets.append(Target(name, None, None))
            continue
        ratios = _ratios(ours[0], results)
        middle = statistics.median(ratios)
        measured = f"{middle:.2f} times ({min(ratios):.2f} to {max(ratios):.2f}) {_fastest(ours[0], results).engine}"
        targets.append(Target(name, measured, round(middle, 2) >= wanted))
    for task, own in itertools.product((FGSM, GRID, PGD), results):
        if own.engine != OURS or not _is_of(own, task):
            continue
        peers = [r for r in results if r.engine != OURS and _is_of(r, task)]
        apart = max(abs(own.robust_accuracy - peer.robust_accuracy) for peer in peers)
        name = f"{task.name} {radii(task)} in {own.dtype}: robust accuracy within 1 point of every peer's"
        measured = f"{100 * apart:.1f} points, {round(apart * own.images)} of {own.images} pictures"
        targets.append(Target(name, measured, round(apart, 6) <= POINT))
    return targets


def speed(results: Sequence[EngineResult]) -> documents.Table:
    """Return a row for each engine and attack."""
    column, estimate = documents.Column, documents.Estimate
    return documents.Table(
        (
            column("attack", "attack"),
            column("radii", "radii"),
            column("engine", "engine"),
            column("images_per_second", "images/s", ".2f", "slowest to fastest round"),
            column("over_fastest_peer", "times the fastest peer", ".2f", "smallest to largest ratio of a round"),
            column("robust_accuracy", "robust accuracy", ".1%"),
            column("clean_accuracy", "clean accuracy", ".1%"),
            column("images", "images"),
            column("peak_memory_mib", "peak MiB", ".0f"),
        ),
        tuple(
            {
                "attack": r.attack,
                "radii": f"{', '.join(map(str, np.atleast_1d(r.epsilons_255)))}/255",
                "engine": f"{r.engine} {r.dtype}",
                "images_per_second": estimate(r.images_per_second, r.low, r.high),
                "over_fastest_peer": _spread(_ratios(r, results)) if r.engine == OURS else None,
                "robust_accuracy": r.robust_accuracy,
                "clean_accuracy": r.clean_accuracy,
                "images": r.images,
                "peak_memory_mib": r.peak_memory_mib,
            }
            for r in results
        ),
    )


def targets_table(targets: Sequence[Target]) -> documents.Table:
    """Return a row for each target."""
    titles = {"name": "target (bfloat16: on a processor with AMX)", "measured": "measured", "reached": "reached"}
    columns = tuple(documents.Column(key, title) for key, title in titles.items())
    return documents.Table(columns, tuple(asdict(target) for target in targets))


def draw(results: Sequence[EngineResult], path: Path) -> None:
    """Write a bar chart of the speeds as PNG, a panel for each attack."""
    from buckler.reporting import plots

    panels: dict[str, dict[str, tuple[float, float, float]]] = {}
    for task in (FGSM, GRID, PGD):
        shown = [r for r in results if _is_of(r, task) or (task is PGD and _is_of(r, PGD_AS_SHIPPED))]
        panels[f"{task.name} {radii(task)}"] = {
            f"{r.engine} {r.dtype}{r.attack.removeprefix(task.name)}": (r.images_per_second, r.low, r.high)
            for r in shown
        }
    plots.bars(panels, "images per second (median, spread over rounds)", path)


def radii(task: AttackTask) -> str:
    """Return the radii of a task as text."""
    return f"{', '.join(map(str, task.epsilons_255))}/255"


def _is_of(result: EngineResult, task: AttackTask) -> bool:
    return result.attack == task.name and np.array_equal(np.atleast_1d(result.epsilons_255), task.epsilons_255)


def _fastest(ours: EngineResult, results: Sequence[EngineResult]) -> EngineResult:
    """Return the fastest peer at the attack and radii of ``ours``; early exit is compared with PGD without it."""
    attack = PGD.name if ours.attack == PGD_AS_SHIPPED.name else ours.attack
    peers = (r for r in results if r.engine != OURS and (r.attack, r.epsilons_255) == (attack, ours.epsilons_255))
    return max(peers, key=lambda result: result.images_per_second)


def _ratios(ours: EngineResult, results: Sequence[EngineResult]) -> list[float]:
    """Return the ratio of ours to the fastest peer in each round, so that a slow phase of the machine affects both."""
    return [a / b for a, b in zip(ours.rates, _fastest(ours, results).rates, strict=True)]


def _spread(numbers: Sequence[float]) -> documents.Estimate:
    return documents.Estimate(statistics.median(numbers), min(numbers), max(numbers))
