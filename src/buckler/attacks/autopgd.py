"""AutoPGD: projected gradient ascent that chooses its own step size, on two losses."""

from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from buckler.attacks.ball import project, spread, uniform
from buckler.attacks.base import Attack, Batch, Tuning
from buckler.attacks.iterative import EXIT_MARGIN, margins
from buckler.modality.base import Images, Labels
from buckler.models.forward import Logits
from buckler.models.gradients import GradientClassifier

Loss = Literal["cross_entropy", "margin"]
Values = npt.NDArray[np.float32]  # (batch,), the loss of each input

# The paper's constants: share of the move that is new, share of steps that must have raised the loss.
MOMENTUM = 0.75
RISING_SHARE = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoPGD(Attack[GradientClassifier]):
    """Gradient ascent whose step is halved, from the best point so far, whenever it stops raising the loss.

    Only the budget is tuned. The result is the visited point with the lowest margin: with many classes the point
    with the highest cross-entropy need not be misclassified.

    Attributes:
        steps: Gradient steps a restart.
        restarts: Random starts; only inputs that are still right get another.
        early_exit: Stop on an input that is wrong by a clear margin.
    """

    source = (
        "Croce & Hein, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free "
        "attacks, arXiv 2003.01690, algorithm 1"
    )
    at_least_fgsm = True
    loss: ClassVar[Loss]

    steps: int = 100
    restarts: int = 1
    early_exit: bool = True

    def perturb(self, model: GradientClassifier, batch: Batch, epsilon: float) -> Images:
        """Return the point with the lowest margin for each input."""
        images, labels, names = batch.images, batch.labels, batch.numbers
        result, lowest = images.copy(), np.full(len(images), np.inf, np.float32)
        active = np.arange(len(images))
        for restart in range(self.restarts):
            start = uniform(images[active], epsilon, batch.seed + restart, names[active].tolist())
            climb = _Climb(model, images[active], labels[active], epsilon, self.loss, self.early_exit)
            found, margin = climb.run(project(images[active] + start, images[active], epsilon), self.steps)
            better = margin < lowest[active]
            result[active[better]], lowest[active[better]] = found[better], margin[better]
            active = active[lowest[active] > 0]
            if not len(active):
                break
        return result


def _fixed(loss: Loss) -> Tuning:
    shares = {"momentum": MOMENTUM, "rising_share": RISING_SHARE}
    return {"loss": loss, "first_step": "2 * epsilon", **shares, "exit_margin": EXIT_MARGIN}


@dataclass(frozen=True, slots=True, kw_only=True)
class APGDCrossEntropy(AutoPGD):
    """AutoPGD on the cross-entropy."""

    name = "apgd-ce"
    description = "AutoPGD: PGD that sets its own step size, on the cross-entropy."
    loss = "cross_entropy"
    fixed: ClassVar[Tuning] = _fixed("cross_entropy")


@dataclass(frozen=True, slots=True, kw_only=True)
class APGDMargin(AutoPGD):
    """AutoPGD on the largest other logit less the true one, which does not saturate."""

    name = "apgd-margin"
    description = "AutoPGD on the difference between the true and the best other logit, which does not saturate."
    loss = "margin"
    fixed: ClassVar[Tuning] = _fixed("margin")


ATTACKS = (APGDCrossEntropy, APGDMargin)


def checkpoints(steps: int) -> list[int]:
    """Return the steps after which the step size may be halved: the first at 22 % of them, then ever sooner."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return sorted({int(np.ceil(share * steps)) for share in shares[1:] if share < 1})


@dataclass(slots=True)
class _State:
    """State of the inputs still under attack; every field has one entry an input."""

    row: npt.NDArray[np.int64]
    at: Images
    before: Images
    gradient: Images
    value: Values
    best: Images
    best_gradient: Images
    best_value: Values
    step: Values
    rises: npt.NDArray[np.int64]
    mark_step: Values
    mark_value: Values

    def keep(self, going: npt.NDArray[np.bool_]) -> None:
        """Drop the inputs that are not ``going``."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[going])


