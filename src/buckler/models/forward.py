"""Results of one forward pass, of any engine; without TensorFlow."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]  # (batch, classes)
Features = npt.NDArray[np.float32]  # (batch, features)
Columns = npt.NDArray[np.int32]  # indices into a feature vector
Maps = npt.NDArray[np.float32]  # (batch, height, width, channels), of the last tap


@dataclass(frozen=True, slots=True)
class Forward:
    """``logits`` (batch, classes), ``features`` (batch, features) and, if asked for, ``maps`` of one pass."""

    logits: Logits
    features: Features
    maps: Maps | None = None


def probabilities(logits: Logits, temperature: float = 1.0) -> npt.NDArray[np.float32]:
    """Return the softmax of ``logits`` (batch, classes), each row summing to one.

    Args:
        logits: Of some records.
        temperature: Divides the logits; above one, the probabilities become more equal.
    """
    shifted = np.exp((logits - logits.max(axis=-1, keepdims=True)) / temperature)
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), np.float32)
