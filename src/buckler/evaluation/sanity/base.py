"""The evaluation under check, and the parts of a check."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from buckler.attacks.ball import on_grid
from buckler.attacks.base import Batch, LogitModel
from buckler.attacks.iterative import PGD
from buckler.evaluation.robustness import Right
from buckler.evaluation.suite import AttackOutcome, AttackSpec
from buckler.measurements.results import Convergence
from buckler.modality.base import Images, Labels, Modality
from buckler.models.gradients import GradientClassifier
from buckler.radius import NO_ATTACK, StatedRadius

# Share of the pictures, and never less than one picture: by how many a weaker attack may be ahead by chance, and how
# many a budget twice as large may flip in addition to the suite.
TOLERANCE = 0.02

Rows = npt.NDArray[np.int64]  # positions of pictures


class Observation(NamedTuple):
    """What a check measured: whether the value is acceptable, the numbers in words, the attack and radius if any."""

    passed: bool
    detail: str
    attack: str = ""
    radius: StatedRadius = NO_ATTACK


@dataclass(frozen=True, slots=True)
class Check:
    """An entry of the table.

    Attributes:
        name: In reports; ``{attack}`` and ``{radius}`` stand for the suite's line and the radius.
        description: What is compared.
        failure: What a failure means.
        run: Measures; yields nothing if the check does not apply.
    """

    name: str
    description: str
    failure: str
    run: Callable[["CheckedEvaluation"], Iterable[Observation]]


@dataclass(frozen=True, slots=True)
class CheckedEvaluation:
    """The evaluation under check: the arguments of `doubt`, and the pictures that checks attack again.

    Attributes:
        rows: Positions of the pictures that are attacked again.
        few: Part of ``rows`` that is written as files.
    """

    crafter: GradientClassifier
    scorer: LogitModel
    images: Images
    labels: Labels
    outcomes: tuple[AttackOutcome, ...]
    clean: Right
    seed: int
    rows: Rows
    few: Rows
    randomised: bool
    reference: LogitModel
    surrogate: GradientClassifier | None
    curves: tuple[Convergence, ...]
    modality: Modality

    def attacked(self, by: GradientClassifier, spec: AttackSpec, rows: Rows) -> Images:
        """Return the pictures at ``rows`` attacked by ``spec``, at its first radius, with the gradients of ``by``."""
        if not len(rows):
            return self.images[rows]
        batch = Batch(self.images[rows], self.labels[rows], rows.tolist(), self.seed)
        radius = self.modality.unit.radius(spec.radii[0])
        return on_grid(spec.attack(by, batch, radius), batch.images, radius, spec.attack.norm)

    def right(self, images: Images, rows: Rows) -> Right:
        """Return which of ``images``, made of the pictures at ``rows``, the scorer still classifies correctly."""
        if not len(rows):
            return np.zeros(0, bool)
        return np.asarray(self.scorer.logits(images).argmax(axis=1) == self.labels[rows])

    def robust(self, radius: StatedRadius) -> Right:
        """Return which of all pictures no white-box attack flips at that radius or a smaller one."""
        robust = self.clean.copy()
        for outcome in self.white_box():
            if outcome.radius <= radius:
                robust &= outcome.guesses == self.labels
        return robust

    def white_box(self) -> list[AttackOutcome]:
        """Return the outcomes of white-box attacks in the L-infinity norm."""
        return [outcome for outcome in linf(self.outcomes) if outcome.spec.attack.knowledge == "white_box"]

    def line_to_repeat(self) -> AttackSpec:
        """Return the line to run again, at the radius where the number of robust pictures is nearest to half.

        Of the attacks that must not be weaker than FGSM, this is the strongest at that radius; PGD of ten steps if
        the suite has none.

        Raises:
            ValueError: There is no white-box outcome.
        """
        white_box = self.white_box()
        if not white_box:
            raise ValueError("expected at least one white-box attack in the L-infinity norm, got none")
        iterative = [outcome for outcome in white_box if outcome.spec.attack.at_least_fgsm]

        def key(outcome: AttackOutcome) -> tuple[float, float, int]:
            undecided = abs(float(self.robust(outcome.radius).sum()) - float(self.clean.sum()) / 2)
            return undecided, -outcome.radius.number, int((outcome.guesses == self.labels).sum())

        chosen = min(iterative or white_box, key=key)
        if iterative:
            return replace(chosen.spec, radii=(chosen.radius,))
        return AttackSpec(PGD(steps=10), (chosen.radius,))


def linf(outcomes: Iterable[AttackOutcome]) -> list[AttackOutcome]:
    """Return the outcomes of attacks in the L-infinity norm."""
    return [outcome for outcome in outcomes if outcome.spec.attack.norm == "linf"]


def tolerated(total: int) -> int:
    """Return how many of ``total`` pictures the tolerance allows."""
    return max(1, int(TOLERANCE * total))
