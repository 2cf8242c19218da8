"""Checks of the attacks: a stronger one must not flip fewer pictures than a weaker one."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from buckler.attacks.gradient import FGSM
from buckler.attacks.square import Square
from buckler.evaluation.sanity.base import Check, CheckedEvaluation, Observation, linf, tolerated
from buckler.evaluation.suite import AttackOutcome, AttackSpec
from buckler.models.gradients import GradientClassifier
from buckler.radius import StatedRadius

# By how much the success rate of PGD with many steps may exceed the suite's; it is scored before rounding to 8 bits.
OVERLOOKED = 0.05
SQUARE = Square(queries=100)


def _noise_not_stronger(evaluation: CheckedEvaluation) -> Iterator[Observation]:
    for outcome, lead, detail in _beside_fgsm(evaluation):
        if outcome.spec.attack.control:
            passed = lead <= tolerated(len(evaluation.labels))
            yield Observation(passed, detail, outcome.spec.name, outcome.radius)


def _at_least_fgsm(evaluation: CheckedEvaluation) -> Iterator[Observation]:
    for outcome, lead, detail in _beside_fgsm(evaluation):
        if outcome.spec.attack.at_least_fgsm:
            passed = -lead <= tolerated(len(evaluation.labels))
            yield Observation(passed, detail, outcome.spec.name, outcome.radius)


def _beside_fgsm(evaluation: CheckedEvaluation) -> Iterator[tuple[AttackOutcome, int, str]]:
    """Yield each line, how many pictures more than FGSM it flips, and both robust accuracies in words.

    FGSM overshoots as the radius grows, so its best radius up to the compared one counts.
    """
    labels, clean, outcomes = evaluation.labels, evaluation.clean, evaluation.outcomes
    robust = {id(outcome): int((clean & (outcome.guesses == labels)).sum()) for outcome in outcomes}
    fgsm = [outcome for outcome in outcomes if isinstance(outcome.spec.attack, FGSM)]
    total = len(labels)
    for outcome in linf(outcomes):
        rivals = [robust[id(one)] for one in fgsm if one.radius <= outcome.radius]
        # The flips of a line on survivors include those of the lines before it.
        if rivals and not outcome.spec.only_survivors:
            left, best = robust[id(outcome)], min(rivals)
            yield (
                outcome,
                best - left,
                f"robust accuracy {left / total:.3f} under {outcome.spec.name}, {best / total:.3f} under fgsm up to "
                f"{outcome.radius}",
            )


def _larger_budget(evaluation: CheckedEvaluation) -> Iterator[Observation]:
    spec = evaluation.line_to_repeat()
    budget = {"steps": 1, "restarts": 1, **spec.attack.budget}
    harder = spec.attack.adjusted(steps=2 * budget["steps"], restarts=2 * budget["restarts"])
    budget |= harder.budget
    how = f"{budget['steps']} steps, {budget['restarts']} starts"
    yield _new_in_subset(evaluation, replace(spec, attack=harder), how)


def _huge_radius(evaluation: CheckedEvaluation) -> Iterator[Observation]:
    # Every input is within half the range of the middle one, which has one label at most.
    unit = evaluation.modality.unit
    huge = unit.stated(math.ceil(unit.scale / 2))
    spec = replace(evaluation.line_to_repeat(), radii=(huge,))
    labels = evaluation.labels[evaluation.rows]
    largest_class = int(np.bincount(labels).max())
    right = evaluation.rows[evaluation.clean[evaluation.rows]]
    left = int(evaluation.right(evaluation.attacked(evaluation.crafter, spec, right), right).sum())
    yield Observation(
        left <= largest_class,
        f"{spec.attack.name} at {huge}, where no model can be robust, leaves {left} of {len(labels)} "
        f"{evaluation.modality.many} right; the largest class has {largest_class}",
        radius=huge,
    )


def _black_box(evaluation: CheckedEvaluation) -> Iterator[Observation]:
    """Compare each line that is not a white-box attack, and a short Square if the suite has no attack by scores."""
    lines = [outcome for outcome in linf(evaluation.outcomes) if outcome.spec.attack.knowledge != "white_box"]
    for outcome in lines:
        spec, radius = outcome.spec, outcome.radius
        new = evaluation.robust(radius) & (outcome.guesses != evaluation.labels)
        observation = _new_flips(evaluation, int(new.sum()), len(evaluation.labels), spec.attack.name, radius)
        yield observation._replace(attack=spec.name)
    by_scores = any(outcome.spec.attack.knowledge == "score" for outcome in lines)
    if SQUARE.fits(evaluation.modality.name) and not by_scores:
        spec = AttackSpec(SQUARE, evaluation.line_to_repeat().radii)
        yield _new_in_subset(evaluation, spec, f"{SQUARE.budget['queries']} queries")


def _transfer(evaluation: CheckedEvaluation) -> Iterator[Observation]:
    if evaluation.surrogate is not None:
        spec = evaluation.line_to_repeat()
        # A picture just past the surrogate's boundary seldom crosses the target's: no early exit.
        patient = replace(spec, attack=spec.attack.adjusted(early_exit=False))
        yield _new_in_subset(evaluation, patient, "from the surrogate", evaluation.surrogate)


def _new_in_subset(
    evaluation: CheckedEvaluation, spec: AttackSpec, how: str, by: GradientClassifier | None = None
) -> Observation:
    """Attack the pictures of the subset that the white-box suite left right."""
    radius = spec.radii[0]
    right = evaluation.rows[evaluation.robust(radius)[evaluation.rows]]
    adversarial = evaluation.attacked(evaluation.crafter if by is None else by, spec, right)
    flips = int((~evaluation.right(adversarial, right)).sum())
    observation = _new_flips(evaluation, flips, len(evaluation.rows), f"{spec.attack.name} ({how})", radius)
    return observation._replace(attack=spec.attack.name)


def _new_flips(evaluation: CheckedEvaluation, flips: int, total: int, attack: str, radius: StatedRadius) -> Observation:
    modality = evaluation.modality
    where = f"{attack} at {radius}"
    detail = f"{where} flips {flips} of {total} {modality.many} that every white-box attack of the suite left right"
    return Observation(flips <= tolerated(total), detail, radius=radius)


def _many_steps(evaluation: CheckedEvaluation) -> Iterator[Observation]:
    modality = evaluation.modality
    for curve in evaluation.curves:
        yield Observation(
            curve.success_rate[-1] <= curve.suite_success_rate + OVERLOOKED,
            f"{curve.steps[-1]} steps of {curve.attack} flip {curve.success_rate[-1]:.3f} of {curve.pictures} "
            f"{modality.many}, the suite up to {curve.radius} {curve.suite_success_rate:.3f}",
            radius=curve.radius,
        )


NOISE = Check(
    "{attack}_not_stronger_than_fgsm_at_{radius}",
    "Random change is compared with FGSM.",
    "FGSM is no better than chance.",
    _noise_not_stronger,
)
AT_LEAST_FGSM = Check(
    "{attack}_at_least_fgsm_at_{radius}",
    "Each iterative attack is compared with FGSM at its best radius up to the same one.",
    "The iterative attack did not work: more gradients must not flip less.",
    _at_least_fgsm,
)
BUDGET = Check(
    "larger_budget_changes_little",
    "The strongest iterative attack runs again with twice the steps and twice the restarts.",
    "The suite's budget is too small: the attack stopped too early.",
    _larger_budget,
)
HUGE_RADIUS = Check(
    "chance_at_{radius}",
    "The model is attacked at a radius where no model can be robust.",
    "The model is not really attacked: no model withstands an unlimited change.",
    _huge_radius,
)
BLACK_BOX = Check(
    "{attack}_not_stronger_than_white_box_at_{radius}",
    "Flips by attacks with less knowledge, among pictures that every white-box attack left right, are counted.",
    "The gradients mislead the white-box attacks: an attacker with less knowledge must not succeed more often.",
    _black_box,
)
TRANSFER = Check(
    "transfer_not_stronger_than_direct",
    "Pictures crafted on a surrogate, an undefended network with the same base and training pictures, are scored.",
    "The gradients mislead the white-box attacks: those of another model work better.",
    _transfer,
)
MANY_STEPS = Check(
    "many_steps_find_little_new_at_{radius}",
    "40 steps of PGD are compared with the suite; they may flip 5 points more, no more than that.",
    "Only weak attacks were tried at this radius.",
    _many_steps,
)
