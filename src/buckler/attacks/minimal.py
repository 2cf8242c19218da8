"""Attacks without a radius: each searches the shortest change, in Euclidean length, that flips the answer.

One search serves every radius: a flip within it is returned as found, any other is projected to the radius.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, minimize

from buckler.attacks.ball import lengths, project_l2, spread
from buckler.attacks.base import Attack, Batch
from buckler.attacks.gradient import check_target
from buckler.attacks.iterative import margins
from buckler.modality.base import BOUNDS, Images, Labels
from buckler.models.forward import Logits
from buckler.models.gradients import GradientClassifier

Floats = npt.NDArray[np.float64]
# An input and a class to that class's cross-entropy gradient and the logits.
Ask = Callable[[Images, int], tuple[Images, Logits]]

# A value of exactly 0 or 1 is infinite in tanh space; this factor keeps it finite, though it hardly moves.
SMOOTHER = 1 - 1e-6

# Length by which a step passes the face: if clipping to 0..1 shortens each step, the last ones would only halve the
# gap. It is less than a thirtieth of an 8-bit level of one value.
PAST = 1e-4


class Shortest(Attack[GradientClassifier]):
    """Base of the searches without a radius. Misclassified inputs, and inputs that never flip, stay the same."""

    __slots__ = ()
    norm = "l2"

    @abstractmethod
    def search(self, model: GradientClassifier, batch: Batch) -> Images:
        """Return for each input the closest flip found, or the input itself."""

    def perturb_each(self, model: GradientClassifier, batch: Batch, epsilons: Sequence[float]) -> Iterator[Images]:
        """Yield what the search found, projected to each of ``epsilons``."""
        found = self.search(model, batch)
        for epsilon in epsilons:
            yield project_l2(found, batch.images, epsilon)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepFool(Shortest):
    """Steps to the nearest linearised boundary of the input's class, until the input is beyond it.

    Attributes:
        steps: Steps at most.
        overshoot: Share by which the change is lengthened, so that it ends beyond the boundary.
        candidates: Number of the likeliest other classes whose boundaries are tried.
    """

    name = "deepfool"
    description = "DeepFool: walks to the nearest boundary of the model, taken as flat at each step."
    source = (
        "Moosavi-Dezfooli, Fawzi & Frossard, DeepFool: a simple and accurate method to fool deep neural networks, "
        "arXiv 1511.04599, algorithm 2"
    )

    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 10

    def search(self, model: GradientClassifier, batch: Batch) -> Images:
        """Return for each input the first point beyond the boundary."""
        images, labels = batch.images, batch.labels
        result, change = images.copy(), np.zeros_like(images)
        active = _still_right(model, images, labels)
        for _ in range(self.steps):
            if not len(active):
                break
            change[active] += _to_nearest_face(model, result[active], labels[active], self.candidates)
            result[active] = np.clip(images[active] + np.float32(1 + self.overshoot) * change[active], *BOUNDS)
            active = active[_still_right(model, result[active], labels[active])]
        return result


def _still_right(classifier: GradientClassifier, images: Images, labels: Labels) -> npt.NDArray[np.intp]:
    return np.flatnonzero(classifier.logits(images).argmax(axis=1) == labels)


def _to_nearest_face(classifier: GradientClassifier, images: Images, labels: Labels, candidates: int) -> Images:
    nearest = np.full(len(images), np.inf)
    step = np.zeros_like(images)
    for normal, gap in _faces(classifier, images, labels, candidates):
        length = lengths(normal)
        distance = np.divide(gap, length, out=np.full(len(images), np.inf), where=length > 0)
        closer = distance < nearest
        nearest[closer] = distance[closer]
        reach = (distance[closer] + PAST) / length[closer]
        step[closer] = normal[closer] * spread(reach, normal)
    return step


def _faces(
    classifier: GradientClassifier, images: Images, labels: Labels, candidates: int
) -> Iterator[tuple[Images, Logits]]:
    """Yield for each rival class, likeliest first, the gradient of its lead over ``labels`` and the gap to it."""
    rows = np.arange(len(labels))
    normal, logits = classifier.loss_gradient(images, labels, "margin")
    rivals = _by_likelihood(logits, labels).T[:candidates]
    # The margin is the lead over the likeliest rival: with two classes this is the only face, and one pass suffices.
    yield normal, np.abs(margins(logits, labels))
    if len(rivals) > 1:
        own, _ = classifier.loss_gradient(images, labels, "logit")
    for rival in rivals[1:]:
        other, _ = classifier.loss_gradient(images, rival, "logit")
        yield other - own, np.abs(logits[rows, labels] - logits[rows, rival])


def _by_likelihood(logits: Logits, labels: Labels) -> Labels:
    """Return the classes other than ``labels``, likeliest first, ``(batch, classes - 1)``."""
    others = logits.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return np.asarray(np.argsort(-others, axis=1, kind="stable")[:, :-1], np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class CarliniWagner(Shortest):
    """The closest flips met while Adam trades length against margin, for one weight after another.

    It works in tanh space, which keeps values in 0..1 but hardly moves those that are exactly 0 or 1.

    Attributes:
        steps: Adam's steps a weight; an input without gain for a tenth of them stops.
        searches: Weights tried: ten times as much until one flips, then by bisection.
        learning_rate: Adam's, in tanh space.
        first_weight: Of the margin against the squared length.
        confidence: Margin, in logits, by which an answer has to be wrong.
    """

    name = "carlini_wagner"
    description = "Carlini & Wagner: weighs the length of the change against how wrong the answer is."
    source = "Carlini & Wagner, Towards evaluating the robustness of neural networks, arXiv 1608.04644, sec. VI.A"

    steps: int = 100
    searches: int = 9
    learning_rate: float = 0.01
    first_weight: float = 0.01
    confidence: float = 0.0

    def search(self, model: GradientClassifier, batch: Batch) -> Images:
        """Return for each input the shortest flip over all weights."""
        result = batch.images.copy()
        active = _still_right(model, batch.images, batch.labels)
        images, labels = batch.images[active], batch.labels[active]
        shortest, weights = np.full(len(active), np.inf), _WeightSearch(len(active), self.first_weight)
        for _ in range(self.searches if len(active) else 0):
            found, length = self._descend(model, images, labels, weights.weight)
            shorter = length < shortest
            result[active[shorter]], shortest[shorter] = found[shorter], length[shorter]
            weights.narrow(np.isfinite(length))
        return result

    def _descend(
        self, model: GradientClassifier, images: Images, labels: Labels, weight: Floats
    ) -> tuple[Images, Floats]:
        """Return the shortest flip met at ``weight`` and its length, infinite if there is none."""
        best, shortest = images.copy(), np.full(len(images), np.inf)
        point = np.arctanh((2 * images - 1) * SMOOTHER)
        adam = _Adam(point.shape, self.learning_rate)
        active, before = np.arange(len(images)), np.full(len(images), np.inf)
        for step in range(self.steps):
            curve = np.tanh(point[active])
            here = np.clip((curve + 1) / 2, *BOUNDS)
            gradient, logits = model.loss_gradient(here, labels[active], "margin")
            lead = margins(logits, labels[active])
            change = here - images[active]
            length = lengths(change)
            better = (lead < 0) & (lead <= -self.confidence) & (length < shortest[active])
            best[active[better]], shortest[active[better]] = here[better], length[better]
            pull = np.where(lead > -self.confidence, weight[active], 0).astype(np.float32)
            slope = (2 * change - spread(pull, change) * gradient) * (1 - curve**2) / 2
            point[active] -= adam.move(slope, active)
            if step % max(1, self.steps // 10) == 0:
                loss = length**2 + weight[active] * np.maximum(lead + self.confidence, 0)
                gaining = loss <= 0.9999 * before[active]
                before[active] = loss
                active = active[gaining]
                if not len(active):
                    break
        return best, shortest


class _WeightSearch:
    """The search for the smallest weight of the loss that still flips, for each input on its own."""

    def __init__(self, count: int, first: float) -> None:
        self.weight = np.full(count, first)
        self._low, self._high = np.zeros(count), np.full(count, np.inf)

    def narrow(self, flipped: npt.NDArray[np.bool_]) -> None:
        """Choose the next weights, given which inputs the present ones ``flipped``."""
        self._high = np.where(flipped, self.weight, self._high)
        self._low = np.where(flipped, self._low, self.weight)
        bounded = np.isfinite(self._high)
        between = (self._low + np.where(bounded, self._high, 0)) / 2
        self.weight = np.where(bounded, between, self.weight * 10)


class _Adam:
    """Adam's moments for inputs that begin together and may stop one by one.

    Source: Kingma & Ba, "Adam: a method for stochastic optimization", arXiv 1412.6980, algorithm 1.
    """

    def __init__(self, shape: tuple[int, ...], learning_rate: float) -> None:
        self._mean, self._square = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._rate, self._steps = learning_rate, 0

    def move(self, slope: Images, which: npt.NDArray[np.intp]) -> Images:
        """Return what to subtract from the inputs at ``which``, whose gradient is ``slope``."""
        self._steps += 1
        self._mean[which] = 0.9 * self._mean[which] + 0.1 * slope
        self._square[which] = 0.999 * self._square[which] + 0.001 * slope**2
        mean = self._mean[which] / (1 - 0.9**self._steps)
        square = self._square[which] / (1 - 0.999**self._steps)
        return np.asarray(self._rate * mean / (np.sqrt(square) + 1e-8), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class LBFGS(Shortest):
    """The closest flips that box-constrained L-BFGS finds, for one weight of the loss after another.

    Each input has its own optimiser, which chooses its own steps; all share the passes through the model.

    Attributes:
        target: The wanted class; an input of that class stays the same. When not given, the likeliest wrong class
            leads the search and any wrong answer ends it.
        steps: L-BFGS iterations a weight.
        searches: Weights tried: ten times as much until one flips, then by bisection.
        first_weight: Of the cross-entropy against the squared length.

    Raises:
        ValueError: The model has no class ``target``.
    """

    name = "lbfgs"
    description = "L-BFGS: a second-order search for the smallest change that flips the answer."
    source = "Szegedy et al., Intriguing properties of neural networks, arXiv 1312.6199, sec. 4.1"

    target: int | None = None
    steps: int = 50
    searches: int = 10
    first_weight: float = 0.01

    def search(self, model: GradientClassifier, batch: Batch) -> Images:
        """Return for each input the shortest flip over all weights."""
        images, labels = batch.images, batch.labels
        logits = model.logits(images)
        if self.target is None:
            targets = _by_likelihood(logits, labels)[:, 0]
        else:
            check_target(self.target, logits.shape[1])
            targets = np.full(len(labels), self.target, np.int64)
        result = images.copy()
        tried = np.flatnonzero((logits.argmax(axis=1) == labels) & (targets != labels))
        searches = [
            partial(self._one, image=images[place], label=int(labels[place]), goal=int(targets[place]))
            for place in tried
        ]
        for place, found in zip(tried, _side_by_side(model, searches), strict=True):
            result[place] = found
        return result

    def _one(self, ask: Ask, *, image: Images, label: int, goal: int) -> Images:
        best, shortest = image, np.inf
        weights = _WeightSearch(1, self.first_weight)
        for _ in range(self.searches):
            candidate = _box_minimum(ask, image, goal, float(weights.weight[0]), self.steps)
            answer = int(ask(candidate, goal)[1].argmax())
            flipped = answer != label if self.target is None else answer == self.target
            length = float(lengths((candidate - image)[None])[0])
            if flipped and length < shortest:
                best, shortest = candidate, length
            weights.narrow(np.array([flipped]))
        return best


ATTACKS = (DeepFool, LBFGS, CarliniWagner)


def _box_minimum(ask: Ask, image: Images, goal: int, weight: float, steps: int) -> Images:
    """Return the input in 0..1 with the least squared length plus ``weight`` times cross-entropy of ``goal``."""
    origin = image.astype(np.float64).ravel()

    def objective(flat: Floats) -> tuple[float, Floats]:
        gradient, logits = ask(np.clip(flat, *BOUNDS).astype(np.float32).reshape(image.shape), goal)
        values = logits.astype(np.float64)
        entropy = np.logaddexp.reduce(values) - values[goal]
        change = flat - origin
        return float(change @ change + weight * entropy), 2 * change + weight * gradient.astype(np.float64).ravel()

    found = minimize(objective, origin, jac=True, method="L-BFGS-B", bounds=Bounds(*BOUNDS), options={"maxiter": steps})
    return np.asarray(np.clip(found.x, *BOUNDS), np.float32).reshape(image.shape)


def _side_by_side(classifier: GradientClassifier, searches: Sequence[Callable[[Ask], Images]]) -> list[Images]:
    """Return what each of ``searches`` finds; once all of them wait for a gradient, one pass serves them all."""
    asked: SimpleQueue[tuple[int, Images, int] | None] = SimpleQueue()
    answers: list[SimpleQueue[tuple[Images, Logits] | Exception]] = [SimpleQueue() for _ in searches]

    def run(place: int) -> Images:
        def ask(image: Images, goal: int) -> tuple[Images, Logits]:
            asked.put((place, image, goal))
            answer = answers[place].get()
            if isinstance(answer, Exception):
                raise answer
            return answer

        try:
            return searches[place](ask)
        finally:
            asked.put(None)

    with ThreadPoolExecutor(max(1, len(searches))) as pool:
        found = [pool.submit(run, place) for place in range(len(searches))]
        running, waiting = len(searches), []
        while running:
            request = asked.get()
            if request is None:
                running -= 1
            else:
                waiting.append(request)
            if waiting and len(waiting) == running:
                _answer(classifier, sorted(waiting, key=lambda one: one[0]), answers)
                waiting = []
        return [future.result() for future in found]


def _answer(
    classifier: GradientClassifier,
    requests: Sequence[tuple[int, Images, int]],
    answers: Sequence[SimpleQueue[tuple[Images, Logits] | Exception]],
) -> None:
    places, images, goals = zip(*requests, strict=True)
    try:
        gradients, logits = classifier.loss_gradient(np.stack(images), np.array(goals, np.int64))
    except Exception as error:  # raised again in the searches, which would wait for ever otherwise
        for place in places:
            answers[place].put(error)
        return
    for place, gradient, values in zip(places, gradients, logits, strict=True):
        answers[place].put((gradient, values))
