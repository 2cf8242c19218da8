"""Heat maps: which places of a picture decide between a label and the strongest other one.

Grad-CAM weighs the maps of the last tap with the gradient of a label's logit. Here it is the gradient of the margin,
the label's logit minus the largest other logit, because only differences of logits decide. Each place is compared with
the median place of its picture: a label such as `benign` rests on what a lesion lacks, so Grad-CAM shows the skin
around it, which is the same in every picture. A place counts whether it speaks for the label or against it.

After these maps come only pooling and a few dense layers. The gradient therefore has a closed form, and a runtime
without gradients can explain its answers.

Source: Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization", 2017.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from buckler.errors import ModelError
from buckler.models.finite import check_finite
from buckler.state.locations import Location

HEAD_FILE = "head.npz"
MAX_POOL = 2  # pixels a side
FLAT = 0.01  # logits: a map without a larger change is flat

Pooling = Literal["max", "mean"]  # 2x2, or over all positions; see `buckler.models.networks.base.Architecture.pooling`
Maps = npt.NDArray[np.float32]  # (..., channels), of the last tap, for one input; (h, w, channels) of a picture
Relevance = npt.NDArray[np.float32]  # (...), 0..1; (h, w) of a picture


@dataclass(frozen=True, slots=True)
class HeadWeights:
    """Pooling of the last tap's maps, and the dense layers after it, with ReLU after each but the last.

    Attributes:
        kernels: Weights of each layer, ``(inputs, outputs)``.
        biases: Biases of each layer, ``(outputs,)``.
        pooling: Kind of pooling.
    """

    kernels: tuple[npt.NDArray[np.float32], ...]
    biases: tuple[npt.NDArray[np.float32], ...]
    pooling: Pooling = "max"

    def save(self, directory: Path) -> None:
        """Write the weights into ``directory``."""
        arrays: dict[str, Any] = {"pooling": self.pooling}
        for number, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            arrays |= {f"kernel_{number}": kernel, f"bias_{number}": bias}
        np.savez(directory / HEAD_FILE, **arrays)

    @classmethod
    def load(cls, directory: Location) -> "HeadWeights":
        """Return the weights that ``save`` wrote; never unpickles.

        Raises:
            ModelError: The file is missing or damaged.
        """
        path = directory / HEAD_FILE
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                numbers = range(len(arrays) // 2)
                kernels, biases = ([arrays[f"{name}_{n}"] for n in numbers] for name in ("kernel", "bias"))
                check_finite(((name, arrays[name]) for name in arrays.files if name != "pooling"), path)
                return cls(tuple(kernels), tuple(biases), _pooling(str(arrays["pooling"])))
        except (OSError, EOFError, BadZipFile, KeyError, ValueError) as error:
            raise ModelError(f"{path} contains no valid weights of a head: {error!r}") from error


def relevance_of(maps: Maps, head: HeadWeights, label: int) -> Relevance:
    """Return how much each position of ``maps`` decides between class ``label`` and the strongest other class.

    The largest value is 1. All are zero if the map is flat: no position stands out.
    """
    # Grad-CAM needs only the sum of the gradient over all positions. Max pooling passes each gradient on to one
    # position, mean pooling distributes it over all: the sum is the same.
    gradient = _pooled_gradient(maps, head, label)
    weights = gradient.reshape(-1, gradient.shape[-1]).sum(axis=0)
    # By how many logits the margin would change if all of the picture were like this place, not like the median one.
    places = tuple(range(maps.ndim - 1))
    change = np.abs((maps - np.median(maps, axis=places)) @ weights)
    largest = change.max()
    return np.asarray(change / largest if largest > FLAT else np.zeros_like(change), np.float32)


def _pooled_gradient(maps: Maps, head: HeadWeights, label: int) -> npt.NDArray[np.float32]:
    """Return the gradient of the margin of ``label`` with respect to the pooled maps, in their shape."""
    pooled = pool(maps, head.pooling)
    values, active = pooled.ravel(), []
    for kernel, bias in zip(head.kernels[:-1], head.biases[:-1], strict=True):
        values = np.maximum(values @ kernel + bias, 0)
        active.append(values > 0)
    logits = values @ head.kernels[-1] + head.biases[-1]
    others = np.where(np.arange(len(logits)) == label, -np.inf, logits)
    gradient = head.kernels[-1][:, label] - head.kernels[-1][:, others.argmax()]
    for kernel, on in zip(head.kernels[-2::-1], reversed(active), strict=True):
        gradient = kernel @ (gradient * on)
    return np.asarray(gradient.reshape(pooled.shape), np.float32)


def pool(maps: Maps, pooling: Pooling = "max") -> Maps:
    """Return ``maps`` pooled, with as many axes; max pooling drops an odd last row or column, as Keras does."""
    if pooling == "mean":
        return np.asarray(maps.mean(axis=tuple(range(maps.ndim - 1)), keepdims=True))
    height, width, channels = maps.shape
    down, across = height // MAX_POOL, width // MAX_POOL
    blocks = maps[: down * MAX_POOL, : across * MAX_POOL]
    return np.asarray(blocks.reshape(down, MAX_POOL, across, MAX_POOL, channels).max(axis=(1, 3)))


def _pooling(name: str) -> Pooling:
    if name not in ("max", "mean"):
        raise ValueError(f"expected the pooling max or mean, got {name}")
    return name  # type: ignore[return-value]
