"""Counts robust pictures.

A picture is robust at epsilon only if it is right when clean and under every attack at every radius up to
epsilon.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from buckler import findings
from buckler.attacks.base import Norm
from buckler.data.pictures import Pictures
from buckler.evaluation.accuracy import confusion, dangerous_classes
from buckler.evaluation.crafter_and_scorer import Scorer
from buckler.evaluation.journal import Journal
from buckler.evaluation.statistics import share_of, wilson
from buckler.evaluation.suite import AttackOutcome, AttackSpec, run_shown
from buckler.measurements.results import Cell, FindingWorstCase, Rate, Subgroup, WorstCase
from buckler.modality.base import Labels
from buckler.models.forward import Forward
from buckler.models.gradients import GradientClassifier
from buckler.models.info import ModelInfo
from buckler.radius import StatedRadius

Right = npt.NDArray[np.bool_]  # (n,), one a picture

# A cell states these settings of every attack; the values are of those that an attack lacks.
UNUSED: Mapping[str, Any] = {"steps": 1, "restarts": 1, "early_exit": True, "target": None, "queries": 1000}


@dataclass(frozen=True, slots=True)
class RobustnessEvaluation:
    """Results of a suite: an outcome and a cell for each line and radius, and the rates of all lines together.

    Attributes:
        guesses: Predicted classes of the unattacked pictures, ``(n,)``.
        clean: Which of them are right, ``(n,)``.
        worst: Radius -> which pictures no attack in the L-infinity norm flips up to it.
    """

    outcomes: list[AttackOutcome]
    guesses: Labels
    clean: Right
    worst: dict[StatedRadius, Right]
    clean_accuracy: Rate
    cells: tuple[Cell, ...]
    worst_case: tuple[WorstCase, ...]
    subgroups: tuple[Subgroup, ...]
    findings: dict[str, tuple[FindingWorstCase, ...]]

    @property
    def seconds(self) -> dict[str, float]:
        """Return the wall-clock seconds of each cell, as ``pgd@2/255``: crafting and scoring."""
        return {f"{each.spec.name}@{each.radius}": each.seconds for each in self.outcomes}


def evaluate(
    crafter: GradientClassifier,
    scorer: Scorer,
    test: Pictures,
    suite: Sequence[AttackSpec],
    *,
    info: ModelInfo,
    clean: Forward,
    seed: int,
    groups: Mapping[tuple[str, str], Right],
    journal: Journal | None = None,
) -> RobustnessEvaluation:
    """Attack ``test`` with every line of ``suite``, show a progress bar, and count robust pictures.

    Args:
        crafter: Computes gradients, in the precision that is fast on this machine.
        scorer: Gives the answers that count, in the precision that serves.
        test: 8-bit pictures and their labels.
        suite: Lines to run, in this order.
        info: Labels of the classifier.
        clean: The answers of ``scorer`` to the unattacked pictures.
        seed: Of every random draw.
        groups: Members of each subgroup, of `subgroups.groups`.
        journal: Stores finished parts, so that an interrupted evaluation resumes.
    """
    outcomes = run_shown(
        crafter,
        scorer,
        test.images,
        test.truth,
        suite,
        description=f"attack in {crafter.precision}",
        seed=seed,
        clean=clean,
        unit=info.form.modality.unit,
        journal=journal,
    )
    truth, guesses = test.truth, clean.logits.argmax(axis=1)
    right = guesses == truth
    classes: dict[str, Any] = {"labels": info.labels, "dangerous": info.dangerous}
    facts = {**classes, "seed": seed, "crafted_in": crafter.precision, "scored_in": scorer.precision}
    return RobustnessEvaluation(
        outcomes,
        guesses,
        right,
        worst_case(outcomes, right, truth),
        wilson(int(right.sum()), len(right)),
        tuple(cell(outcome, right, truth, **facts) for outcome in outcomes),
        worst_case_rates(outcomes, guesses, truth, **classes),
        subgroup_rates(groups, outcomes, guesses, truth, **classes),
        {name: finding_rates(outcomes, guesses, truth, info.labels, name) for name in info.findings},
    )


def cell(
    outcome: AttackOutcome,
    clean: Right,
    truth: Labels,
    *,
    labels: Sequence[str],
    dangerous: Sequence[str],
    seed: int,
    crafted_in: str,
    scored_in: str,
) -> Cell:
    """Return the report's numbers of ``outcome``; ``clean`` says which pictures are right unattacked."""
    spec, guesses = outcome.spec, outcome.guesses
    robust = clean & (guesses == truth)
    danger = dangerous_classes(labels, dangerous)
    flipped, missed = share_of(~robust[clean]), share_of(~danger[guesses[danger[truth]]])
    return Cell(
        name=spec.name,
        attack=spec.attack.name,
        knowledge=spec.attack.knowledge,
        norm=spec.attack.norm,
        radius=outcome.radius,
        tuning=spec.attack.tuning,
        only_survivors=spec.only_survivors,
        seed=seed,
        crafted_in=crafted_in,
        scored_in=scored_in,
        robust_accuracy=wilson(int(robust.sum()), len(truth)),
        attack_success_rate=flipped.value if flipped else 0.0,
        attack_success_rate_interval=flipped.interval if flipped else None,
        confusion=confusion(guesses, truth, len(labels)),
        malignant_to_benign_rate=missed.value if missed else None,
        malignant_to_benign_rate_interval=missed.interval if missed else None,
        **{name: spec.attack.settings.get(name, default) for name, default in UNUSED.items()},
    )


