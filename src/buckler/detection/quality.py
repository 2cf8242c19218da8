"""Flags inputs of poor quality: measures of their modality outside the range of the training inputs.

Of pictures these are brightness, contrast, blur and colour. All measures are taken on the network's input.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from buckler.modality.base import Images, Modality

TAIL = 0.001
"""Share of training inputs beyond each limit, so that a few bad ones do not widen it."""


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """Range of each measure: ``low`` and ``high`` (measures,), in the order of `Modality.quality`."""

    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        """Raise ``ValueError`` unless every measure has two limits, which may be infinite."""
        if self.low.ndim != 1 or self.low.shape != self.high.shape:
            raise ValueError(
                f"expected one low and one high a measure, got shapes {self.low.shape} and {self.high.shape}"
            )
        if np.isnan(self.low).any() or np.isnan(self.high).any():
            raise ValueError("expected limits of the quality, got NaN, beyond which nothing is")

    @classmethod
    def fit(cls, images: Images, modality: Modality) -> "QualityLimits":
        """Return the limits for clean training ``images`` (n, ...) of ``modality``."""
        measured = modality.quality_of(images)
        low, high = (np.asarray(np.quantile(measured, q, axis=0), np.float32) for q in (TAIL, 1 - TAIL))
        too_small, too_large = np.array(list(modality.quality.values()), bool).reshape(-1, 2).T
        low[~too_small], high[~too_large] = -np.inf, np.inf
        return cls(low, high)

    def check(self, modality: Modality) -> None:
        """Raise ValueError unless the limits are those of the measures of ``modality``."""
        if len(self.low) != len(modality.quality):
            raise ValueError(f"expected limits of {', '.join(modality.quality)}, got {len(self.low)}")

    def unfit(self, images: Images, modality: Modality) -> npt.NDArray[np.bool_]:
        """Return which of ``images`` (n, ...) lie outside the limits, ``(n,)``."""
        measured = modality.quality_of(images)
        return np.asarray(((measured < self.low) | (measured > self.high)).any(axis=1))