@dataclass(slots=True)
class _Climb:
    """One restart over some inputs."""

    classifier: GradientClassifier
    images: Images
    labels: Labels
    epsilon: float
    loss: Loss
    early_exit: bool

    def run(self, start: Images, steps: int) -> tuple[Images, Values]:
        """Return for each input the point with the lowest margin, and that margin."""
        found, lowest = start.copy(), np.full(len(start), np.inf, np.float32)
        state, logits = self._begin(start)
        going = self._record(state, logits, found, lowest)
        marks = [0, *checkpoints(steps)]
        for step in range(1, steps):
            state.keep(going)
            if not len(state.row):
                return found, lowest
            self._move(state, MOMENTUM if step > 1 else 1.0)
            gradient, logits = self.classifier.loss_gradient(state.at, self.labels[state.row], self.loss)
            going = self._record(state, logits, found, lowest)
            self._note(state, gradient, self._values(logits, state.row))
            if step in marks:
                _halve_where_stuck(state, step - marks[marks.index(step) - 1])
        state.keep(going)
        self._move(state, MOMENTUM if steps > 1 else 1.0)
        self._record(state, self.classifier.logits(state.at), found, lowest)  # the last point needs no gradient
        return found, lowest

    def _begin(self, start: Images) -> tuple[_State, Logits]:
        gradient, logits = self.classifier.loss_gradient(start, self.labels, self.loss)
        rows = np.arange(len(start))
        value = self._values(logits, rows)
        step = np.full(len(start), 2 * self.epsilon, np.float32)
        state = _State(
            row=rows,
            at=start.copy(),
            before=start.copy(),
            gradient=gradient,
            value=value,
            best=start.copy(),
            best_gradient=gradient.copy(),
            best_value=value.copy(),
            step=step,
            rises=np.zeros(len(start), np.int64),
            mark_step=step.copy(),
            mark_value=value.copy(),
        )
        return state, logits

    def _record(self, state: _State, logits: Logits, found: Images, lowest: Values) -> npt.NDArray[np.bool_]:
        """Keep the points with a margin lower than any before; return which inputs go on."""
        margin = margins(logits, self.labels[state.row])
        better = margin < lowest[state.row]
        found[state.row[better]], lowest[state.row[better]] = state.at[better], margin[better]
        if not self.early_exit:
            return np.ones(len(state.row), bool)
        return np.asarray(margin > -EXIT_MARGIN * np.abs(logits).max(axis=-1))

    def _move(self, state: _State, momentum: float) -> None:
        images = self.images[state.row]
        ahead = state.at + spread(state.step, state.at) * np.sign(state.gradient)
        ahead = project(ahead, images, self.epsilon)
        moved = state.at + momentum * (ahead - state.at) + (1 - momentum) * (state.at - state.before)
        state.before, state.at = state.at, project(moved, images, self.epsilon)

    def _note(self, state: _State, gradient: Images, value: Values) -> None:
        state.rises += value > state.value
        state.gradient, state.value = gradient, value
        better = value > state.best_value
        state.best[better], state.best_gradient[better] = state.at[better], gradient[better]
        state.best_value[better] = value[better]

    def _values(self, logits: Logits, rows: npt.NDArray[np.int64]) -> Values:
        labels = self.labels[rows]
        if self.loss == "margin":
            return -margins(logits, labels)
        top = logits.max(axis=-1)
        own = logits[np.arange(len(labels)), labels]
        return np.asarray(np.log(np.exp(logits - top[:, None]).sum(axis=-1)) + top - own, np.float32)


def _halve_where_stuck(state: _State, since: int) -> None:
    """Halve the step and return to the best point where the last ``since`` steps did not raise the loss enough."""
    seldom = state.rises < RISING_SHARE * since
    # No gain although the step was not halved last time either.
    stuck = (state.mark_step == state.step) & (state.mark_value == state.best_value)
    state.mark_step, state.mark_value = state.step.copy(), state.best_value.copy()
    halve = seldom | stuck
    state.step[halve] /= 2
    state.at[halve], state.gradient[halve] = state.best[halve], state.best_gradient[halve]
    state.value[halve] = state.best_value[halve]
    state.rises[:] = 0
