"""Balls, one for each norm: projection, random draws, steepest directions and rounding to a grid.

Inputs may have any shape; the first axis is the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from buckler.attacks.base import Norm
from buckler.modality.base import BOUNDS, Images, Radius

# Tolerance when levels are compared: 2.9999998, which is 3 in float32, must not become 2.
HAIR = 1e-4


@dataclass(frozen=True, slots=True)
class Ball:
    """All inputs within a radius of another, in one norm.

    Attributes:
        size: A perturbation to its size in each input, ``(batch,)``.
        project: ``(adversarial, images, epsilon)`` to the inputs moved back to within ``epsilon`` and into 0..1.
        draw: ``(images, epsilon, seed, ids)`` to a random perturbation inside, one generator an input.
        steepest: A gradient to the perturbation of size one along which it rises fastest; zero stays zero.
        round: ``(levels, radius)``, a perturbation in steps of the grid, to whole steps still within ``radius``.
    """

    size: Callable[[npt.NDArray[np.floating[Any]]], npt.NDArray[np.float64]]
    project: Callable[[Images, Images, float], Images]
    draw: Callable[[Images, float, int, Sequence[int]], Images]
    steepest: Callable[[Images], Images]
    round: Callable[[npt.NDArray[np.float64], float], npt.NDArray[np.float64]]


def inner_axes(images: npt.NDArray[Any]) -> tuple[int, ...]:
    """Return all axes but the first, that of the batch."""
    return tuple(range(1, images.ndim))


def spread(values: npt.NDArray[Any], images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``values``, one an input, ``(batch,)``, in a shape that broadcasts over ``images``."""
    return values.reshape(len(values), *(1 for _ in inner_axes(images)))


def project(adversarial: Images, images: Images, epsilon: float) -> Images:
    """Return ``adversarial`` moved back to within ``epsilon`` of ``images`` in each pixel and into 0..1."""
    bounded = np.clip(adversarial, images - epsilon, images + epsilon)
    return np.clip(bounded, *BOUNDS).astype(np.float32, copy=False)


def project_l2(adversarial: Images, images: Images, epsilon: float) -> Images:
    """Return ``adversarial`` with perturbations of at most the length ``epsilon``, in 0..1."""
    perturbation = adversarial - images
    length = lengths(perturbation)
    share = np.minimum(1, epsilon / np.maximum(length, np.finfo(np.float32).tiny)).astype(np.float32)
    shortened = images + perturbation * spread(share, images)
    # Inputs inside the ball stay the same, to the bit.
    inside = spread(length <= epsilon, images)
    return np.clip(np.where(inside, adversarial, shortened), *BOUNDS).astype(np.float32, copy=False)


def lengths(perturbation: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Return the Euclidean length of each input's ``perturbation``, ``(batch,)``."""
    flat = perturbation.reshape(len(perturbation), int(np.prod(perturbation.shape[1:])))
    return np.asarray(np.linalg.norm(flat.astype(np.float64), axis=1))


def largest(perturbation: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Return the largest absolute change of a value in each input, ``(batch,)``."""
    return np.asarray(np.abs(perturbation).max(axis=inner_axes(perturbation)), np.float64)


def unit_l2(gradient: Images) -> Images:
    """Return ``gradient`` scaled to length one in each input; zero stays zero."""
    length = lengths(gradient)
    share = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    return np.asarray(gradient * spread(share, gradient), np.float32)


def on_grid(adversarial: Images, images: Images, radius: Radius, norm: Norm = "linf") -> Images:
    """Return ``adversarial`` rounded to the grid of the radius's unit, still within ``radius`` of ``images``.

    The grid of pictures is that of 8 bits, as in a PNG. ``images`` must lie on it, as the decoder returns them; the
    result may otherwise leave the ball.
    """
    steps = radius.unit.levels
    origin = np.rint(images * steps).astype(np.float64)
    levels = adversarial.astype(np.float64) * steps - origin
    rounded = BALLS[norm].round(levels, radius.value * steps)
    return radius.unit.values_of(radius.unit.steps_of(np.clip(origin + rounded, 0, steps) / steps))


def _round(levels: npt.NDArray[np.float64], radius: float) -> npt.NDArray[np.float64]:
    whole = np.floor(radius + HAIR)
    return np.clip(np.rint(levels), -whole, whole)


def _round_l2(levels: npt.NDArray[np.float64], radius: float) -> npt.NDArray[np.float64]:
    """Round every value towards zero, then values away from it, largest remainder first, while the length allows.

    Rounding towards zero alone would erase a perturbation that is spread over a large picture: a length of 0.5 over
    224 x 224 x 3 values is a third of a level in each.
    """
    size = np.abs(levels).reshape(len(levels), int(np.prod(levels.shape[1:])))
    whole = np.floor(size)
    remainder = size - whole
    order = np.argsort(-remainder, axis=1, kind="stable")
    # From k to k + 1 levels the squared length grows by 2k + 1.
    cost = np.cumsum(np.take_along_axis(2 * whole + 1, order, axis=1), axis=1)
    room = (radius * (1 + 1e-7)) ** 2 + HAIR - np.square(whole).sum(axis=1, keepdims=True)
    raised = (cost <= room) & (np.take_along_axis(remainder, order, axis=1) > HAIR)
    np.put_along_axis(whole, order, np.take_along_axis(whole, order, axis=1) + raised, axis=1)
    return np.sign(levels) * whole.reshape(levels.shape)


def generators(seed: int, ids: Sequence[int]) -> list[np.random.Generator]:
    """Return one generator an input, so that its draws do not depend on the other inputs of the batch."""
    return [np.random.default_rng([seed, number]) for number in ids]


def uniform(images: Images, epsilon: float, seed: int, ids: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return a perturbation drawn uniformly from the ball, one generator an input; shape of ``images``."""
    shape = images.shape[1:]
    draws = [g.uniform(-epsilon, epsilon, shape) for g in generators(seed, ids)]
    return np.asarray(draws, np.float32).reshape(images.shape)


def uniform_l2(images: Images, epsilon: float, seed: int, ids: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return a perturbation drawn uniformly from the Euclidean ball, one generator an input."""
    shape = images.shape[1:]
    dimensions = int(np.prod(shape))
    draws = []
    for generator in generators(seed, ids):
        direction = generator.standard_normal(shape)
        # The volume grows with the radius to the power of the dimensions.
        radius = epsilon * generator.uniform() ** (1 / dimensions)
        draws.append(radius * direction / np.linalg.norm(direction))
    return np.asarray(draws, np.float32).reshape(images.shape)


BALLS: dict[Norm, Ball] = {
    "linf": Ball(largest, project, uniform, np.sign, _round),
    "l2": Ball(lengths, project_l2, uniform_l2, unit_l2, _round_l2),
}
