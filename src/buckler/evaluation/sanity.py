"""Doubts about an evaluation: each check asks whether the numbers could be an illusion. A failed one fails the gate.

Source: Carlini et al., "On evaluating adversarial robustness", arXiv 1902.06705, sec. 4 and 5; Athalye, Carlini &
Wagner, "Obfuscated gradients give a false sense of security", arXiv 1802.00420, sec. 3.1; the warnings of AutoAttack
(flags_doc.md of its repository), Croce & Hein, arXiv 2003.01690.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from buckler.attacks.adaptive import Expectation
from buckler.attacks.ball import as_8_bit
from buckler.attacks.base import Batch
from buckler.attacks.gradient import steps_along
from buckler.attacks.iterative import margins
from buckler.attacks.noise import sign_noise
from buckler.evaluation.convergence import Convergence
from buckler.evaluation.robustness import Right
from buckler.evaluation.roles import DRAWS
from buckler.evaluation.suite import AttackSpec, Outcome
from buckler.modality.base import Images, Labels
from buckler.modality.picture.images import load_pixels, to_png
from buckler.models.classifier import GradientClassifier
from buckler.models.forward import Logits, probabilities

# Untargeted, in FGSM's ball, and with more gradients: these have no excuse. Others may rightly be weaker.
STRONGER_THAN_FGSM = frozenset({"bim", "pgd", "mifgsm", "apgd-ce", "apgd-margin"})
# In robust accuracy, and never less than one picture: by so much a weaker attack may win through chance, and so much
# may a budget twice as large find that the suite did not.
TOLERANCE = 0.02
# Below it, next to float32's smallest normal number (1.2e-38), a gradient is what underflow left of one.
VANISHING = 1e-30
# Share of pictures whose gradient must lead uphill over one level; the loss may bend within it on some.
UPHILL = 0.9
# Every picture is within it of plain grey, which has one label at most: no model can be robust there.
HUGE_255 = 128
# By so much, in success rate, PGD of many steps may beat the suite; it is judged before rounding, by a hair too.
OVERLOOKED = 0.05
# Mean distance (total variation) between the probabilities of two runtimes.
MAX_DRIFT = 0.05
SQUARE = AttackSpec("square", (1,), queries=100)
PGD = AttackSpec("pgd", (1,), steps=10)

Rows = npt.NDArray[np.int64]  # positions of pictures


@dataclass(frozen=True, slots=True)
class Check:
    """One doubt and how it came out."""

    name: str
    passed: bool
    detail: str


class Scorer(Protocol):
    """What answers, in the runtime that counts."""

    def logits(self, images: Images) -> Logits:
        """Return ``(batch, classes)`` for pixels ``(batch, height, width, 3)`` in 0..1."""
        ...


def doubt(
    crafter: GradientClassifier,
    scorer: Scorer,
    images: Images,
    labels: Labels,
    *,
    outcomes: Sequence[Outcome],
    clean: Right,
    seed: int,
    subset: int = 64,
    few: int = 8,
    randomised: bool = False,
    reference: Scorer | None = None,
    surrogate: GradientClassifier | None = None,
) -> list[Check]:
    """Return every check of the evaluation that gave ``outcomes``.

    What must be attacked again is attacked on a subset, and there only what the suite left right.

    Args:
        crafter: Gave the gradients.
        scorer: Gave the answers that count. That of a randomised model answers by expectation too: one draw would flip
            pictures all by itself.
        images: ``(n, height, width, 3)`` 8-bit pictures as float32 in 0..1: all that were attacked.
        labels: True class indices, ``(n,)``.
        outcomes: What each line of the suite did at each radius, to all of ``images``.
        clean: Which pictures are right unattacked.
        seed: Of the subset and of every random draw.
        subset: Pictures attacked again.
        few: Pictures that every line of the suite attacks again, to look at them as files.
        randomised: The model declares that it draws random numbers. It must then be attacked through the expectation
            over at least ``DRAWS`` draws; randomness that is not declared fails.
        reference: Answers in float32 that ``scorer`` must agree with; ``crafter`` when not given.
        surrogate: Another model for the same pictures, to attack from; without one, nothing is transferred.

    Raises:
        ValueError: There is no outcome of a white-box attack in the L-infinity norm.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(images))[:subset])
    case = _Case(crafter, scorer, images, labels, tuple(outcomes), clean, seed, rows)
    return [
        *_of_the_model(case, randomised),
        _gradients_not_zero(case),
        _gradients_point_uphill(case),
        *_among_the_attacks(case),
        _larger_budget(case),
        _huge_radius(case),
        *_black_box(case),
        *_transfer(case, surrogate),
        _same_as(case, crafter if reference is None else reference),
        _clean_as_reported(case),
        _survives_a_file(case, few),
    ]


