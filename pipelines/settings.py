"""Sections of params.yaml that several stages read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from buckler.measurements.data_source import DataSource
from buckler.params import Between, Count, CountOrAll, Positive, Radii, Seed, Share


@dataclass(frozen=True, slots=True)
class DataParams:
    """Section ``data`` of params.yaml."""

    source: DataSource
    path: str
    per_class: CountOrAll
    image_size: Count
    malignant: Annotated[tuple[str, ...], Field(min_length=1)]
    max_unmatched: Share
    seed: Seed

    def dangerous(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Return those of ``labels`` that must not be missed."""
        return tuple(label for label in labels if label in self.malignant)


@dataclass(frozen=True, slots=True)
class TrainParams:
    """Section ``train`` of params.yaml; ``network`` is a name of `buckler.models.networks.table`."""

    network: str
    weights: str
    dropout: Annotated[float, Field(ge=0, lt=1)]
    hidden: tuple[Count, ...]
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    seed: Seed
    defence: Literal["none", "adversarial", "randomised"]


@dataclass(frozen=True, slots=True)
class EvaluateParams:
    """Section ``evaluate`` of params.yaml."""

    calibration_bins: Count


@dataclass(frozen=True, slots=True)
class CalibrateParams:
    """Section ``calibrate`` of params.yaml."""

    max_fpr: Between
    confidence: Between
    stranger_margin: Positive
    min_confidence: Share
    min_sensitivity: Between
    records: CountOrAll
    epsilon_255: Radii
    batch_size: Count
    seed: Seed
