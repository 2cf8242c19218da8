"""Types of inputs and labels, their bounds, and radii."""

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
    """Text form of a radius: its value times ``scale``, followed by ``suffix``."""

    scale: float
    suffix: str


LEVELS = RadiusUnit(255, "/255")  # of 8-bit pictures


@dataclass(frozen=True, slots=True)
class Radius:
    """Largest change that an attack may make.

    Attributes:
        value: Size of the change in units of the input, whose values are in 0..1.
        unit: Unit of the text form: ``str(Radius(8 / 255))`` is ``8/255``.
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