@dataclass(frozen=True, slots=True)
class _Case:
    """The evaluation in doubt; ``rows`` is the subset that is attacked again."""

    crafter: GradientClassifier
    scorer: Scorer
    images: Images
    labels: Labels
    outcomes: tuple[Outcome, ...]
    clean: Right
    seed: int
    rows: Rows

    def attacked(self, by: GradientClassifier, spec: AttackSpec, rows: Rows) -> Images:
        """Return the pictures at ``rows`` as ``spec``, at its first radius, makes them with the gradients of ``by``."""
        if not len(rows):
            return self.images[rows]
        batch, epsilon = Batch(self.images[rows], self.labels[rows], rows.tolist()), spec.epsilon_255[0] / 255
        crafted = next(iter(spec.entry.craft(by, batch, [epsilon], spec.options(self.seed))))
        return as_8_bit(crafted, batch.images, epsilon, spec.entry.norm)

    def right(self, images: Images, rows: Rows) -> Right:
        """Return which of ``images``, made of the pictures at ``rows``, the scorer still gets right."""
        if not len(rows):
            return np.zeros(0, bool)
        return np.asarray(self.scorer.logits(images).argmax(axis=1) == self.labels[rows])

    def held(self, epsilon_255: int) -> Right:
        """Return which of all pictures no white-box attack flips at that radius or a smaller one."""
        held = self.clean.copy()
        for outcome in self.white_box():
            if outcome.epsilon_255 <= epsilon_255:
                held &= outcome.guesses == self.labels
        return held

    def white_box(self) -> list[Outcome]:
        """Return the outcomes of attacks that know the model."""
        return [outcome for outcome in _linf(self.outcomes) if outcome.spec.entry.knowledge == "white_box"]

    def telling(self) -> AttackSpec:
        """Return the line to try again, at its radius that tells most: where nearest to half of the pictures hold.

        Of the attacks that had no excuse, the strongest there. A suite without one is asked what ten steps find.

        Raises:
            ValueError: There is no white-box outcome.
        """
        white_box = self.white_box()
        if not white_box:
            raise ValueError("expected at least one white-box attack in the L-infinity norm, got none")
        iterative = [outcome for outcome in white_box if outcome.spec.attack in STRONGER_THAN_FGSM]

        def key(outcome: Outcome) -> tuple[float, int, int]:
            undecided = abs(float(self.held(outcome.epsilon_255).sum()) - float(self.clean.sum()) / 2)
            return undecided, -outcome.epsilon_255, int((outcome.guesses == self.labels).sum())

        chosen = min(iterative or white_box, key=key)
        return replace(chosen.spec if iterative else PGD, epsilon_255=(chosen.epsilon_255,))


def overlooked(curves: Iterable[Convergence]) -> list[Check]:
    """Return a check for each radius that the report names: many steps of PGD find little that the suite did not.

    A worst case is an upper bound. Where only one step was taken it may be far too high, and nothing else would say so.

    Args:
        curves: Of `convergence.measure`.
    """
    return [
        Check(
            f"many_steps_find_little_new_at_{curve.epsilon_255}",
            curve.success_rate[-1] <= curve.suite_success_rate + OVERLOOKED,
            f"{curve.steps[-1]} steps of {curve.attack} flip {curve.success_rate[-1]:.3f} of {curve.pictures} "
            f"pictures, the suite up to {curve.epsilon_255}/255 {curve.suite_success_rate:.3f}",
        )
        for curve in curves
    ]


def _of_the_model(case: _Case, randomised: bool) -> Iterator[Check]:
    images = case.images[case.rows]
    first, second = case.crafter.logits(images), case.crafter.logits(images)
    like_probabilities = bool(np.all(first >= 0) and np.allclose(first.sum(axis=1), 1, atol=1e-3))
    yield Check(
        "logits_not_probabilities",
        not like_probabilities,
        f"outputs between {first.min():.3f} and {first.max():.3f}, rows sum to {first.sum(axis=1).mean():.3f}",
    )
    if randomised:
        draws = case.crafter.draws if isinstance(case.crafter, Expectation) else 1
        yield Check(
            "attacked_through_expectation",
            draws >= DRAWS,
            f"the model declares itself randomised; attacked through {draws} draws a step, at least {DRAWS} needed",
        )
        return
    scores = np.abs(case.scorer.logits(images) - case.scorer.logits(images)).max()
    difference = max(float(np.abs(first - second).max()), float(scores))
    yield Check("deterministic_forward", difference == 0, f"two passes differ by at most {difference:.3g}")


