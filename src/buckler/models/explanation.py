"""Where a network looked: Grad-CAM from the maps of one forward pass, in plain NumPy.

Behind the last convolution's maps stand only a 2x2 max pooling and a few dense layers, so the gradient that Grad-CAM
needs has a closed form, and a runtime without gradients can explain its answers.

Source: Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization", 2017.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from buckler.errors import ModelError

HEAD_FILE = "head.npz"
POOL = 2

Maps = npt.NDArray[np.float32]  # (h, w, channels), of the last convolution, for one picture
Relevance = npt.NDArray[np.float32]  # (h, w), 0..1


@dataclass(frozen=True, slots=True)
class HeadWeights:
    """The dense layers behind the pooled, flattened maps: ReLU after each but the last.

    Attributes:
        kernels: ``(inputs, outputs)`` each.
        biases: ``(outputs,)`` each.
    """

    kernels: tuple[npt.NDArray[np.float32], ...]
    biases: tuple[npt.NDArray[np.float32], ...]

    def save(self, directory: Path) -> None:
        """Write the weights into ``directory``."""
        arrays: dict[str, Any] = {}
        for number, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            arrays |= {f"kernel_{number}": kernel, f"bias_{number}": bias}
        np.savez(directory / HEAD_FILE, **arrays)

    @classmethod
    def load(cls, directory: Path) -> "HeadWeights":
        """Return what ``save`` wrote; no pickle is ever read.

        Raises:
            ModelError: The file is missing or damaged.
        """
        path = directory / HEAD_FILE
        try:
            with np.load(path, allow_pickle=False) as arrays:
                numbers = range(len(arrays) // 2)
                kernels, biases = ([arrays[f"{name}_{n}"] for n in numbers] for name in ("kernel", "bias"))
                return cls(tuple(kernels), tuple(biases))
        except (OSError, EOFError, BadZipFile, KeyError, ValueError) as error:
            raise ModelError(f"{path} does not hold the weights of a head: {error!r}") from error

    @classmethod
    def of(cls, network: Any) -> "HeadWeights":
        """Return the dense layers of a Keras network as `vgg.join` builds it."""
        pairs = [layer.get_weights() for layer in network.layers if type(layer).__name__ == "Dense"]
        return cls(tuple(kernel for kernel, _ in pairs), tuple(bias for _, bias in pairs))


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains the answers of one network.

    Attributes:
        maps: Gives one picture's maps, ``(s, s, 3)`` pixels in 0..1 to ``(h, w, channels)``.
        head: What stands behind them.
    """

    maps: Callable[[npt.NDArray[np.float32]], Maps]
    head: HeadWeights

    def __call__(self, pixels: npt.NDArray[np.float32], label: int) -> Relevance:
        """Return the relevance of each place of ``pixels`` for the class ``label``, as ``grad_cam``."""
        return grad_cam(self.maps(pixels), self.head, label)


def grad_cam(maps: Maps, head: HeadWeights, label: int) -> Relevance:
    """Return how much each place of ``maps`` speaks for class ``label``, its largest 1; zero where none does."""
    height, width, _ = maps.shape
    gradient = _pooled_gradient(maps, head, label)
    # The pooling passes each gradient on to the one place that was largest: the sum over places, which is all that
    # Grad-CAM takes of it, does not depend on which.
    weights = gradient.sum(axis=(0, 1)) / (height * width)
    relevance = np.maximum(maps @ weights, 0)
    largest = relevance.max()
    return np.asarray(relevance / largest if largest > 0 else relevance, np.float32)


def _pooled_gradient(maps: Maps, head: HeadWeights, label: int) -> npt.NDArray[np.float32]:
    """Return the gradient of the logit ``label`` by the pooled maps, in their shape."""
    pooled = pool(maps)
    values, active = pooled.ravel(), []
    for kernel, bias in zip(head.kernels[:-1], head.biases[:-1], strict=True):
        values = np.maximum(values @ kernel + bias, 0)
        active.append(values > 0)
    gradient = head.kernels[-1][:, label]
    for kernel, on in zip(head.kernels[-2::-1], reversed(active), strict=True):
        gradient = kernel @ (gradient * on)
    return np.asarray(gradient.reshape(pooled.shape), np.float32)


def pool(maps: Maps) -> Maps:
    """Return the 2x2 max pooling of ``maps``; an odd last row or column is left out, as Keras does."""
    height, width, channels = maps.shape
    blocks = maps[: height // POOL * POOL, : width // POOL * POOL]
    return np.asarray(blocks.reshape(height // POOL, POOL, width // POOL, POOL, channels).max(axis=(1, 3)))
