"""Attacks that see nothing of the model: only its answers, or only another model."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from buckler.attacks.ball import as_8_bit
from buckler.attacks.base import Attack, Batch, Options, entry
from buckler.attacks.fab import within
from buckler.errors import BucklerError
from buckler.modality.base import Images, Labels, check_pixels
from buckler.models.classifier import GradientClassifier

Guess = Callable[[Images], Labels]  # images (batch, height, width, 3) to class indices (batch,)

# Sides of the random mosaics that a search starts from, flat colours first: a network may give all full-size noise
# the same label, so noise alone finds no start for pictures of that class.
MOSAICS = (1, 2, 4, 16, 0)
STARTS = 50


@dataclass(frozen=True, slots=True)
class Transferred:
    """Pictures crafted on a surrogate at one radius, and what the target makes of them.

    Attributes:
        epsilon: The radius, in the unit of the pixels.
        adversarial: ``(batch, height, width, 3)``; whole 8-bit levels, as a service would be sent them.
        guesses: The target's class indices, ``(batch,)``.
    """

    epsilon: float
    adversarial: Images
    guesses: Labels


def transfer(
    attack: Attack,
    surrogate: GradientClassifier,
    guess: Guess,
    batch: Batch,
    *,
    epsilons: Sequence[float],
    options: Options,
) -> Iterator[Transferred]:
    """Yield for each of ``epsilons`` what ``guess`` answers to pictures crafted on ``surrogate``.

    The attack goes on after the surrogate is wrong: a picture just past its boundary seldom crosses the target's.

    Args:
        attack: An entry of the table.
        surrogate: A model that the attacker has; maps pixels to logits.
        guess: The target: any function from images to class indices, a service included.
        batch: 8-bit pictures and their true labels.
        epsilons: Radii in the unit of the pixels.
        options: How hard the attack tries; ``early_exit`` is ignored.

    Source: Papernot et al., "Practical black-box attacks against machine learning", arXiv 1602.02697.
    """
    crafted = attack.craft(surrogate, batch, epsilons, replace(options, early_exit=False))
    for epsilon, adversarial in zip(epsilons, crafted, strict=True):
        pictures = as_8_bit(adversarial, batch.images, epsilon, attack.norm)
        yield Transferred(epsilon, pictures, np.asarray(guess(pictures), np.int64))


def hop_skip_jump(
    guess: Guess,
    images: Images,
    labels: Labels,
    *,
    queries: int = 1000,
    steps: int = 50,
    seed: int = 0,
    ids: Sequence[int] | None = None,
) -> Images:
    """Return for each picture the nearest wrong one seen, or the picture itself where none was.

    The search is the Adversarial Robustness Toolbox's, one picture at a time, in L-infinity. It draws from numpy's
    global generator, which is seeded for each picture and put back as it was.

    Args:
        guess: Any function from images to class indices ``(batch,)``; nothing else of the model is used.
        images: ``(batch, height, width, 3)`` float32 in 0..1; one that is wrong already is returned as it is.
        labels: True class indices, ``(batch,)``.
        queries: Pictures that ``guess`` is asked about for each of ``images``, at most.
        steps: Steps of the search, at most.
        seed: Of the search.
        ids: A number a picture that names it in the draw; its position when not given.

    Raises:
        BucklerError: The Adversarial Robustness Toolbox is not installed.
        InputRangeError: Some pixel lies outside 0..1.

    Source: Chen, Jordan & Wainwright, "HopSkipJumpAttack: a query-efficient decision-based attack",
        arXiv 1904.02144.
    """
    check_pixels(images)
    toolbox = _toolbox()
    names = range(len(images)) if ids is None else ids
    found = [
        _search(toolbox, _Oracle(guess, image, int(label), queries), steps, [seed, number])
        for image, label, number in zip(images, labels, names, strict=True)
    ]
    return np.asarray(found, np.float32).reshape(images.shape)


class _BudgetSpentError(Exception):
    """The last query was answered."""


class _Oracle:
    """Answers whether pictures are right, counts the questions, and remembers the nearest wrong one."""

    def __init__(self, guess: Guess, image: Images, label: int, queries: int) -> None:
        self.guess, self.image, self.label, self.left = guess, image, label, queries
        self.nearest, self.distance = image, np.inf

    def __call__(self, images: Images) -> npt.NDArray[np.float32]:
        """Return one-hot rows: right, wrong. Two classes are all that the search needs, whatever the model has.

        Raises:
            _BudgetSpentError: No query is left.
        """
        if not self.left:
            raise _BudgetSpentError
        asked = np.clip(images[: self.left], 0, 1).astype(np.float32)
        self.left -= len(asked)
        wrong = np.asarray(self.guess(asked)) != self.label
        self._remember(asked[wrong])
        if len(asked) < len(images):
            raise _BudgetSpentError
        return np.stack([~wrong, wrong], axis=1).astype(np.float32)

    def _remember(self, wrong: Images) -> None:
        distances = np.abs(wrong - self.image).max(axis=(1, 2, 3))
        if len(wrong) and distances.min() < self.distance:
            self.nearest, self.distance = wrong[distances.argmin()], float(distances.min())


def _search(toolbox: Any, oracle: _Oracle, steps: int, seed: Sequence[int]) -> Images:
    """Return the nearest wrong picture that ``oracle`` was asked about, or its picture where none was wrong."""
    generator = np.random.default_rng(seed)
    kept = np.random.get_state()
    np.random.seed(generator.integers(2**32))
    try:
        start = _start(oracle, generator)
        if start is not None:
            toolbox.attack(oracle, steps).generate(x=oracle.image[None], x_adv_init=start[None])
    except _BudgetSpentError:
        pass  # that is how a search ends
    finally:
        np.random.set_state(kept)
    return oracle.nearest


def _start(oracle: _Oracle, generator: np.random.Generator) -> Images | None:
    """Return some wrong picture; None if the picture is wrong itself, or no wrong one is found."""
    if oracle(oracle.image[None])[0, 1]:
        return None
    for attempt in range(STARTS):
        candidate = _mosaic(oracle.image.shape, MOSAICS[attempt % len(MOSAICS)], generator)
        if oracle(candidate[None])[0, 1]:
            return candidate
    return None


def _mosaic(shape: Sequence[int], side: int, generator: np.random.Generator) -> Images:
    """Return a picture of ``side`` by ``side`` random colours; of a colour a pixel for zero."""
    height, width, colours = shape
    rows, columns = (min(side, height), min(side, width)) if side else (height, width)
    tiles = generator.uniform(0, 1, (rows, columns, colours))
    down, across = np.arange(height) * rows // height, np.arange(width) * columns // width
    return np.asarray(tiles[down][:, across], np.float32)


@dataclass(frozen=True, slots=True)
class _Toolbox:
    """The two classes of the Adversarial Robustness Toolbox that are used here."""

    classifier: Any
    search: Any

    def attack(self, oracle: _Oracle, steps: int) -> Any:
        """Return a search of ``steps`` that asks ``oracle``."""
        estimator = self.classifier(oracle, input_shape=oracle.image.shape, nb_classes=2, clip_values=(0.0, 1.0))
        return self.search(estimator, norm="inf", max_iter=steps, verbose=False)


def _toolbox() -> _Toolbox:
    try:
        with warnings.catch_warnings():
            # It tells everybody who has no PyTorch.
            warnings.filterwarnings("ignore", "PyTorch not found", UserWarning)
            from art.attacks.evasion import HopSkipJump
            from art.estimators.classification import BlackBoxClassifier
    except ImportError as error:
        raise BucklerError(
            "hop_skip_jump needs the Adversarial Robustness Toolbox, which is not installed; "
            "pip install 'buckler[attacks]'"
        ) from error
    return _Toolbox(BlackBoxClassifier, HopSkipJump)


def _hop_skip_jump(
    classifier: GradientClassifier, batch: Batch, epsilons: Sequence[float], options: Options
) -> Iterator[Images]:
    def guess(images: Images) -> Labels:
        return np.asarray(classifier.logits(images).argmax(axis=1))

    tuning: dict[str, Any] = {
        "queries": options.queries,
        "steps": options.steps,
        "seed": options.seed,
        "ids": batch.ids,
    }
    found = hop_skip_jump(guess, batch.images, batch.labels, **tuning)
    for epsilon in epsilons:
        yield within(found, batch.images, batch.labels, epsilon, guess)


ENTRIES: dict[str, Attack] = {"hop_skip_jump": entry(hop_skip_jump, _hop_skip_jump, knowledge="label")}