def _gradients_not_zero(case: _Case) -> Check:
    gradient, _ = case.crafter.loss_gradient(case.images[case.rows], case.labels[case.rows])
    flat = np.abs(gradient).max(axis=(1, 2, 3)) < VANISHING
    return Check(
        "gradients_not_zero",
        int(flat.sum()) <= _few_of(len(flat)),
        f"{int(flat.sum())} of {len(flat)} pictures have no gradient, or one lost to underflow",
    )


def _gradients_point_uphill(case: _Case) -> Check:
    """Compare with finite differences: a level along the gradient must cost more margin than a level anywhere."""
    rows = case.rows[case.clean[case.rows]]
    images, labels, level = case.images[rows], case.labels[rows], 1 / 255
    gradient, _ = case.crafter.loss_gradient(images, labels)
    along = next(steps_along(np.sign(gradient), images, [level]))
    anywhere = sign_noise(images, epsilon=level, seed=case.seed, ids=rows.tolist())
    here, there, elsewhere = (margins(case.scorer.logits(at), labels) for at in (images, along, anywhere))
    uphill = there < np.minimum(here, elsewhere)
    return Check(
        "gradients_point_uphill",
        int(uphill.sum()) >= UPHILL * len(rows) - 1,
        f"on {int(uphill.sum())} of {len(rows)} pictures a step of 1/255 along the gradient costs margin, and more "
        f"than a random one",
    )


def _among_the_attacks(case: _Case) -> Iterator[Check]:
    """Yield the checks among the suite's lines: the control weaker than FGSM, FGSM weaker than its heirs.

    FGSM overshoots as the radius grows, so what counts for it is its best radius up to the one compared.
    """
    robust = {id(outcome): int((case.clean & (outcome.guesses == case.labels)).sum()) for outcome in case.outcomes}
    fgsm = [outcome for outcome in case.outcomes if outcome.spec.attack == "fgsm"]
    total = len(case.labels)
    for outcome in _linf(case.outcomes):
        spec, radius = outcome.spec, outcome.epsilon_255
        rivals = [robust[id(one)] for one in fgsm if one.epsilon_255 <= radius]
        control = spec.entry.control
        # A line of survivors owns the flips of the lines before it, so it says nothing about itself.
        if not rivals or spec.only_survivors or not (control or spec.attack in STRONGER_THAN_FGSM):
            continue
        behind = (min(rivals) - robust[id(outcome)]) * (1 if control else -1)
        yield Check(
            f"{spec.name}_{'not_stronger_than' if control else 'at_least'}_fgsm_at_{radius}",
            behind <= _few_of(total),
            f"robust accuracy {robust[id(outcome)] / total:.3f} under {spec.name}, {min(rivals) / total:.3f} under "
            f"fgsm up to {radius}/255",
        )


def _larger_budget(case: _Case) -> Check:
    spec = case.telling()
    harder = replace(spec, steps=2 * spec.steps, restarts=2 * spec.restarts)
    return _finds_nothing_new(
        case, "larger_budget_changes_little", harder, f"{harder.steps} steps, {harder.restarts} starts"
    )


def _huge_radius(case: _Case) -> Check:
    spec = replace(case.telling(), epsilon_255=(HUGE_255,))
    labels = case.labels[case.rows]
    chance = int(np.bincount(labels).max())
    standing = case.rows[case.clean[case.rows]]
    left = int(case.right(case.attacked(case.crafter, spec, standing), standing).sum())
    return Check(
        f"chance_at_{HUGE_255}",
        left <= chance,
        f"{spec.attack} at {HUGE_255}/255, where no model can be robust, leaves {left} of {len(labels)} pictures "
        f"right; the largest class has {chance}",
    )


