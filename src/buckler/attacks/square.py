"""Square: a random search that needs scores only, so that it also runs against a service."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from buckler.attacks.ball import generators, project
from buckler.attacks.base import Attack, Batch, LogitModel, Tuning
from buckler.attacks.iterative import EXIT_MARGIN, margins
from buckler.modality.base import Images, Labels

# The paper halves the share of pixels it changes after these of 10,000 queries.
FIRST_SHARE = 0.8
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Square(Attack[LogitModel]):
    """A random search over squares of pixels moved to the edge of the ball.

    A square that lowers the margin between the true class and the largest other stays, any other is undone. With a
    radius of whole 1/255 the result of 8-bit pictures is 8-bit again. It needs scores only: `ScoresOnly` wraps a
    service.

    Attributes:
        queries: Passes for each picture, at most.
        early_exit: Stop on a picture that is wrong by a clear margin.
    """

    name = "square"
    description = "Random squares, kept when the scores get worse: needs no gradient."
    source = (
        "Andriushchenko et al., Square attack: a query-efficient black-box adversarial attack via random search, "
        "arXiv 1912.00049, algorithms 1 and 2"
    )
    knowledge = "score"
    modalities = ("picture",)
    axes = 3
    fixed: ClassVar[Tuning] = {"first_share": FIRST_SHARE, "exit_margin": EXIT_MARGIN}

    queries: int = 1000
    early_exit: bool = True

    def perturb(self, model: LogitModel, batch: Batch, epsilon: float) -> Images:
        """Return the pictures with the lowest margin met."""
        images, labels, draws = batch.images, batch.labels, generators(batch.seed, batch.numbers.tolist())
        result = project(images + epsilon * _stripes(images, draws), images, epsilon)
        lowest, active = _ask(model, result, labels, np.arange(len(images)), self.early_exit)
        for query in range(1, self.queries):
            if not len(active):
                break
            side = _side(query / self.queries, images.shape[1:3])
            moves = [_with_square(result[row], images[row], epsilon, side, draws[row]) for row in active]
            candidates = np.stack(moves)
            margin, going = _ask(model, candidates, labels[active], np.arange(len(active)), self.early_exit)
            better = margin < lowest[active]
            result[active[better]], lowest[active[better]] = candidates[better], margin[better]
            active = active[going]
        return result


ATTACKS = (Square,)


def _ask(
    model: LogitModel, images: Images, labels: Labels, rows: npt.NDArray[np.int64], early_exit: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return each picture's margin, and the ``rows`` that are not wrong by a clear margin."""
    if not len(images):
        return np.zeros(0, np.float32), rows
    answer = np.asarray(model.logits(images), np.float32)
    margin = margins(answer, labels)
    if not early_exit:
        return margin, rows
    return margin, rows[margin > -EXIT_MARGIN * np.abs(answer).max(axis=-1)]


def _stripes(images: Images, draws: Sequence[np.random.Generator]) -> Images:
    """Return a sign for each column and colour of each picture."""
    width, colours = images.shape[2:]
    signs = [draw.integers(0, 2, (1, width, colours)) * 2 - 1 for draw in draws]
    return np.asarray(signs, np.float32).reshape(len(images), 1, width, colours)


def _side(progress: float, size: Sequence[int]) -> int:
    """Return the side of the square to try when ``progress`` (0..1) of the queries are spent."""
    share = FIRST_SHARE / 2 ** sum(progress * 10_000 > mark for mark in HALVINGS)
    return int(np.clip(round(np.sqrt(share * size[0] * size[1])), 1, min(size)))


def _with_square(now: Images, image: Images, epsilon: float, side: int, draw: np.random.Generator) -> Images:
    """Return ``now`` with one square of it moved to the edge of the ball around ``image``, a sign a colour."""
    height, width, colours = image.shape
    top, left = int(draw.integers(0, height - side + 1)), int(draw.integers(0, width - side + 1))
    signs = draw.integers(0, 2, colours).astype(np.float32) * 2 - 1
    window = (slice(top, top + side), slice(left, left + side))
    edge = project(image[window] + epsilon * signs, image[window], epsilon)
    if np.array_equal(edge, now[window]):  # no change: only the opposite is new
        edge = project(image[window] - epsilon * signs, image[window], epsilon)
    moved = now.copy()
    moved[window] = edge
    return moved
