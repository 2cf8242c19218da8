"""Sections of params.yaml that several stages read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from buckler import findings
from buckler.data.layout import Layout
from buckler.measurements.data_source import DataSource
from buckler.modality import table
from buckler.modality.base import InputForm
from buckler.modality.picture.restoration.table import CNN
from buckler.params import Between, Count, CountOrAll, Mostly, Number, Positive, Radii, Real, Seed, Share, file_of


def _cell(value: object) -> object:
    """Reject what the cell of a table cannot be; YAML takes ``yes`` and ``no`` for true and false."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("expected a text or a number; put yes, no, true, false and dates in quotes")
    return value


CellValue = Annotated[str | int | float, BeforeValidator(_cell)]


@dataclass(frozen=True, slots=True)
class DataParams:
    """Section ``data`` of params.yaml."""

    source: DataSource
    path: str
    modality: str
    per_class: Annotated[CountOrAll, Field(le=1_000_000)]
    image_size: Annotated[Count, Field(ge=8, le=2048)]
    malignant: Annotated[tuple[str, ...], Field(min_length=1)]
    max_unmatched: Share
    seed: Seed
    classes: Mapping[str, Mapping[str, tuple[CellValue, ...]]]
    several_labels: bool
    group: str
    restore: str

    def __post_init__(self) -> None:
        """Reject classes that no table can have."""
        _ = self.layout

    @property
    def layout(self) -> Layout:
        """Where the classes and groups of a folder's pictures come from."""
        return Layout(self.classes, self.group, self.several_labels)

    @property
    def form(self) -> InputForm:
        """What the network reads.

        Raises:
            ParamsError: There is no such modality.
        """
        modality = table.find(self.modality)
        return InputForm(modality, modality.shape(self.image_size))

    @property
    def generated(self) -> tuple[str, ...]:
        """The labels of the generator."""
        modality = self.form.modality
        return findings.sets_of(modality.findings) if self.several_labels else modality.labels

    @property
    def step(self) -> str:
        """Name of the restoration step: one of the modality's ``restorations`` if ``restore`` is right."""
        return CNN if file_of(self.restore) else self.restore

    def dangerous(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Return those of ``labels`` that must not be missed; of several in one record, those with such a finding."""
        if self.several_labels:
            return findings.with_any(labels, self.malignant)
        return tuple(label for label in labels if label in self.malignant)

    def required(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Return labels that must occur among ``labels``, so that every one of ``malignant`` does."""
        if not self.several_labels:
            return self.malignant
        return tuple(next(iter(findings.with_any(labels, [name])), name) for name in self.malignant)


@dataclass(frozen=True, slots=True)
class TrainParams:
    """Section ``train`` of params.yaml.

    ``network`` is a name of `buckler.models.networks.table`, or ``file:`` and the path of a trained network.
    """

    network: str
    taps: tuple[str, ...]
    weights: str
    dropout: Annotated[Real, Field(ge=0, lt=1)]
    hidden: Annotated[tuple[Annotated[Count, Field(le=65_536)], ...], Field(max_length=10)]
    epochs: Count
    batch_size: Count
    learning_rate: Annotated[Positive, Field(le=10)]
    weight_decay: Annotated[Number, Field(le=100)]
    seed: Seed
    defence: Literal["none", "adversarial", "randomised"]

    @property
    def file(self) -> Path | None:
        """The path of a network that is taken as it is; None if one is trained."""
        return file_of(self.network)


@dataclass(frozen=True, slots=True)
class EvaluateParams:
    """Section ``evaluate`` of params.yaml."""

    calibration_bins: Annotated[Count, Field(le=1000)]


@dataclass(frozen=True, slots=True)
class CalibrateParams:
    """Section ``calibrate`` of params.yaml."""

    max_fpr: Between
    confidence: Mostly
    stranger_margin: Annotated[Positive, Field(le=10)]
    min_confidence: Share
    min_sensitivity: Mostly
    records: CountOrAll
    radii: Radii
    batch_size: Count
    seed: Seed
