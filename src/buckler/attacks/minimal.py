"""Attacks without a radius: each looks for the shortest change, in Euclidean length, that flips the answer.

One search serves every radius: a picture flipped within it is given as found, any other drawn back into the ball.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, minimize

from buckler.attacks.ball import lengths, project_l2
from buckler.attacks.base import Attack, Batch, Options, entry
from buckler.attacks.gradient import check_target
from buckler.attacks.iterative import margins
from buckler.modality.base import Images, Labels, check_pixels
from buckler.models.classifier import GradientClassifier
from buckler.models.forward import Logits

Floats = npt.NDArray[np.float64]
# A picture and a class to that class's cross-entropy gradient and the logits.
Ask = Callable[[Images, int], tuple[Images, Logits]]

# A pixel of exactly 0 or 1 lies at infinity in tanh space; so close to it, it hardly moves.
SMOOTHER = 1 - 1e-6

# Length that a step goes past the face: where clipping to 0..1 shortens each step, the last ones would only halve the
# gap. It is less than a thirtieth of a level of one pixel.
PAST = 1e-4


def deepfool(
    classifier: GradientClassifier,
    images: Images,
    labels: Labels,
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    candidates: int = 10,
) -> Images:
    """Return images stepped to the nearest face of their class's region, taken for flat, until they are outside it.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``; a picture that is wrong already stays as it is.
        steps: Steps at most.
        overshoot: Share by which the change is lengthened, to end beyond the boundary and not on it.
        candidates: How many of the likeliest other classes are looked at.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.

    Source: Moosavi-Dezfooli, Fawzi & Frossard, "DeepFool: a simple and accurate method to fool deep neural
    networks", arXiv 1511.04599, algorithm 2.
    """
    check_pixels(images)
    result, change = images.copy(), np.zeros_like(images)
    active = _still_right(classifier, images, labels)
    for _ in range(steps):
        if not len(active):
            break
        change[active] += _to_nearest_face(classifier, result[active], labels[active], candidates)
        result[active] = np.clip(images[active] + np.float32(1 + overshoot) * change[active], 0, 1)
        active = active[_still_right(classifier, result[active], labels[active])]
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
        step[closer] = normal[closer] * reach[:, None, None, None]
    return step


def _faces(
    classifier: GradientClassifier, images: Images, labels: Labels, candidates: int
) -> Iterator[tuple[Images, Logits]]:
    """Yield for each rival class, likeliest first, the gradient of its lead over ``labels`` and what it lacks."""
    rows = np.arange(len(labels))
    normal, logits = classifier.loss_gradient(images, labels, "margin")
    rivals = _by_likelihood(logits, labels).T[:candidates]
    # The margin is the likeliest rival's lead: with two classes there is no other face, and one pass does.
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


def carlini_wagner(
    classifier: GradientClassifier,
    images: Images,
    labels: Labels,
    *,
    steps: int = 100,
    searches: int = 9,
    learning_rate: float = 0.01,
    first_weight: float = 0.01,
    confidence: float = 0.0,
) -> Images:
    """Return the closest flipped images met while Adam trades length against margin, for one weight after another.

    It works in tanh space, which keeps pixels in 0..1 but all but freezes those that are exactly 0 or 1.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``; a picture that is wrong already, or never flips, stays as it is.
        steps: Adam's steps a weight; a picture that gains nothing for a tenth of them stops.
        searches: Weights tried, ten times as much until one flips, then by bisection.
        learning_rate: Adam's, in tanh space.
        first_weight: Of the margin against the squared length.
        confidence: Margin, in logits, by which an answer has to be wrong.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.

    Source: Carlini & Wagner, "Towards evaluating the robustness of neural networks", arXiv 1608.04644, sec. VI.A.
    """
    check_pixels(images)
    result = images.copy()
    active = _still_right(classifier, images, labels)
    shortest = np.full(len(active), np.inf)
    search = _WeightSearch(len(active), first_weight)
    for _ in range(searches if len(active) else 0):
        found, length = _descend(
            classifier, images[active], labels[active], search.weight, steps, learning_rate, confidence
        )
        shorter = length < shortest
        result[active[shorter]], shortest[shorter] = found[shorter], length[shorter]
        search.narrow(np.isfinite(length))
    return result


class _WeightSearch:
    """The search for the smallest weight of the loss that still flips, for each picture on its own."""

    def __init__(self, pictures: int, first: float) -> None:
        self.weight = np.full(pictures, first)
        self._low, self._high = np.zeros(pictures), np.full(pictures, np.inf)

    def narrow(self, flipped: npt.NDArray[np.bool_]) -> None:
        """Choose the next weights, given which pictures the present ones ``flipped``."""
        self._high = np.where(flipped, self.weight, self._high)
        self._low = np.where(flipped, self._low, self.weight)
        bounded = np.isfinite(self._high)
        between = (self._low + np.where(bounded, self._high, 0)) / 2
        self.weight = np.where(bounded, between, self.weight * 10)


def _descend(
    classifier: GradientClassifier,
    images: Images,
    labels: Labels,
    weight: Floats,
    steps: int,
    learning_rate: float,
    confidence: float,
) -> tuple[Images, Floats]:
    """Return the shortest flip met at ``weight`` and its length, infinite where there is none."""
    best, shortest = images.copy(), np.full(len(images), np.inf)
    point = np.arctanh((2 * images - 1) * SMOOTHER)
    adam = _Adam(point.shape, learning_rate)
    active, before = np.arange(len(images)), np.full(len(images), np.inf)
    for step in range(steps):
        curve = np.tanh(point[active])
        here = np.clip((curve + 1) / 2, 0, 1)
        gradient, logits = classifier.loss_gradient(here, labels[active], "margin")
        lead = margins(logits, labels[active])
        change = here - images[active]
        length = lengths(change)
        better = (lead < 0) & (lead <= -confidence) & (length < shortest[active])
        best[active[better]], shortest[active[better]] = here[better], length[better]
        pull = np.where(lead > -confidence, weight[active], 0).astype(np.float32)[:, None, None, None]
        slope = (2 * change - pull * gradient) * (1 - curve**2) / 2
        point[active] -= adam.move(slope, active)
        if step % max(1, steps // 10) == 0:
            loss = length**2 + weight[active] * np.maximum(lead + confidence, 0)
            gaining = loss <= 0.9999 * before[active]
            before[active] = loss
            active = active[gaining]
            if not len(active):
                break
    return best, shortest


class _Adam:
    """Adam's moments for pictures that begin together and may stop one by one.

    Source: Kingma & Ba, "Adam: a method for stochastic optimization", arXiv 1412.6980, algorithm 1.
    """

    def __init__(self, shape: tuple[int, ...], learning_rate: float) -> None:
        self._mean, self._square = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._rate, self._steps = learning_rate, 0

    def move(self, slope: Images, which: npt.NDArray[np.intp]) -> Images:
        """Return what to subtract from the pictures at ``which``, whose gradient is ``slope``."""
        self._steps += 1
        self._mean[which] = 0.9 * self._mean[which] + 0.1 * slope
        self._square[which] = 0.999 * self._square[which] + 0.001 * slope**2
        mean = self._mean[which] / (1 - 0.9**self._steps)
        square = self._square[which] / (1 - 0.999**self._steps)
        return np.asarray(self._rate * mean / (np.sqrt(square) + 1e-8), np.float32)


def lbfgs(
    classifier: GradientClassifier,
    images: Images,
    labels: Labels,
    *,
    target: int | None = None,
    steps: int = 50,
    searches: int = 10,
    first_weight: float = 0.01,
) -> Images:
    """Return the closest flipped images that box-constrained L-BFGS finds, for one weight of the loss after another.

    Each picture has an optimiser to itself, which chooses its own steps; they share the passes through the model.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``; normalises inside.
        images: ``(batch, height, width, 3)`` float32 in 0..1.
        labels: True class indices, ``(batch,)``; a picture that is wrong already, never flips, or is of the class
            ``target`` stays as it is.
        target: The class that the answer shall be; when not given, the likeliest wrong one leads the search and any
            wrong answer ends it.
        steps: L-BFGS iterations a weight.
        searches: Weights tried, ten times as much until one flips, then by bisection.
        first_weight: Of the cross-entropy against the squared length.

    Raises:
        InputRangeError: Some pixel lies outside 0..1.
        ValueError: The model has no class ``target``.

    Source: Szegedy et al., "Intriguing properties of neural networks", arXiv 1312.6199, sec. 4.1.
    """
    check_pixels(images)
    logits = classifier.logits(images)
    if target is None:
        targets = _by_likelihood(logits, labels)[:, 0]
    else:
        check_target(target, logits.shape[1])
        targets = np.full(len(labels), target, np.int64)
    result = images.copy()
    tried = np.flatnonzero((logits.argmax(axis=1) == labels) & (targets != labels))

    def search(place: int, ask: Ask) -> Images:
        goal = int(targets[place])
        return _lbfgs_one(ask, images[place], int(labels[place]), goal, target, steps, searches, first_weight)

    for place, found in zip(
        tried, _side_by_side(classifier, [partial(search, p) for p in tried.tolist()]), strict=True
    ):
        result[place] = found
    return result


def _lbfgs_one(
    ask: Ask, image: Images, label: int, goal: int, wanted: int | None, steps: int, searches: int, first_weight: float
) -> Images:
    best, shortest = image, np.inf
    search = _WeightSearch(1, first_weight)
    for _ in range(searches):
        candidate = _box_minimum(ask, image, goal, float(search.weight[0]), steps)
        answer = int(ask(candidate, goal)[1].argmax())
        flipped = answer != label if wanted is None else answer == wanted
        length = float(lengths((candidate - image)[None])[0])
        if flipped and length < shortest:
            best, shortest = candidate, length
        search.narrow(np.array([flipped]))
    return best


def _box_minimum(ask: Ask, image: Images, goal: int, weight: float, steps: int) -> Images:
    """Return the picture in 0..1 with the least squared length plus ``weight`` times cross-entropy of ``goal``."""
    origin = image.astype(np.float64).ravel()

    def objective(flat: Floats) -> tuple[float, Floats]:
        gradient, logits = ask(np.clip(flat, 0, 1).astype(np.float32).reshape(image.shape), goal)
        values = logits.astype(np.float64)
        entropy = np.logaddexp.reduce(values) - values[goal]
        change = flat - origin
        return float(change @ change + weight * entropy), 2 * change + weight * gradient.astype(np.float64).ravel()

    found = minimize(objective, origin, jac=True, method="L-BFGS-B", bounds=Bounds(0, 1), options={"maxiter": steps})
    return np.asarray(np.clip(found.x, 0, 1), np.float32).reshape(image.shape)


def _side_by_side(classifier: GradientClassifier, searches: Sequence[Callable[[Ask], Images]]) -> list[Images]:
    """Return what each of ``searches`` finds; once all of them wait for a gradient, one pass answers them."""
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
    except Exception as error:  # goes on in the searches, which would wait for ever otherwise
        for place in places:
            answers[place].put(error)
        return
    for place, gradient, values in zip(places, gradients, logits, strict=True):
        answers[place].put((gradient, values))


def _entry(attack: Callable[..., Images], *asked: str) -> Attack:
    """Return the entry of a search for the shortest flip, which runs once for all radii.

    Args:
        attack: The search.
        asked: The options that it takes.
    """

    def craft(
        classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
    ) -> Iterator[Images]:
        tuning = {name: getattr(options, name) for name in asked}
        found = attack(classifier, batch.images, batch.labels, **tuning)
        for epsilon in epsilons:
            yield project_l2(found, batch.images, epsilon)

    return entry(attack, craft, norm="l2")


ENTRIES: dict[str, Attack] = {
    "deepfool": _entry(deepfool, "steps"),
    "lbfgs": _entry(lbfgs, "steps", "target"),
    "carlini_wagner": _entry(carlini_wagner, "steps"),
}
