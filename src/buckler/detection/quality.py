"""Is a picture fit to be judged at all? Brightness, contrast, blur and colour, held against training pictures.

Measured on the network's own input, so that it is about what the network sees. Nothing is set by hand: a picture is
unfit where it lies beyond all but the most extreme pictures of the training split.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from buckler.models.forward import Images

MEASURES = ("brightness", "contrast", "blur", "colour")
TAIL = 0.001  # share of training pictures that may lie beyond each limit: a few bad ones do not set it
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


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


def measure(images: Images) -> npt.NDArray[np.float32]:
    """Return ``(n, 4)``: mean and standard deviation of the luma, blur and colour in 0..1, of ``images`` (n, h, w, 3).

    Colour is how far a pixel's strongest channel lies above its weakest, on average: none in a radiograph. Blur is the
    share of its gradient that a picture keeps when it is blurred once more: one that is sharp loses much.

    Source: Crete, Dolmiere, Ladret & Nicolas, "The blur effect: perception and estimation with a new no-reference
        perceptual blur metric", SPIE 6492, 2007; here with a 3 x 3 box.
    """
    luma = images @ LUMA
    kept = _gradient(_box(luma)) / (_gradient(luma) + 1e-6)
    colour = (images.max(axis=3) - images.min(axis=3)).mean(axis=(1, 2))
    return np.stack([luma.mean(axis=(1, 2)), luma.std(axis=(1, 2)), kept, colour], axis=1)


def _box(luma: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    rows = (luma[:, :-2] + luma[:, 1:-1] + luma[:, 2:]) / 3
    return np.asarray((rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 3)


def _gradient(luma: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    along, across = (np.abs(np.diff(luma, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2))
    return np.asarray(along + across)
