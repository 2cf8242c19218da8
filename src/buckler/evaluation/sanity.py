"""Sanity checks: could the numbers of an evaluation be an illusion? A failed check fails the gate.

``CHECKS`` is the table; a check is an entry of it. Pages and documents take names and explanations from it.

Source: Carlini et al., "On evaluating adversarial robustness", arXiv 1902.06705, sec. 4 and 5; Athalye, Carlini &
Wagner, "Obfuscated gradients give a false sense of security", arXiv 1802.00420, sec. 3.1; the warnings of AutoAttack
(flags_doc.md of its repository), Croce & Hein, arXiv 2003.01690.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from buckler.attacks.adaptive import Expectation
from buckler.attacks.ball import BALLS, as_8_bit, largest
from buckler.attacks.base import Batch
from buckler.attacks.gradient import FGSM, steps_along
from buckler.attacks.iterative import PGD, margins
from buckler.attacks.noise import Noise
from buckler.attacks.square import Square
from buckler.evaluation.convergence import Convergence
from buckler.evaluation.robustness import Right
from buckler.evaluation.roles import DRAWS
from buckler.evaluation.suite import AttackSpec, Outcome
from buckler.modality.base import Images, Labels, Radius
from buckler.modality.picture.images import load_pixels, to_png
from buckler.models.classifier import GradientClassifier
from buckler.models.forward import Logits, probabilities

# In robust accuracy, and never less than one picture: the lead that a weaker attack may have by chance, and the gain
# that a budget twice as large may have over the suite.
TOLERANCE = 0.02
# A gradient below it is a rest of underflow; float32's smallest normal number is 1.2e-38.
VANISHING = 1e-30
# Share of pictures on which the gradient must lead uphill over one level; on some the loss may bend within it.
UPHILL = 0.9
# Every picture is within it of plain grey, which has one label at most: no model can be robust there.
HUGE_255 = 128
# Lead in success rate that PGD of many steps may have over the suite; it is scored before rounding to 8 bits.
OVERLOOKED = 0.05
# Mean distance (total variation) between the probabilities of two runtimes.
MAX_DRIFT = 0.05
SQUARE = AttackSpec(Square(queries=100), (1,))

Rows = npt.NDArray[np.int64]  # positions of pictures


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of a check, as in the report.

    Attributes:
        name: The check's, with the attack and radius that it is about.
        kind: Key in ``CHECKS``.
        passed: Whether the evaluation may be believed as far as this check goes.
        detail: What was measured.
    """

    name: str
    kind: str
    passed: bool
    detail: str


class Seen(NamedTuple):
    """What a check measured: whether that is acceptable, the numbers in words, and the attack and radius, if any."""

    passed: bool
    detail: str
    attack: str = ""
    radius: int = 0


@dataclass(frozen=True, slots=True)
class Check:
    """An entry of the table.

    Attributes:
        name: In reports; ``{attack}`` and ``{radius}`` stand for the suite's line and the radius in 1/255.
        description: What is compared.
        failure: What a failure means.
        run: Measures; yields nothing where the check does not apply.
    """

    name: str
    description: str
    failure: str
    run: Callable[["Case"], Iterable[Seen]]


