"""What a pass of the network takes and gives, in any engine: nothing here needs TensorFlow."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]  # (batch, classes)
Features = npt.NDArray[np.float32]  # (batch, features)
Maps = npt.NDArray[np.float32]  # (batch, height, width, channels), of the last convolution


@dataclass(frozen=True, slots=True)
class Forward:
    """What one pass gives: ``logits`` (batch, classes) and ``features`` (batch, features) of the same pass."""

    logits: Logits
    features: Features


def probabilities(logits: Logits) -> npt.NDArray[np.float32]:
    """Return the softmax of ``logits`` (batch, classes), each row summing to one."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), np.float32)


def slices(channels: tuple[int, ...] = (64, 128, 256, 512, 512)) -> list[slice]:
    """Return where each block's features stand in the vector that ``add_features`` gives."""
    bounds = [0]
    for count in channels:
        bounds.append(bounds[-1] + 2 * count)
    return [slice(start, stop) for start, stop in pairwise(bounds)]
