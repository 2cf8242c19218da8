"""Attacks the pictures, scores what came out, and counts what held.

A picture is robust at epsilon only if it is right when clean and under every attack at every radius up to
epsilon. Adversarial pictures are rounded to 8 bits before they are scored: what is counted can be sent as a PNG.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from buckler.attacks.ball import as_8_bit
from buckler.attacks.base import Batch, Norm, Options
from buckler.attacks.table import ATTACKS
from buckler.evaluation.accuracy import confusion, is_malignant
from buckler.evaluation.statistics import Rate, share_of, wilson
from buckler.evaluation.subgroups import Subgroup, WorstCase
from buckler.models.classifier import Classifier, Features, Images, Labels, Logits

Right = npt.NDArray[np.bool_]  # (n,), one a picture


@dataclass(frozen=True, slots=True)
class AttackSpec:
    """One line of a suite: an attack of the table, its radii in 1/255 of its norm, how hard it tries, and at what."""

    attack: str
    epsilon_255: tuple[int, ...]
    steps: int = 1
    restarts: int = 1
    early_exit: bool = True
    target: int | None = None
    queries: int = 1000

    def __post_init__(self) -> None:
        if self.attack not in ATTACKS:
            raise ValueError(f"expected an attack of {sorted(ATTACKS)}, got {self.attack!r}")
        if not self.epsilon_255 or min(self.epsilon_255) < 1 or min(self.steps, self.restarts, self.queries) < 1:
            raise ValueError(f"expected radii, steps, restarts and queries of at least 1, got {self}")
        if ATTACKS[self.attack].targeted and self.target is None:
            raise ValueError(f"expected a target class for {self.attack}, got none")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attack at one radius did: ``logits`` and ``features`` of the attacked pictures, in their order."""

    spec: AttackSpec
    epsilon_255: int
    logits: Logits
    features: Features
    seconds: float

    @property
    def guesses(self) -> Labels:
        """Return the predicted class of each attacked picture."""
        return np.asarray(self.logits.argmax(axis=1))


@dataclass(frozen=True, slots=True)
class Cell:
    """One attack at one radius, as the robustness report states it.

    Attributes:
        robust_accuracy: Share right clean and attacked, over all pictures.
        attack_success_rate: Share flipped among those right when clean.
        confusion: Rows true, columns predicted under attack.
        malignant_to_benign_rate: Share of malignant pictures given no malignant label under attack.
        *_interval: Low and high of the rate's confidence interval.
        seconds: Wall clock of crafting and scoring.
    """

    attack: str
    norm: str
    epsilon_255: int
    steps: int
    restarts: int
    early_exit: bool
    target: int | None
    queries: int
    seed: int
    crafted_in: str
    scored_in: str
    robust_accuracy: Rate
    attack_success_rate: float
    attack_success_rate_interval: tuple[float, float] | None
    confusion: list[list[int]]
    malignant_to_benign_rate: float | None
    malignant_to_benign_rate_interval: tuple[float, float] | None
    seconds: float


def run_suite(
    crafter: Classifier,
    scorer: Classifier,
    images: Images,
    labels: Labels,
    suite: Sequence[AttackSpec],
    *,
    seed: int,
    chunk: int = 64,
    progress: Callable[[str, int, int], object] | None = None,
) -> list[Outcome]:
    """Attack ``images`` with every line of ``suite``; one outcome an attack and radius.

    Args:
        crafter: Gives gradients, in the precision that is fast here.
        scorer: Gives the answers that count, in the precision that serves.
        images: ``(n, height, width, 3)`` 8-bit pictures as float32 in 0..1.
        labels: True class indices, ``(n,)``.
        suite: What to run.
        seed: Of every random draw.
        chunk: Pictures crafted at a time; bounds the memory.
        progress: Called after each chunk with the line's name, pictures done and pictures still right.
    """
    return [outcome for spec in suite for outcome in _run(crafter, scorer, images, labels, spec, seed, chunk, progress)]


def _run(
    crafter: Classifier,
    scorer: Classifier,
    images: Images,
    labels: Labels,
    spec: AttackSpec,
    seed: int,
    chunk: int,
    progress: Callable[[str, int, int], object] | None,
) -> list[Outcome]:
    options = Options(spec.steps, spec.restarts, spec.early_exit, seed, spec.target, spec.queries)
    attack = ATTACKS[spec.attack]
    radii = [epsilon / 255 for epsilon in spec.epsilon_255]
    passes: dict[int, list[tuple[Logits, Features]]] = {epsilon: [] for epsilon in spec.epsilon_255}
    seconds = dict.fromkeys(spec.epsilon_255, 0.0)
    for start in range(0, len(images), chunk):
        here = slice(start, start + chunk)
        batch = Batch(images[here], labels[here], range(start, start + len(images[here])))
        crafted = attack.craft(crafter, batch, radii, options)
        right = np.ones(len(batch.labels), bool)
        for epsilon in spec.epsilon_255:
            began = time.perf_counter()
            adversarial = as_8_bit(next(crafted), batch.images, epsilon / 255, attack.norm)
            answer = scorer.forward(adversarial)
            seconds[epsilon] += time.perf_counter() - began
            passes[epsilon].append((answer.logits, answer.features))
            right &= answer.logits.argmax(axis=1) == batch.labels
        if progress:
            progress(spec.attack, len(batch.labels), int(right.sum()))
    return [
        Outcome(
            spec,
            epsilon,
            logits=np.concatenate([logits for logits, _ in passes[epsilon]]),
            features=np.concatenate([features for _, features in passes[epsilon]]),
            seconds=seconds[epsilon],
        )
        for epsilon in spec.epsilon_255
    ]