def _black_box(case: _Case) -> Iterator[Check]:
    """Yield a check for each line of the suite that knows less than everything, and for a short search by scores."""
    lines = [outcome for outcome in _linf(case.outcomes) if outcome.spec.entry.knowledge != "white_box"]
    for outcome in lines:
        new = case.held(outcome.epsilon_255) & (outcome.guesses != case.labels)
        name = f"{outcome.spec.name}_not_stronger_than_white_box_at_{outcome.epsilon_255}"
        yield _new_flips(name, int(new.sum()), len(case.labels), outcome.spec.attack, outcome.epsilon_255)
    if not any(outcome.spec.entry.knowledge == "score" for outcome in lines):
        spec = replace(SQUARE, epsilon_255=case.telling().epsilon_255)
        name = f"square_not_stronger_than_white_box_at_{spec.epsilon_255[0]}"
        yield _finds_nothing_new(case, name, spec, f"{spec.queries} queries")


def _transfer(case: _Case, surrogate: GradientClassifier | None) -> Iterator[Check]:
    if surrogate is not None:
        # A picture just past the surrogate's boundary seldom crosses the target's: no early exit.
        spec = replace(case.telling(), early_exit=False)
        yield _finds_nothing_new(case, "transfer_not_stronger_than_direct", spec, "from the surrogate", surrogate)


def _finds_nothing_new(
    case: _Case, name: str, spec: AttackSpec, how: str, by: GradientClassifier | None = None
) -> Check:
    """Attack what the white-box suite left right in the subset."""
    radius = spec.epsilon_255[0]
    standing = case.rows[case.held(radius)[case.rows]]
    adversarial = case.attacked(case.crafter if by is None else by, spec, standing)
    flips = int((~case.right(adversarial, standing)).sum())
    return _new_flips(name, flips, len(case.rows), f"{spec.attack} ({how})", radius)


def _new_flips(name: str, flips: int, total: int, attack: str, radius: int) -> Check:
    return Check(
        name,
        flips <= _few_of(total),
        f"{attack} at {radius}/255 flips {flips} of {total} pictures that every white-box attack of the suite left "
        f"right",
    )


def _same_as(case: _Case, reference: Scorer) -> Check:
    images = case.images[case.rows]
    ours, theirs = probabilities(case.scorer.logits(images)), probabilities(reference.logits(images))
    drift = float(np.abs(ours - theirs).sum(axis=1).mean() / 2)
    differ = int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum())
    return Check(
        "scorer_agrees_with_reference",
        differ <= _few_of(len(images)) and drift <= MAX_DRIFT,
        f"on {differ} of {len(images)} clean pictures the labels differ, probabilities by {drift:.4f} in the mean",
    )


def _clean_as_reported(case: _Case) -> Check:
    differ = int((case.right(case.images[case.rows], case.rows) != case.clean[case.rows]).sum())
    return Check(
        "clean_answers_as_reported",
        differ <= _few_of(len(case.rows)),
        f"the scorer's answers to {differ} of {len(case.rows)} clean pictures are not those that the report counts",
    )


def _survives_a_file(case: _Case, few: int) -> Check:
    """Attack a few pictures with every line, write them as PNG, and hold what is read back to the radius."""
    rows = case.rows[:few]
    origin, specs, lost, widest = case.images[rows], _lines(case.outcomes), [], 0.0
    for spec in specs:
        crafted = case.attacked(case.crafter, spec, rows)
        read = np.stack([load_pixels(to_png(one)) for one in crafted])
        change = (read.astype(np.float64) - origin).reshape(len(rows), -1) * 255
        length = np.abs(change).max() if spec.entry.norm == "linf" else np.linalg.norm(change, axis=1).max()
        widest = max(widest, float(length) / spec.epsilon_255[0])
        if not np.array_equal(read, crafted):
            lost.append(spec.attack)
    return Check(
        "epsilon_respected_in_a_file",
        not lost and widest <= 1 + 1e-3,
        f"{len(specs)} lines on {len(rows)} pictures, written as PNG and read: at most {widest:.4f} of the radius, "
        f"changed by the file: {', '.join(lost) or 'none'}",
    )


def _lines(outcomes: Iterable[Outcome]) -> list[AttackSpec]:
    """Return the suite that gave ``outcomes``, each line at its smallest radius."""
    return list({replace(outcome.spec, epsilon_255=(min(outcome.spec.epsilon_255),)): None for outcome in outcomes})


def _linf(outcomes: Iterable[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.spec.entry.norm == "linf"]


def _few_of(total: int) -> int:
    """Return how many of ``total`` pictures the tolerance allows."""
    return max(1, int(TOLERANCE * total))
