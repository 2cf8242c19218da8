"""The table of all sanity checks, and the function that runs them.

Pages and documents take names and explanations from the table.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from buckler.attacks.base import LogitModel
from buckler.evaluation.robustness import Right
from buckler.evaluation.sanity import attacks, gradients, scoring
from buckler.evaluation.sanity.base import Check, CheckedEvaluation
from buckler.evaluation.suite import AttackOutcome
from buckler.measurements.results import CheckResult, Convergence
from buckler.modality.base import Images, Labels, Modality
from buckler.models.gradients import GradientClassifier

CHECKS: Final[Mapping[str, Check]] = {
    "logits": gradients.LOGITS,
    "expectation": gradients.EXPECTATION,
    "deterministic": gradients.DETERMINISTIC,
    "gradients": gradients.NOT_ZERO,
    "uphill": gradients.UPHILL_STEP,
    "noise": attacks.NOISE,
    "at_least_fgsm": attacks.AT_LEAST_FGSM,
    "budget": attacks.BUDGET,
    "huge_radius": attacks.HUGE_RADIUS,
    "black_box": attacks.BLACK_BOX,
    "transfer": attacks.TRANSFER,
    "reference": scoring.REFERENCE,
    "clean": scoring.CLEAN,
    "file": scoring.FILE,
    "many_steps": attacks.MANY_STEPS,
}


def doubt(
    crafter: GradientClassifier,
    scorer: LogitModel,
    images: Images,
    labels: Labels,
    *,
    outcomes: Sequence[AttackOutcome],
    clean: Right,
    seed: int,
    subset: int = 64,
    few: int = 8,
    randomised: bool = False,
    reference: LogitModel | None = None,
    surrogate: GradientClassifier | None = None,
    curves: Sequence[Convergence] = (),
    modality: Modality,
) -> list[CheckResult]:
    """Run every check on the evaluation that gave ``outcomes``.

    Checks that attack again do so on a subset, and only on those of its pictures that the suite left right.

    Args:
        crafter: Computed the gradients.
        scorer: Gave the answers that count. For a randomised model it must be an expectation, too: a single draw
            would flip pictures without an attack.
        images: ``(n, ...)`` float32 in 0..1, on the grid of ``modality``: all that were attacked.
        labels: True class indices, ``(n,)``.
        outcomes: Of each line of the suite at each radius, on all of ``images``.
        clean: Which pictures are right unattacked, ``(n,)``.
        seed: Of the subset and of every random draw.
        subset: Number of pictures attacked again.
        few: Number of pictures that every line of the suite attacks again, to write them as files.
        randomised: The model declares that it draws random numbers. It must then be attacked through the expectation
            over at least ``RANDOM_DRAWS`` draws; undeclared randomness fails.
        reference: Answers in float32 that ``scorer`` must agree with; ``crafter`` when not given.
        surrogate: Another model for the same pictures, to attack from; without one, the transfer check does not run.
        curves: Of `convergence.measure`.
        modality: Of the inputs.

    Raises:
        ValueError: There is no outcome of a white-box attack in the L-infinity norm.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(images))[:subset])
    evaluation = CheckedEvaluation(
        crafter,
        scorer,
        images,
        labels,
        tuple(outcomes),
        clean,
        seed,
        rows,
        rows[:few],
        randomised,
        crafter if reference is None else reference,
        surrogate,
        tuple(curves),
        modality,
    )
    return [result for kind, check in CHECKS.items() for result in _results(kind, check, evaluation)]


def _results(kind: str, check: Check, evaluation: CheckedEvaluation) -> Iterator[CheckResult]:
    for observation in check.run(evaluation):
        name = check.name.format(attack=observation.attack, radius=observation.radius)
        yield CheckResult(name, kind, bool(observation.passed), observation.detail)