def worst_case(
    outcomes: Iterable[AttackOutcome],
    clean: Right,
    truth: Labels,
    norm: Norm = "linf",
    kinds: npt.NDArray[Any] | None = None,
) -> dict[StatedRadius, Right]:
    """Return for each radius which pictures no attack in ``norm`` flips at that radius or a smaller one.

    Radii are those of the outcomes, ascending; a picture that is wrong when clean is never robust. Radii of
    different norms are not comparable, so outcomes in another norm do not count. With ``kinds``, one value for each
    class, a guess is right if its class has the same value as the true class.
    """
    if kinds is not None:
        truth = kinds[truth]
    by_radius: dict[StatedRadius, Right] = {}
    robust = clean
    counted = (outcome for outcome in outcomes if outcome.spec.attack.norm == norm)
    for outcome in sorted(counted, key=lambda outcome: outcome.radius):
        guesses = outcome.guesses if kinds is None else kinds[outcome.guesses]
        robust = robust & (guesses == truth)
        by_radius[outcome.radius] = robust
    return by_radius


def worst_case_rates(
    outcomes: Sequence[AttackOutcome],
    guesses: Labels,
    truth: Labels,
    *,
    labels: Sequence[str],
    dangerous: Sequence[str],
    among: Right | None = None,
) -> tuple[WorstCase, ...]:
    """Return the worst-case rates up to each radius, of all pictures or of those ``among`` them.

    Args:
        outcomes: Of the whole suite; those in the L-infinity norm count.
        guesses: Predicted classes of the unattacked pictures, ``(n,)``.
        truth: True class indices, ``(n,)``.
        labels: Class names in the order of the logits.
        dangerous: Those of ``labels`` that must not be missed.
        among: Which pictures count, at least one; default: all.
    """
    among = np.ones(len(truth), bool) if among is None else among
    danger = dangerous_classes(labels, dangerous)
    two_kinds = danger.any() and not danger.all()
    ill, well = (among & two_kinds & (danger[truth] == kind) for kind in (True, False))
    right = worst_case(outcomes, guesses == truth, truth)
    kept = worst_case(outcomes, danger[guesses] == danger[truth], truth, kinds=danger)
    # As in a cell, the clean answer does not count here; in the sensitivity it does.
    attacked = worst_case(outcomes, np.ones(len(truth), bool), truth, kinds=danger)
    return tuple(
        WorstCase(
            radius,
            robust_accuracy=wilson(int(right[radius][among].sum()), int(among.sum())),
            malignant_to_benign_rate=share_of(~attacked[radius][ill]),
            sensitivity=share_of(kept[radius][ill]),
            specificity=share_of(kept[radius][well]),
        )
        for radius in right
    )


def finding_rates(
    outcomes: Sequence[AttackOutcome], guesses: Labels, truth: Labels, labels: Sequence[str], name: str
) -> tuple[FindingWorstCase, ...]:
    """Return the rates of the finding ``name``, which some ``labels`` contain; the rest as for `worst_case_rates`."""
    having = findings.with_any(labels, [name])
    rates = worst_case_rates(outcomes, guesses, truth, labels=labels, dangerous=having)
    return tuple(FindingWorstCase(row.radius, row.sensitivity, row.specificity) for row in rates)


def subgroup_rates(
    groups: Mapping[tuple[str, str], Right],
    outcomes: Sequence[AttackOutcome],
    guesses: Labels,
    truth: Labels,
    *,
    labels: Sequence[str],
    dangerous: Sequence[str],
) -> tuple[Subgroup, ...]:
    """Return a row for each of ``groups`` (of `subgroups.groups`); the rest is as for `worst_case_rates`."""
    clean = guesses == truth
    return tuple(
        Subgroup(
            column,
            group,
            pictures=int(among.sum()),
            clean_accuracy=wilson(int(clean[among].sum()), int(among.sum())),
            worst_case=worst_case_rates(outcomes, guesses, truth, labels=labels, dangerous=dangerous, among=among),
        )
        for (column, group), among in groups.items()
    )
