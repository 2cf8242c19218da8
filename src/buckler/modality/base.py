"""Types of inputs and labels, and the check of their range."""

import numpy as np
import numpy.typing as npt

from buckler.errors import InputRangeError

Images = npt.NDArray[np.float32]  # (batch, height, width, 3), 0..1
Labels = npt.NDArray[np.int64]  # (batch,), class indices


def check_pixels(images: Images) -> None:
    """Raise InputRangeError unless every pixel lies in 0..1."""
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise InputRangeError(
            f"expected pixels in [0, 1], got [{images.min():.3f}, {images.max():.3f}]; pass images before normalisation"
        )
