"""AutoPGD: projected gradient ascent that chooses its own step size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from buckler.attacks.ball import project, uniform
from buckler.attacks.base import Attack, Batch, Options, entry
from buckler.attacks.iterative import EXIT_MARGIN, margins
from buckler.modality.base import Images, Labels, check_pixels
from buckler.models.classifier import GradientClassifier
from buckler.models.forward import Logits

Loss = Literal["cross_entropy", "margin"]
Values = npt.NDArray[np.float32]  # (batch,), the loss of each picture

# The paper's constants: share of the move that is new, share of steps that must have raised the loss.
MOMENTUM = 0.75
RISING_SHARE = 0.75


def autopgd(
    classifier: GradientClassifier,
    images: Images,
    labels: Labels,
    *,
    epsilon: float,
    loss: Loss = "cross_entropy",
    steps: int = 100,
    restarts: int = 1,
    early_exit: bool = True,
    seed: int = 0,
    ids: Sequence[int] | None = None,
) -> Images:
    """Return images after gradient ascent whose step is halved, from the best point, whenever it stops paying.

    Nothing is left to tune but the budget. A picture's result is, of all points visited, the one with the lowest
    margin: with many classes the highest cross-entropy need not be a wrong answer.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside; two classes are enough.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``.
        epsilon: L-infinity radius in the unit of ``images``; zero returns a copy.
        loss: ``cross_entropy``, or ``margin``: the largest other logit less the true one, which does not saturate.
        steps: Gradient steps a restart.
        restarts: Random starts; only pictures still right get another.
        early_exit: Stop on a picture that is wrong by a clear margin.
        seed: Of the random starts.
        ids: A number a picture that names it in the draw; its position when not given.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.

    Source: Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
        attacks", arXiv 2003.01690, algorithm 1.
    """
    check_pixels(images)
    names = np.arange(len(images)) if ids is None else np.asarray(ids)
    result, lowest = images.copy(), np.full(len(images), np.inf, np.float32)
    active = np.arange(len(images))
    for restart in range(restarts):
        start = uniform(images[active], epsilon, seed + restart, names[active].tolist())
        climb = _Climb(classifier, images[active], labels[active], epsilon, loss, early_exit)
        found, margin = climb.run(project(images[active] + start, images[active], epsilon), steps)
        better = margin < lowest[active]
        result[active[better]], lowest[active[better]] = found[better], margin[better]
        active = active[lowest[active] > 0]
        if not len(active):
            break
    return result


def checkpoints(steps: int) -> list[int]:
    """Return the steps at which the step size is questioned: the first after 22 % of them, then ever sooner."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return sorted({int(np.ceil(share * steps)) for share in shares[1:] if share < 1})


@dataclass(slots=True)
class _State:
    """Where each picture that is still climbed stands; every field has one entry a picture."""

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
        """Forget the pictures that are not ``going`` on."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[going])


@dataclass(slots=True)
class _Climb:
    """One restart over some pictures."""

    classifier: GradientClassifier
    images: Images
    labels: Labels
    epsilon: float
    loss: Loss
    early_exit: bool

    def run(self, start: Images, steps: int) -> tuple[Images, Values]:
        """Return for each picture the point with the lowest margin, and that margin."""
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
                _question(state, step - marks[marks.index(step) - 1])
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
        """Keep the points with a margin lower than any before; return which pictures go on."""
        margin = margins(logits, self.labels[state.row])
        better = margin < lowest[state.row]
        found[state.row[better]], lowest[state.row[better]] = state.at[better], margin[better]
        if not self.early_exit:
            return np.ones(len(state.row), bool)
        return np.asarray(margin > -EXIT_MARGIN * np.abs(logits).max(axis=-1))

    def _move(self, state: _State, momentum: float) -> None:
        images = self.images[state.row]
        ahead = state.at + state.step[:, None, None, None] * np.sign(state.gradient)
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


def _question(state: _State, since: int) -> None:
    """Halve the step and go back to the best point where the last ``since`` steps did not pay."""
    seldom = state.rises < RISING_SHARE * since
    # Nothing gained although the step was not halved last time either.
    stuck = (state.mark_step == state.step) & (state.mark_value == state.best_value)
    state.mark_step, state.mark_value = state.step.copy(), state.best_value.copy()
    halve = seldom | stuck
    state.step[halve] /= 2
    state.at[halve], state.gradient[halve] = state.best[halve], state.best_gradient[halve]
    state.value[halve] = state.best_value[halve]
    state.rises[:] = 0


def _entry(loss: Loss) -> Attack:
    def craft(
        classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
    ) -> Iterator[Images]:
        tuning: dict[str, Any] = {
            "loss": loss,
            "steps": options.steps,
            "restarts": options.restarts,
            "early_exit": options.early_exit,
            "seed": options.seed,
            "ids": batch.ids,
        }
        return (autopgd(classifier, batch.images, batch.labels, epsilon=epsilon, **tuning) for epsilon in epsilons)

    return entry(
        autopgd,
        craft,
        tuning={
            "loss": loss,
            "first_step": "2 * epsilon",
            "momentum": MOMENTUM,
            "rising_share": RISING_SHARE,
            "exit_margin": EXIT_MARGIN,
        },
    )


ENTRIES: dict[str, Attack] = {
    "apgd-ce": _entry("cross_entropy"),
    "apgd-margin": _entry("margin"),
}