def cell(
    outcome: Outcome,
    clean: Right,
    truth: Labels,
    *,
    labels: Sequence[str],
    malignant: Sequence[str],
    seed: int,
    crafted_in: str,
    scored_in: str,
) -> Cell:
    """Return the report's numbers of ``outcome``; ``clean`` says which pictures are right unattacked."""
    spec, guesses = outcome.spec, outcome.guesses
    robust = clean & (guesses == truth)
    dangerous = is_malignant(labels, malignant)
    flipped, missed = share_of(~robust[clean]), share_of(~dangerous[guesses[dangerous[truth]]])
    return Cell(
        attack=spec.attack,
        norm=ATTACKS[spec.attack].norm,
        epsilon_255=outcome.epsilon_255,
        steps=spec.steps,
        restarts=spec.restarts,
        early_exit=spec.early_exit,
        target=spec.target,
        queries=spec.queries,
        seed=seed,
        crafted_in=crafted_in,
        scored_in=scored_in,
        robust_accuracy=wilson(int(robust.sum()), len(truth)),
        attack_success_rate=flipped.value if flipped else 0.0,
        attack_success_rate_interval=flipped.interval if flipped else None,
        confusion=confusion(guesses, truth, len(labels)),
        malignant_to_benign_rate=missed.value if missed else None,
        malignant_to_benign_rate_interval=missed.interval if missed else None,
        seconds=round(outcome.seconds, 1),
    )


def cells(outcomes: Iterable[Outcome], clean: Right, truth: Labels, **facts: Any) -> list[Cell]:
    """Return ``cell`` of each of ``outcomes``; ``facts`` are its keyword arguments."""
    return [cell(outcome, clean, truth, **facts) for outcome in outcomes]


def worst_case(
    outcomes: Iterable[Outcome],
    clean: Right,
    truth: Labels,
    norm: Norm = "linf",
    kinds: npt.NDArray[Any] | None = None,
) -> dict[int, Right]:
    """Return for each radius which pictures no attack in ``norm`` flips at that radius or a smaller one.

    Radii are those of the outcomes, ascending; a picture that is wrong when clean is never robust. Radii of
    different norms do not compare, so outcomes in another norm do not count. With ``kinds``, a kind for each class,
    a guess is right that is of the true class's kind.
    """
    if kinds is not None:
        truth = kinds[truth]
    by_radius: dict[int, Right] = {}
    robust = clean
    counted = (outcome for outcome in outcomes if ATTACKS[outcome.spec.attack].norm == norm)
    for outcome in sorted(counted, key=lambda outcome: outcome.epsilon_255):
        guesses = outcome.guesses if kinds is None else kinds[outcome.guesses]
        robust = robust & (guesses == truth)
        by_radius[outcome.epsilon_255] = robust
    return by_radius


def worst_case_rates(
    outcomes: Sequence[Outcome],
    guesses: Labels,
    truth: Labels,
    *,
    labels: Sequence[str],
    malignant: Sequence[str],
    among: Right | None = None,
) -> tuple[WorstCase, ...]:
    """Return what holds up to each radius, of all pictures or of those ``among`` them.

    Args:
        outcomes: Of the whole suite; those in the L-infinity norm count.
        guesses: Predicted classes of the unattacked pictures, ``(n,)``.
        truth: True class indices, ``(n,)``.
        labels: Class names in the order of the logits.
        malignant: Those of ``labels`` that must not be missed; a guess among them is a malignant one.
        among: Which pictures count, at least one; default: all.
    """
    among = np.ones(len(truth), bool) if among is None else among
    dangerous = is_malignant(labels, malignant)
    two_kinds = dangerous.any() and not dangerous.all()
    ill, well = (among & two_kinds & (dangerous[truth] == kind) for kind in (True, False))
    right = worst_case(outcomes, guesses == truth, truth)
    kept = worst_case(outcomes, dangerous[guesses] == dangerous[truth], truth, kinds=dangerous)
    # As in a cell, the clean answer does not count here: sensitivity is what counts both.
    attacked = worst_case(outcomes, np.ones(len(truth), bool), truth, kinds=dangerous)
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


def subgroup_rates(
    groups: Mapping[tuple[str, str], Right],
    outcomes: Sequence[Outcome],
    guesses: Labels,
    truth: Labels,
    *,
    labels: Sequence[str],
    malignant: Sequence[str],
) -> list[Subgroup]:
    """Return a row for each of ``groups`` (of `subgroups.groups`); the rest is as for `worst_case_rates`."""
    clean = guesses == truth
    return [
        Subgroup(
            column,
            group,
            pictures=int(among.sum()),
            clean_accuracy=wilson(int(clean[among].sum()), int(among.sum())),
            worst_case=worst_case_rates(outcomes, guesses, truth, labels=labels, malignant=malignant, among=among),
        )
        for (column, group), among in groups.items()
    ]
