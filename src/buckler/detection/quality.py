"""Flags pictures of poor quality: brightness, contrast, blur or colour outside the range of the training pictures.

All measures are taken on the network's input.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from buckler.modality.base import Images
from buckler.modality.picture.measures import QUALITY_MEASURES, quality_measures

TAIL = 0.001
"""Share of training pictures beyond each limit, so that a few bad pictures do not widen it."""


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """Range of each measure: ``low`` and ``high`` (4,), in the order of ``QUALITY_MEASURES``."""

    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        """Raise ``ValueError`` unless every measure has two limits, which may be infinite."""
        if not self.low.shape == self.high.shape == (len(QUALITY_MEASURES),):
            raise ValueError(
                f"expected low and high of {', '.join(QUALITY_MEASURES)}, got shapes {self.low.shape} and"
                f" {self.high.shape}"
            )
        if np.isnan(self.low).any() or np.isnan(self.high).any():
            raise ValueError("expected limits of the quality, got NaN, beyond which no picture is")

    @classmethod
    def fit(cls, images: Images) -> "QualityLimits":
        """Return the limits for clean training ``images`` (n, h, w, 3)."""
        measured = quality_measures(images)
        low, high = (np.asarray(np.quantile(measured, q, axis=0), np.float32) for q in (TAIL, 1 - TAIL))
        # Pictures cannot be too sharp, too rich in contrast or too colourful.
        low[QUALITY_MEASURES.index("blur")] = -np.inf
        high[[QUALITY_MEASURES.index("contrast"), QUALITY_MEASURES.index("colour")]] = np.inf
        return cls(low, high)

    def unfit(self, images: Images) -> npt.NDArray[np.bool_]:
        """Return which of ``images`` (n, h, w, 3) lie outside the limits, ``(n,)``."""
        measured = quality_measures(images)
        return np.asarray(((measured < self.low) | (measured > self.high)).any(axis=1))
