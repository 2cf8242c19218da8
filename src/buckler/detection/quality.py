"""Is a picture fit to be judged at all? Brightness, contrast, blur and colour, held against training pictures.

Measured on the network's own input, so that it is about what the network sees. Nothing is set by hand: a picture is
unfit where it lies beyond all but the most extreme pictures of the training split.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from buckler.modality.base import Images
from buckler.modality.picture.measures import measure

MEASURES = ("brightness", "contrast", "blur", "colour")
TAIL = 0.001  # share of training pictures that may lie beyond each limit: a few bad ones do not set it


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """The range of each measure, ``low`` and ``high`` (4,), in the order of ``MEASURES``."""

    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        """Raise ``ValueError`` where a measure has no limits."""
        if not self.low.shape == self.high.shape == (len(MEASURES),):
            raise ValueError(
                f"expected low and high of {', '.join(MEASURES)}, got shapes {self.low.shape} and {self.high.shape}"
            )

    @classmethod
    def fit(cls, images: Images) -> "QualityLimits":
        """Return the limits that clean training ``images`` (n, h, w, 3) set."""
        measured = measure(images)
        low, high = (np.asarray(np.quantile(measured, q, axis=0), np.float32) for q in (TAIL, 1 - TAIL))
        # Sharp pictures, and pictures full of contrast or colour, are welcome.
        low[MEASURES.index("blur")] = -np.inf
        high[[MEASURES.index("contrast"), MEASURES.index("colour")]] = np.inf
        return cls(low, high)

    def unfit(self, images: Images) -> npt.NDArray[np.bool_]:
        """Return which of ``images`` (n, h, w, 3) lie outside, ``(n,)``."""
        measured = measure(images)
        return np.asarray(((measured < self.low) | (measured > self.high)).any(axis=1))
