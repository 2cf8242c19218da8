"""Sections of params.yaml that several stages read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class DataParams:
    """Section ``data`` of params.yaml."""

    source: Literal["synthetic", "directory"]
    path: str
    per_class: int
    image_size: int
    malignant: tuple[str, ...]
    seed: int

    def dangerous(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Return those of ``labels`` that must not be missed."""
        return tuple(label for label in labels if label in self.malignant)


@dataclass(frozen=True, slots=True)
class TrainParams:
    """Section ``train`` of params.yaml; ``network`` is a name of `buckler.models.networks.table`."""

    network: str
    weights: str
    dropout: float
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    defence: Literal["none", "adversarial", "randomised"]


@dataclass(frozen=True, slots=True)
class CalibrateParams:
    """Section ``calibrate`` of params.yaml."""

    max_fpr: float
    confidence: float
    stranger_margin: float
    min_confidence: float
    records: int
    epsilon_255: tuple[int, ...]
    batch_size: int
    seed: int