class Scorer(Protocol):
    """A model in the runtime whose answers count."""

    def logits(self, images: Images) -> Logits:
        """Return ``(batch, classes)`` for inputs ``(batch, ...)`` in 0..1."""
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
    curves: Sequence[Convergence] = (),
) -> list[CheckResult]:
    """Run every check on the evaluation that gave ``outcomes``.

    Checks that attack again do so on a subset, and there only on pictures that the suite left right.

    Args:
        crafter: Computed the gradients.
        scorer: Gave the answers that count. For a randomised model it must be an expectation, too: a single draw
            would flip pictures on its own.
        images: ``(n, height, width, 3)`` 8-bit pictures as float32 in 0..1: all that were attacked.
        labels: True class indices, ``(n,)``.
        outcomes: Of each line of the suite at each radius, on all of ``images``.
        clean: Which pictures are right unattacked.
        seed: Of the subset and of every random draw.
        subset: Number of pictures attacked again.
        few: Number of pictures that every line of the suite attacks again, to write them as files.
        randomised: The model declares that it draws random numbers. It must then be attacked through the expectation
            over at least ``DRAWS`` draws; undeclared randomness fails.
        reference: Answers in float32 that ``scorer`` must agree with; ``crafter`` when not given.
        surrogate: Another model for the same pictures, to attack from; without one, nothing is transferred.
        curves: Of `convergence.measure`.

    Raises:
        ValueError: There is no outcome of a white-box attack in the L-infinity norm.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(images))[:subset])
    case = Case(
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
    )
    return [result for kind in CHECKS for result in results(kind, case)]


def results(kind: str, case: "Case") -> Iterator[CheckResult]:
    """Yield the results of the check ``kind``."""
    check = CHECKS[kind]
    for seen in check.run(case):
        name = check.name.format(attack=seen.attack, radius=seen.radius)
        yield CheckResult(name, kind, bool(seen.passed), seen.detail)


@dataclass(frozen=True, slots=True)
class Case:
    """The evaluation in doubt; ``rows`` is the subset that is attacked again, ``few`` the part written as files."""

    crafter: GradientClassifier
    scorer: Scorer
    images: Images
    labels: Labels
    outcomes: tuple[Outcome, ...]
    clean: Right
    seed: int
    rows: Rows
    few: Rows
    randomised: bool
    reference: Scorer
    surrogate: GradientClassifier | None
    curves: tuple[Convergence, ...]

    def attacked(self, by: GradientClassifier, spec: AttackSpec, rows: Rows) -> Images:
        """Return the pictures at ``rows`` attacked by ``spec``, at its first radius, with the gradients of ``by``."""
        if not len(rows):
            return self.images[rows]
        batch = Batch(self.images[rows], self.labels[rows], rows.tolist(), self.seed)
        radius = Radius(spec.epsilon_255[0] / 255)
        return as_8_bit(spec.attack(by, batch, radius), batch.images, radius, spec.attack.norm)

    def right(self, images: Images, rows: Rows) -> Right:
        """Return which of ``images``, made of the pictures at ``rows``, the scorer still gets right."""
        if not len(rows):
            return np.zeros(0, bool)
        return np.asarray(self.scorer.logits(images).argmax(axis=1) == self.labels[rows])

    def robust(self, epsilon_255: int) -> Right:
        """Return which of all pictures no white-box attack flips at that radius or a smaller one."""
        robust = self.clean.copy()
        for outcome in self.white_box():
            if outcome.epsilon_255 <= epsilon_255:
                robust &= outcome.guesses == self.labels
        return robust

    def white_box(self) -> list[Outcome]:
        """Return the outcomes of white-box attacks in the L-infinity norm."""
        return [outcome for outcome in _linf(self.outcomes) if outcome.spec.attack.knowledge == "white_box"]

    def telling(self) -> AttackSpec:
        """Return the line to run again, at the radius where the number of robust pictures is nearest to half.

        Of the attacks that must not be weaker than FGSM, this is the strongest there; PGD of ten steps if the suite
        has none.

        Raises:
            ValueError: There is no white-box outcome.
        """
        white_box = self.white_box()
        if not white_box:
            raise ValueError("expected at least one white-box attack in the L-infinity norm, got none")
        iterative = [outcome for outcome in white_box if outcome.spec.attack.at_least_fgsm]

        def key(outcome: Outcome) -> tuple[float, int, int]:
            undecided = abs(float(self.robust(outcome.epsilon_255).sum()) - float(self.clean.sum()) / 2)
            return undecided, -outcome.epsilon_255, int((outcome.guesses == self.labels).sum())

        chosen = min(iterative or white_box, key=key)
        return replace(chosen.spec if iterative else AttackSpec(PGD(steps=10), (1,)), epsilon_255=(chosen.epsilon_255,))


def _logits_not_probabilities(case: Case) -> Iterator[Seen]:
    logits = case.crafter.logits(case.images[case.rows])
    like_probabilities = bool(np.all(logits >= 0) and np.allclose(logits.sum(axis=1), 1, atol=1e-3))
    yield Seen(
        not like_probabilities,
        f"outputs between {logits.min():.3f} and {logits.max():.3f}, rows sum to {logits.sum(axis=1).mean():.3f}",
    )


def _attacked_through_expectation(case: Case) -> Iterator[Seen]:
    if case.randomised:
        draws = case.crafter.draws if isinstance(case.crafter, Expectation) else 1
        yield Seen(
            draws >= DRAWS,
            f"the model declares itself randomised; attacked through {draws} draws a step, at least {DRAWS} needed",
        )


def _deterministic_forward(case: Case) -> Iterator[Seen]:
    if not case.randomised:
        images = case.images[case.rows]
        difference = max(
            float(np.abs(side.logits(images) - side.logits(images)).max()) for side in (case.crafter, case.scorer)
        )
        yield Seen(difference == 0, f"two passes differ by at most {difference:.3g}")


def _gradients_not_zero(case: Case) -> Iterator[Seen]:
    gradient, _ = case.crafter.loss_gradient(case.images[case.rows], case.labels[case.rows])
    flat = largest(gradient) < VANISHING
    yield Seen(
        int(flat.sum()) <= _few_of(len(flat)),
        f"{int(flat.sum())} of {len(flat)} pictures have no gradient, or one lost to underflow",
    )


def _gradients_point_uphill(case: Case) -> Iterator[Seen]:
    """Compare with finite differences: a level along the gradient must cost more margin than a random level."""
    rows = case.rows[case.clean[case.rows]]
    batch, level = Batch(case.images[rows], case.labels[rows], rows.tolist(), case.seed), Radius(1 / 255)
    gradient, _ = case.crafter.loss_gradient(batch.images, batch.labels)
    along = next(steps_along(np.sign(gradient), batch.images, [level.value]))
    anywhere = Noise()(case.crafter, batch, level)
    here, there, elsewhere = (margins(case.scorer.logits(at), batch.labels) for at in (batch.images, along, anywhere))
    uphill = there < np.minimum(here, elsewhere)
    yield Seen(
        int(uphill.sum()) >= UPHILL * len(rows) - 1,
        f"on {int(uphill.sum())} of {len(rows)} pictures a step of 1/255 along the gradient costs margin, and more "
        f"than a random one",
    )


def _noise_not_stronger(case: Case) -> Iterator[Seen]:
    for outcome, lead, detail in _beside_fgsm(case):
        if outcome.spec.attack.control:
            yield Seen(lead <= _few_of(len(case.labels)), detail, outcome.spec.name, outcome.epsilon_255)


def _at_least_fgsm(case: Case) -> Iterator[Seen]:
    for outcome, lead, detail in _beside_fgsm(case):
        if outcome.spec.attack.at_least_fgsm:
            yield Seen(-lead <= _few_of(len(case.labels)), detail, outcome.spec.name, outcome.epsilon_255)


def _beside_fgsm(case: Case) -> Iterator[tuple[Outcome, int, str]]:
    """Yield each line, how many pictures more than FGSM it flips, and both robust accuracies in words.

    FGSM overshoots as the radius grows, so that its best radius up to the one compared counts.
    """
    robust = {id(outcome): int((case.clean & (outcome.guesses == case.labels)).sum()) for outcome in case.outcomes}
    fgsm = [outcome for outcome in case.outcomes if isinstance(outcome.spec.attack, FGSM)]
    total = len(case.labels)
    for outcome in _linf(case.outcomes):
        rivals = [robust[id(one)] for one in fgsm if one.epsilon_255 <= outcome.epsilon_255]
        # The flips of a line on survivors include those of the lines before it.
        if rivals and not outcome.spec.only_survivors:
            left, best = robust[id(outcome)], min(rivals)
            yield (
                outcome,
                best - left,
                f"robust accuracy {left / total:.3f} under {outcome.spec.name}, {best / total:.3f} under fgsm up to "
                f"{outcome.epsilon_255}/255",
            )


def _larger_budget(case: Case) -> Iterator[Seen]:
    spec = case.telling()
    budget = {"steps": 1, "restarts": 1, **spec.attack.budget}
    harder = spec.attack.adjusted(steps=2 * budget["steps"], restarts=2 * budget["restarts"])
    budget |= harder.budget
    how = f"{budget['steps']} steps, {budget['restarts']} starts"
    yield _new_in_subset(case, replace(spec, attack=harder), how)


def _huge_radius(case: Case) -> Iterator[Seen]:
    spec = replace(case.telling(), epsilon_255=(HUGE_255,))
    labels = case.labels[case.rows]
    chance = int(np.bincount(labels).max())
    right = case.rows[case.clean[case.rows]]
    left = int(case.right(case.attacked(case.crafter, spec, right), right).sum())
    yield Seen(
        left <= chance,
        f"{spec.attack.name} at {HUGE_255}/255, where no model can be robust, leaves {left} of {len(labels)} pictures "
        f"right; the largest class has {chance}",
    )


def _black_box(case: Case) -> Iterator[Seen]:
    """Compare each line that is no white-box attack, and, if none of them is by scores, a short Square."""
    lines = [outcome for outcome in _linf(case.outcomes) if outcome.spec.attack.knowledge != "white_box"]
    for outcome in lines:
        spec, radius = outcome.spec, outcome.epsilon_255
        new = case.robust(radius) & (outcome.guesses != case.labels)
        yield _new_flips(int(new.sum()), len(case.labels), spec.attack.name, radius)._replace(attack=spec.name)
    if not any(outcome.spec.attack.knowledge == "score" for outcome in lines):
        spec = replace(SQUARE, epsilon_255=case.telling().epsilon_255)
        yield _new_in_subset(case, spec, f"{spec.attack.budget['queries']} queries")


def _transfer(case: Case) -> Iterator[Seen]:
    if case.surrogate is not None:
        spec = case.telling()
        # A picture just past the surrogate's boundary seldom crosses the target's: no early exit.
        patient = replace(spec, attack=spec.attack.adjusted(early_exit=False))
        yield _new_in_subset(case, patient, "from the surrogate", case.surrogate)


def _new_in_subset(case: Case, spec: AttackSpec, how: str, by: GradientClassifier | None = None) -> Seen:
    """Attack the pictures of the subset that the white-box suite left right."""
    radius = spec.epsilon_255[0]
    right = case.rows[case.robust(radius)[case.rows]]
    adversarial = case.attacked(case.crafter if by is None else by, spec, right)
    flips = int((~case.right(adversarial, right)).sum())
    seen = _new_flips(flips, len(case.rows), f"{spec.attack.name} ({how})", radius)
    return seen._replace(attack=spec.attack.name)


def _new_flips(flips: int, total: int, attack: str, radius: int) -> Seen:
    detail = f"{attack} at {radius}/255 flips {flips} of {total} pictures that every white-box attack of the suite left"
    return Seen(flips <= _few_of(total), f"{detail} right", radius=radius)


def _agrees_with_reference(case: Case) -> Iterator[Seen]:
    images = case.images[case.rows]
    ours, theirs = probabilities(case.scorer.logits(images)), probabilities(case.reference.logits(images))
    drift = float(np.abs(ours - theirs).sum(axis=1).mean() / 2)
    differ = int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum())
    yield Seen(
        differ <= _few_of(len(images)) and drift <= MAX_DRIFT,
        f"on {differ} of {len(images)} clean pictures the labels differ, probabilities by {drift:.4f} in the mean",
    )


def _clean_as_reported(case: Case) -> Iterator[Seen]:
    differ = int((case.right(case.images[case.rows], case.rows) != case.clean[case.rows]).sum())
    yield Seen(
        differ <= _few_of(len(case.rows)),
        f"the scorer's answers to {differ} of {len(case.rows)} clean pictures are not those that the report counts",
    )


def _survives_a_file(case: Case) -> Iterator[Seen]:
    """Attack a few pictures with every line, write them as PNG, read them, and measure their perturbation."""
    rows = case.few
    origin, specs, lost, widest = case.images[rows], _lines(case.outcomes), [], 0.0
    for spec in specs:
        crafted = case.attacked(case.crafter, spec, rows)
        read = np.stack([load_pixels(to_png(one)) for one in crafted])
        size = BALLS[spec.attack.norm].size((read.astype(np.float64) - origin) * 255).max()
        widest = max(widest, float(size) / spec.epsilon_255[0])
        if not np.array_equal(read, crafted):
            lost.append(spec.attack.name)
    yield Seen(
        not lost and widest <= 1 + 1e-3,
        f"{len(specs)} lines on {len(rows)} pictures, written as PNG and read: at most {widest:.4f} of the radius, "
        f"changed by the file: {', '.join(lost) or 'none'}",
    )


def _many_steps(case: Case) -> Iterator[Seen]:
    for curve in case.curves:
        yield Seen(
            curve.success_rate[-1] <= curve.suite_success_rate + OVERLOOKED,
            f"{curve.steps[-1]} steps of {curve.attack} flip {curve.success_rate[-1]:.3f} of {curve.pictures} "
            f"pictures, the suite up to {curve.epsilon_255}/255 {curve.suite_success_rate:.3f}",
            radius=curve.epsilon_255,
        )


def _lines(outcomes: Iterable[Outcome]) -> list[AttackSpec]:
    """Return the suite that gave ``outcomes``, each line at its smallest radius."""
    return list({replace(outcome.spec, epsilon_255=(min(outcome.spec.epsilon_255),)): None for outcome in outcomes})


def _linf(outcomes: Iterable[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.spec.attack.norm == "linf"]


def _few_of(total: int) -> int:
    """Return how many of ``total`` pictures the tolerance allows."""
    return max(1, int(TOLERANCE * total))


CHECKS: Final[Mapping[str, Check]] = {
    "logits": Check(
        "logits_not_probabilities",
        "The crafter's outputs are compared with probabilities.",
        "The model ends in a softmax, which flattens every gradient.",
        _logits_not_probabilities,
    ),
    "expectation": Check(
        "attacked_through_expectation",
        "A model that declares itself randomised is attacked through the mean over at least 20 draws a step (EOT).",
        "Chance hides the gradient from the attack.",
        _attacked_through_expectation,
    ),
    "deterministic": Check(
        "deterministic_forward",
        "Two passes over the same pictures are compared.",
        "The model draws random numbers without declaring it.",
        _deterministic_forward,
    ),
    "gradients": Check(
        "gradients_not_zero",
        "Pictures without a gradient are counted.",
        "The gradients are masked or saturated: an attack can only be as good as its gradient.",
        _gradients_not_zero,
    ),
    "uphill": Check(
        "gradients_point_uphill",
        "A step along the gradient is compared with a random step of the same size.",
        "The gradients lead nowhere, as behind quantised or non-differentiable preprocessing.",
        _gradients_point_uphill,
    ),
    "noise": Check(
        "{attack}_not_stronger_than_fgsm_at_{radius}",
        "Random change is compared with FGSM.",
        "FGSM is no better than chance.",
        _noise_not_stronger,
    ),
    "at_least_fgsm": Check(
        "{attack}_at_least_fgsm_at_{radius}",
        "Each iterative attack is compared with FGSM at its best radius up to the same one.",
        "The iterative attack did not work: more gradients must not flip less.",
        _at_least_fgsm,
    ),
    "budget": Check(
        "larger_budget_changes_little",
        "The strongest iterative attack runs again with twice the steps and twice the restarts.",
        "The suite's budget is too small: the attack stopped too early.",
        _larger_budget,
    ),
    "huge_radius": Check(
        f"chance_at_{HUGE_255}",
        "The model is attacked at a radius where no model can be robust.",
        "The model is not really attacked: no model withstands an unlimited change.",
        _huge_radius,
    ),
    "black_box": Check(
        "{attack}_not_stronger_than_white_box_at_{radius}",
        "Flips by attacks with less knowledge, among pictures that every white-box attack left right, are counted.",
        "The gradients mislead the white-box attacks: an attacker with less knowledge must not succeed more often.",
        _black_box,
    ),
    "transfer": Check(
        "transfer_not_stronger_than_direct",
        "Pictures crafted on a surrogate, an undefended network with the same base and training pictures, are scored.",
        "The gradients mislead the white-box attacks: those of another model work better.",
        _transfer,
    ),
    "reference": Check(
        "scorer_agrees_with_reference",
        "Labels and probabilities of the runtime that serves are compared with the float32 reference.",
        "The runtime answers differently from the model that was trained.",
        _agrees_with_reference,
    ),
    "clean": Check(
        "clean_answers_as_reported",
        "The scorer's clean answers are compared with those that the other reports count.",
        "The clean accuracy is not the scorer's.",
        _clean_as_reported,
    ),
    "file": Check(
        "epsilon_respected_in_a_file",
        "Attacked pictures are written as PNG, read again and measured.",
        "Perturbations leave the ball, or do not survive being written to a file.",
        _survives_a_file,
    ),
    "many_steps": Check(
        "many_steps_find_little_new_at_{radius}",
        "40 steps of PGD are compared with the suite; they may flip 5 points more, no more than that.",
        "Only weak attacks were tried at this radius.",
        _many_steps,
    ),
}
