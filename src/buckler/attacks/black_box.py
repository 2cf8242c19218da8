"""Attacks without access to the model: by the labels it answers, or by another model."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from buckler.attacks.ball import largest, on_grid
from buckler.attacks.base import Attack, Batch, Guess, LogitModel, guess_of
from buckler.attacks.fab import within
from buckler.errors import BucklerError
from buckler.modality.base import BOUNDS, Images, Labels, Radius
from buckler.models.gradients import GradientClassifier

# Sides of the random mosaics that a search starts from, flat colours first: a network may give all full-size noise
# the same label, and noise alone would find no start for pictures of that class.
MOSAICS = (1, 2, 4, 16, 0)
STARTS = 50


@dataclass(frozen=True, slots=True)
class Transferred:
    """Pictures crafted on a surrogate at one radius, and the target's answers.

    Attributes:
        radius: In the attack's norm.
        adversarial: ``(batch, height, width, 3)`` rounded to 8 bits, as they are sent to a service.
        guesses: The target's class indices, ``(batch,)``.
    """

    radius: Radius
    adversarial: Images
    guesses: Labels


def transfer(
    attack: Attack[GradientClassifier],
    surrogate: GradientClassifier,
    guess: Guess,
    batch: Batch,
    radii: Sequence[Radius],
) -> Iterator[Transferred]:
    """Yield for each of ``radii`` the answers of ``guess`` to pictures crafted on ``surrogate``.

    There is no early exit: a picture just past the surrogate's boundary seldom crosses the target's.

    Args:
        attack: Run on the surrogate.
        surrogate: A model that the attacker has.
        guess: The target: any function from pictures to class indices, a service included.
        batch: 8-bit pictures.
        radii: In the attack's norm.

    Source: Papernot et al., "Practical black-box attacks against machine learning", arXiv 1602.02697.
    """
    crafted = attack.adjusted(early_exit=False).each(surrogate, batch, radii)
    for radius, adversarial in zip(radii, crafted, strict=True):
        pictures = on_grid(adversarial, batch.images, radius, attack.norm)
        yield Transferred(radius, pictures, np.asarray(guess(pictures), np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class HopSkipJump(Attack[LogitModel]):
    """The nearest wrong picture, found by labels alone; one search serves every radius.

    The search is that of the Adversarial Robustness Toolbox, one picture at a time, in L-infinity. It draws from
    numpy's global generator, which is seeded for each picture and restored afterwards. `LabelsOnly` wraps a service.

    Attributes:
        steps: Steps of the search, at most.
        queries: Passes for each picture, at most.

    Raises:
        BucklerError: The Adversarial Robustness Toolbox is not installed.
    """

    name = "hop_skip_jump"
    description = "HopSkipJump: follows the boundary between two labels, seeing labels alone."
    source = "Chen, Jordan & Wainwright, HopSkipJumpAttack: a query-efficient decision-based attack, arXiv 1904.02144"
    knowledge = "label"
    modalities = ("picture",)
    axes = 3

    steps: int = 50
    queries: int = 1000

    def perturb_each(self, model: LogitModel, batch: Batch, epsilons: Sequence[float]) -> Iterator[Images]:
        """Yield the nearest wrong pictures, stretched or projected to each of ``epsilons``."""
        found = self.search(model, batch)
        for epsilon in epsilons:
            yield within(found, batch, epsilon, guess_of(model))

    def search(self, model: LogitModel, batch: Batch) -> Images:
        """Return for each picture the nearest wrong one met, or the picture itself where none was."""
        toolbox, guess = _toolbox(), guess_of(model)
        found = [
            _search(toolbox, _Oracle(guess, image, int(label), self.queries), self.steps, [batch.seed, number])
            for image, label, number in zip(batch.images, batch.labels, batch.numbers, strict=True)
        ]
        return np.asarray(found, np.float32).reshape(batch.images.shape)


ATTACKS = (HopSkipJump,)


class _BudgetSpentError(Exception):
    """No query is left."""


class _Oracle:
    """Classifies pictures as right or wrong, counts the queries, and keeps the nearest wrong picture."""

    def __init__(self, guess: Guess, image: Images, label: int, queries: int) -> None:
        self.guess, self.image, self.label, self.left = guess, image, label, queries
        self.nearest, self.distance = image, np.inf

    def __call__(self, images: Images) -> npt.NDArray[np.float32]:
        """Return one-hot rows: right, wrong. The search needs no more classes than these two.

        Raises:
            _BudgetSpentError: No query is left.
        """
        if not self.left:
            raise _BudgetSpentError
        asked = np.clip(images[: self.left], *BOUNDS).astype(np.float32)
        self.left -= len(asked)
        wrong = np.asarray(self.guess(asked)) != self.label
        self._remember(asked[wrong])
        if len(asked) < len(images):
            raise _BudgetSpentError
        return np.stack([~wrong, wrong], axis=1).astype(np.float32)

    def _remember(self, wrong: Images) -> None:
        distances = largest(wrong - self.image)
        if len(wrong) and distances.min() < self.distance:
            self.nearest, self.distance = wrong[distances.argmin()], float(distances.min())


def _search(toolbox: Any, oracle: _Oracle, steps: int, seed: Sequence[int]) -> Images:
    """Return the nearest wrong picture that ``oracle`` met, or its own picture if none was wrong."""
    generator = np.random.default_rng(seed)
    kept = np.random.get_state()
    np.random.seed(generator.integers(2**32))
    try:
        start = _start(oracle, generator)
        if start is not None:
            toolbox.attack(oracle, steps).generate(x=oracle.image[None], x_adv_init=start[None])
    except _BudgetSpentError:
        pass  # the usual end of a search
    finally:
        np.random.set_state(kept)
    return oracle.nearest


def _start(oracle: _Oracle, generator: np.random.Generator) -> Images | None:
    """Return a wrong picture; None if the picture itself is wrong or no wrong one is found."""
    if oracle(oracle.image[None])[0, 1]:
        return None
    for attempt in range(STARTS):
        candidate = _mosaic(oracle.image.shape, MOSAICS[attempt % len(MOSAICS)], generator)
        if oracle(candidate[None])[0, 1]:
            return candidate
    return None


def _mosaic(shape: Sequence[int], side: int, generator: np.random.Generator) -> Images:
    """Return a picture of ``side`` by ``side`` random colours; zero gives every pixel a colour."""
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
        """Return a search of ``steps`` that queries ``oracle``."""
        estimator = self.classifier(oracle, input_shape=oracle.image.shape, nb_classes=2, clip_values=BOUNDS)
        return self.search(estimator, norm="inf", max_iter=steps, verbose=False)


def _toolbox() -> _Toolbox:
    try:
        with warnings.catch_warnings():
            # It warns wherever PyTorch is not installed.
            warnings.filterwarnings("ignore", "PyTorch not found", UserWarning)
            from art.attacks.evasion import HopSkipJump
            from art.estimators.classification import BlackBoxClassifier
    except ImportError as error:
        raise BucklerError(
            "hop_skip_jump needs the Adversarial Robustness Toolbox, which is not installed; "
            "pip install 'buckler[attacks]'"
        ) from error
    return _Toolbox(BlackBoxClassifier, HopSkipJump)
