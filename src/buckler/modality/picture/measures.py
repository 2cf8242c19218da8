"""Measures of a picture's quality: brightness, contrast, sharpness and edges."""

import numpy as np
import numpy.typing as npt

from buckler.modality.base import Images

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


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
