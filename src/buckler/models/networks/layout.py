"""Which layers of a network give features, detectors' columns and heat maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from buckler.models.explanation import Pooling
from buckler.models.forward import Columns


@dataclass(frozen=True, slots=True)
class Tap:
    """A layer whose maps give features: mean and standard deviation of each of its ``channels``."""

    layer: str
    channels: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where detectors and heat maps read a network.

    Attributes:
        name: Name in ``model.json``, and of the Keras models.
        title: Name for people.
        taps: Layers whose maps give the features, first to last. The layers up to and including a tap form a block.
            Heat maps show the maps of the last tap.
        pooling: The only layer between the last tap and the head: ``max`` (2x2) or ``mean`` (over all places). Any
            other layer there would make the heat maps wrong: None, and the network has none.
        trace_taps: Indices of the taps in which the detector searches for traces of an attack.
        probe_taps: Indices of the taps from which the detector predicts the logits.
        cloud_tap: Index of the tap for out-of-distribution detection.
    """

    name: str
    title: str
    taps: tuple[Tap, ...]
    pooling: Pooling | None
    trace_taps: tuple[int, ...]
    probe_taps: tuple[int, ...]
    cloud_tap: int

    @property
    def trace_columns(self) -> Columns:
        """Columns of the features of ``trace_taps``."""
        return self.columns(self.trace_taps)

    @property
    def probe_columns(self) -> Columns:
        """Columns of the features of ``probe_taps``."""
        return self.columns(self.probe_taps)

    @property
    def cloud_columns(self) -> Columns:
        """Columns of the features of ``cloud_tap``."""
        return self.columns([self.cloud_tap])

    def columns(self, taps: Sequence[int]) -> Columns:
        """Return the columns of the features of ``taps``, in their order: a mean and a spread for each channel."""
        bounds = np.cumsum([0, *(2 * tap.channels for tap in self.taps)])
        ranges = [np.arange(start, stop) for start, stop in pairwise(bounds)]
        return np.concatenate([ranges[tap] for tap in taps]).astype(np.int32)
