"""Types of inputs and labels, the check of their range, and radii."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from buckler.errors import InputRangeError

Images = npt.NDArray[np.float32]  # (batch, height, width, 3), 0..1
Labels = npt.NDArray[np.int64]  # (batch,), class indices
BOUNDS: Final = (0.0, 1.0)  # of every value of an input


@dataclass(frozen=True, slots=True)
class RadiusUnit:
    """How people write a radius: its value times ``scale``, followed by ``suffix``."""

    scale: float
    suffix: str


LEVELS = RadiusUnit(255, "/255")  # of 8-bit pictures


@dataclass(frozen=True, slots=True)
class Radius:
    """How far an attacker may change an input.

    Attributes:
        value: In the unit of the inputs, whose values lie in 0..1.
        unit: Of the text form: ``str(Radius(8 / 255))`` is ``8/255``.
    """

    value: float
    unit: RadiusUnit = LEVELS

    def __post_init__(self) -> None:
        """Reject a negative radius."""
        if not self.value >= 0:
            raise ValueError(f"expected a radius of at least 0, got {self.value}")

    def __str__(self) -> str:
        return f"{self.value * self.unit.scale:.6g}{self.unit.suffix}"


def check_pixels(images: Images, bounds: tuple[float, float] = BOUNDS) -> None:
    """Raise InputRangeError unless every value lies within ``bounds``."""
    low, high = bounds
    if images.size and not (images.min() >= low and images.max() <= high):
        found = f"[{images.min():.3f}, {images.max():.3f}]"
        raise InputRangeError(f"expected pixels in [{low:g}, {high:g}], got {found}; pass images before normalisation")
