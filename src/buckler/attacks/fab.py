"""FAB: the smallest perturbation that reaches a decision boundary, for all radii at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from buckler.attacks.ball import largest, project, spread, uniform
from buckler.attacks.base import Attack, Batch, Guess, Tuning, guess_of
from buckler.attacks.iterative import margins
from buckler.modality.base import BOUNDS, Images, Labels
from buckler.models.forward import Logits
from buckler.models.gradients import GradientClassifier

Flat = npt.NDArray[np.float64]  # (values,) of an input, or (batch, values)
PerInput = npt.NDArray[np.float64]  # (batch,)

# The paper's constants: largest weight of the original input, overshoot, share kept of the way to a wrong point.
ALPHA_MAX = 0.1
OVERSHOOT = 1.05
BACKWARD = 0.9
HALVINGS = 7  # of the last stretch; leaves less than 1 % of the distance


@dataclass(frozen=True, slots=True, kw_only=True)
class FAB(Attack[GradientClassifier]):
    """The nearest wrong input, found by steps to the model's linearised boundary; one search serves every radius.

    Each step goes to the boundary and the box 0..1 at once, along the shortest way, drawn back towards the original.
    With two classes a step is one gradient; with more, the boundaries to the ``targets`` likeliest wrong classes are
    tried one after the other, at one gradient a step, or three where the likeliest class changes.

    Attributes:
        steps: Steps a restart and target.
        restarts: The first starts at the input, others at random in half the ball of the nearest flip known.
        targets: Wrong classes tried, the likeliest first.
        early_exit: Leave an input alone once its distance is at most the smallest radius.
    """

    name = "fab"
    description = "Fast adaptive boundary: looks for the smallest change that flips the answer."
    source = (
        "Croce & Hein, Minimally distorted adversarial examples with a fast adaptive boundary attack, "
        "arXiv 1907.02044, algorithm 1; the targeted form of arXiv 2003.01690"
    )
    fixed: ClassVar[Tuning] = {
        "reach": "2 * largest epsilon",
        "enough": "smallest epsilon; 0 without early_exit",
        "alpha_max": ALPHA_MAX,
        "overshoot": OVERSHOOT,
        "backward": BACKWARD,
        "halvings": HALVINGS,
    }

    steps: int = 40
    restarts: int = 1
    targets: int = 3
    early_exit: bool = True

    def perturb_each(self, model: GradientClassifier, batch: Batch, epsilons: Sequence[float]) -> Iterator[Images]:
        """Yield the nearest wrong inputs, stretched or projected to each of ``epsilons``."""
        found = self.search(model, batch, reach=2 * max(epsilons), enough=min(epsilons) if self.early_exit else 0.0)
        for epsilon in epsilons:
            yield within(found, batch, epsilon, guess_of(model))

    def search(self, model: GradientClassifier, batch: Batch, *, reach: float = 1.0, enough: float = 0.0) -> Images:
        """Return for each input the nearest wrong one found, or the input itself where none was.

        Args:
            model: Under attack.
            batch: Inputs; one that is misclassified is returned unchanged.
            reach: L-infinity distance beyond which the search does not go, in the unit of the inputs. Twice the
                largest radius of interest saves steps: a linearised boundary may seem far farther than it is.
            enough: The search for an input ends once its distance is at most this; zero looks for the smallest.
        """
        images, labels, names = batch.images, batch.labels, batch.numbers
        logits = model.logits(images)
        result, distance = images.copy(), np.where(margins(logits, labels) > 0, np.inf, 0.0)
        ranked = _likeliest_wrong(logits, labels, self.targets)
        for restart in range(self.restarts):
            for classes in ranked:
                active = np.flatnonzero(distance > enough)
                if not len(active):
                    break
                start = images[active]
                if restart:
                    radius = np.asarray(np.minimum(distance[active], reach / 2) / 2, np.float32)
                    draw = uniform(start, 1.0, batch.seed + restart, names[active].tolist())
                    start = np.clip(start + spread(radius, start) * draw, *BOUNDS)
                walk = _Walk(model, images[active], labels[active], classes[active], reach, enough)
                found, reached = walk.run(start, self.steps)
                better = reached < distance[active]
                result[active[better]], distance[active[better]] = found[better], reached[better]
        rows = np.flatnonzero((distance > enough) & np.isfinite(distance))
        result[rows] = _shortened(model, result[rows], images[rows], labels[rows])
        return result


ATTACKS = (FAB,)


def within(found: Images, batch: Batch, epsilon: float, guess: Guess) -> Images:
    """Return the smallest perturbations as they count at one radius.

    Within the radius they are stretched to it where the answer stays wrong: inputs right on the boundary would not
    survive rounding to 8 bits. Beyond it they are projected back.

    Args:
        found: The nearest wrong inputs, ``(batch, ...)``; the input itself where none was found.
        batch: The originals.
        epsilon: L-infinity radius in the unit of the inputs.
        guess: From inputs to class indices, ``(batch,)``.
    """
    images, distance = batch.images, largest(found - batch.images)
    known = (distance > 0) & (distance <= epsilon)
    result = project(found, images, epsilon)
    if not known.any():
        return result
    origin, stretch = images[known], (epsilon / distance[known]).astype(np.float32)
    stretched = project(origin + (found[known] - origin) * spread(stretch, origin), origin, epsilon)
    wrong = guess(stretched) != batch.labels[known]
    result[known] = np.where(spread(wrong, stretched), stretched, result[known])
    return result


def nearest_on_plane(point: Flat, normal: Flat, gap: float) -> Flat:
    """Return the point of the box 0..1 on the plane ``<normal, move> = -gap`` with the smallest largest move.

    If the plane misses the box, return the corner closest to the plane. Exact, by sorting.

    Args:
        point: ``(values,)`` in 0..1.
        normal: Of the plane, ``(values,)``.
        gap: How far above the plane the point lies, in units of the inner product with ``normal``.

    Source: Croce & Hein, arXiv 1907.02044, section 2.2, for L-infinity.
    """
    if not gap or not normal.any():
        return point
    direction = -np.sign(normal) * np.sign(gap)
    room = np.where(direction > 0, 1 - point, point)
    # When every value moves by t, or as far as its room allows, the plane comes nearer by a concave, piecewise
    # linear function of t whose kinks are the rooms.
    order = np.argsort(room)
    kinks, slopes = room[order], np.abs(normal)[order]
    spent = np.concatenate([[0.0], np.cumsum(slopes * kinks)])
    slope = slopes.sum() - np.concatenate([[0.0], np.cumsum(slopes)])
    first = int(np.searchsorted(spent[1:] + slope[1:] * kinks, abs(gap)))
    length = kinks[-1] if first == len(kinks) else min((abs(gap) - spent[first]) / slope[first], kinks[first])
    return np.asarray(np.clip(point + direction * length, *BOUNDS))


class _Walk:
    """One start and one wrong class over some inputs, flattened to ``(batch, values)``."""

    def __init__(
        self,
        classifier: GradientClassifier,
        images: Images,
        labels: Labels,
        classes: Labels,
        reach: float,
        enough: float,
    ) -> None:
        self.classifier, self.images, self.labels, self.classes = classifier, images, labels, classes
        self.reach, self.enough = reach, enough
        self.origin = _flat(images)

    def run(self, start: Images, steps: int) -> tuple[Images, PerInput]:
        """Return the nearest wrong points and their distances; infinite where none."""
        at, found = _flat(start), self.origin.copy()
        distance = np.full(len(at), np.inf)
        rows = np.arange(len(at))
        for _ in range(steps):
            if not len(rows):
                break
            gaps, normals, margin = self._plane(at[rows], rows)
            self._take(rows, at, margin, found, distance)
            back = rows[margin < 0]
            # A wrong point is drawn back, and its plane moves with the difference.
            drawn = (1 - BACKWARD) * self.origin[back] + BACKWARD * at[back]
            gaps[margin < 0] += (normals[margin < 0] * (drawn - at[back])).sum(axis=1)
            at[back] = drawn
            at[rows] = self._step(at[rows], self.origin[rows], normals, gaps)
            rows = rows[distance[rows] > self.enough]
        if len(rows):
            margin = margins(self.classifier.logits(self._pictures(at[rows])), self.labels[rows])
            self._take(rows, at, margin, found, distance)
        return self._pictures(found), distance

    def _plane(self, at: Flat, rows: npt.NDArray[np.int64]) -> tuple[PerInput, Flat, Logits]:
        """Return the true class's lead over the wrong one, the gradient of that lead, and the margin."""
        pictures, labels, classes = self._pictures(at), self.labels[rows], self.classes[rows]
        gradient, logits = self.classifier.loss_gradient(pictures, labels, "margin")
        normals = -_flat(gradient)
        other = np.flatnonzero(_likeliest_wrong(logits, labels, 1)[0] != classes)
        if len(other):
            own, _ = self.classifier.loss_gradient(pictures[other], labels[other], "logit")
            theirs, _ = self.classifier.loss_gradient(pictures[other], classes[other], "logit")
            normals[other] = _flat(own) - _flat(theirs)
        number = np.arange(len(rows))
        lead = logits[number, labels].astype(np.float64) - logits[number, classes]
        return lead, normals, margins(logits, labels)

    def _step(self, at: Flat, origin: Flat, normals: Flat, gaps: PerInput) -> Flat:
        gaps_there = gaps + (normals * (origin - at)).sum(axis=1)
        here = np.stack([nearest_on_plane(*row) for row in zip(at, normals, gaps, strict=True)]) - at
        there = np.stack([nearest_on_plane(*row) for row in zip(origin, normals, gaps_there, strict=True)]) - origin
        near, far = np.abs(here).max(axis=1), np.abs(there).max(axis=1)
        alpha = np.divide(near, near + far, out=np.zeros_like(near), where=near + far > 0)
        alpha = np.minimum(alpha, ALPHA_MAX)[:, None]
        moved = (1 - alpha) * (at + OVERSHOOT * here) + alpha * (origin + OVERSHOOT * there)
        near_enough = np.clip(moved, origin - self.reach, origin + self.reach)
        return np.asarray(np.clip(near_enough, *BOUNDS))

    def _take(self, rows: npt.NDArray[np.int64], at: Flat, margin: Logits, found: Flat, distance: PerInput) -> None:
        length = np.abs(at[rows] - self.origin[rows]).max(axis=1)
        better = (margin < 0) & (length < distance[rows])
        found[rows[better]], distance[rows[better]] = at[rows[better]], length[better]

    def _pictures(self, points: Flat) -> Images:
        return points.reshape(len(points), *self.images.shape[1:]).astype(np.float32)


def _shortened(classifier: GradientClassifier, found: Images, images: Images, labels: Labels) -> Images:
    """Return ``found`` moved towards ``images`` to just beyond the boundary, by bisection."""
    if not len(found):
        return found
    low, high = np.zeros(len(found)), np.ones(len(found))

    def between(share: npt.NDArray[np.floating]) -> Images:
        return np.asarray(np.clip(images + spread(share, images) * (found - images), *BOUNDS), np.float32)

    for _ in range(HALVINGS):
        middle = (low + high) / 2
        wrong = margins(classifier.logits(between(middle)), labels) < 0
        low, high = np.where(wrong, low, middle), np.where(wrong, middle, high)
    # Points that were not shortened stay the same, to the bit.
    return np.where(spread(high == 1, found), found, between(high))


def _flat(images: Images) -> Flat:
    return images.reshape(len(images), int(np.prod(images.shape[1:]))).astype(np.float64)


def _likeliest_wrong(logits: Logits, labels: Labels, count: int) -> list[Labels]:
    """Return the wrong class with the largest logit of each input, then the second, up to ``count`` of them."""
    others = logits.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    ranked = np.argsort(-others, axis=1, kind="stable")[:, : min(count, logits.shape[1] - 1)]
    return list(ranked.T)
