"""Fitted input checks and their thresholds, as stored in a release."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from buckler.detection.adversarial import AdversarialDetector
from buckler.detection.danger import harmless_scores
from buckler.detection.out_of_distribution import OutOfDistributionDetector
from buckler.detection.quality import QualityLimits
from buckler.detection.reasons import Reason
from buckler.detection.threshold import Scores
from buckler.errors import ModelError, ParamsError
from buckler.modality import table
from buckler.modality.base import Images
from buckler.models.finite import check_finite
from buckler.models.forward import Forward, Logits, probabilities
from buckler.state.locations import Location

ARRAYS_FILE = "detector.npz"
INFO_FILE = "detector.json"
SCHEMA = 6
_PICTURES_ONLY = 5  # schema of detectors of pictures, which did not name their modality
Flags = dict[Reason, npt.NDArray[np.bool_]]  # reason -> (n,)


@dataclass(frozen=True, slots=True)
class Screening:
    """Input checks with their thresholds; an answer beyond one of them gets the decision `review`.

    Attributes:
        detector: Detects attacked inputs.
        clouds: Detects out-of-distribution inputs.
        quality: Detects inputs of poor quality.
        threshold: A detector score above it is ``adversarial``.
        max_fpr: Maximum share of clean pictures that the detector may flag.
        confidence: Probability that ``threshold`` keeps to ``max_fpr``, and ``danger_limit`` to ``min_sensitivity``.
        strangeness: A score of ``clouds`` above it is ``out_of_distribution``.
        min_confidence: An answer with a lower probability is ``low_confidence``.
        temperature: Divides the logits before they become probabilities.
        dangerous: Indices of the labels that must not be missed.
        min_sensitivity: Least share of dangerous pictures that get a dangerous label or ``danger_not_excluded``.
        modality: Name of the modality of the inputs.
        danger_limit: An answer with a harmless label is ``danger_not_excluded`` if the dangerous labels together have a
            higher probability; None: every such answer is.
    """

    detector: AdversarialDetector
    clouds: OutOfDistributionDetector
    quality: QualityLimits
    threshold: float
    max_fpr: float
    confidence: float
    strangeness: float
    min_confidence: float
    temperature: float
    dangerous: tuple[int, ...]
    min_sensitivity: float
    modality: str
    danger_limit: float | None

    def probabilities(self, logits: Logits) -> npt.NDArray[np.float32]:
        """Return the calibrated probabilities of ``logits`` (n, classes); the most probable class is the same."""
        return probabilities(logits, self.temperature)

    def flags(self, images: Images, forward: Forward) -> tuple[Scores, Flags]:
        """Return the detector's scores (n,) and, for each of ``INPUT_REASONS``, which ``images`` it applies to.

        Args:
            images: ``(n, ...)`` float32 in 0..1.
            forward: The network's output for them.
        """
        scores, shares = self.detector.score(forward), self.probabilities(forward.logits)
        return scores, {
            Reason.ADVERSARIAL: scores > self.threshold,
            Reason.OUT_OF_DISTRIBUTION: self.clouds.score(forward.features) > self.strangeness,
            Reason.LOW_CONFIDENCE: shares.max(axis=1) < self.min_confidence,
            Reason.DANGER_NOT_EXCLUDED: self._danger_not_excluded(forward.logits, shares),
            Reason.IMAGE_QUALITY: self.quality.unfit(images, table.find(self.modality)),
        }

    def _danger_not_excluded(self, logits: Logits, shares: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        if not self.dangerous:
            return np.zeros(len(logits), np.bool_)
        danger = harmless_scores(logits, shares, self.dangerous)
        limit = -np.inf if self.danger_limit is None else self.danger_limit
        return np.asarray((danger != np.inf) & ~(danger <= limit))  # in this form NaN is not excluded

    def save(self, directory: Path) -> None:
        """Write arrays and thresholds to ``directory``, creating it if necessary."""
        directory.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {
            f"{part}.{field.name}": getattr(getattr(self, part), field.name)
            for part, kind in _PARTS.items()
            for field in fields(kind)
        }
        np.savez(directory / ARRAYS_FILE, **arrays)
        info = {"schema": SCHEMA} | {name: getattr(self, name) for name in _LINES}
        (directory / INFO_FILE).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Location) -> "Screening":
        """Return what ``save`` wrote; never unpickles.

        Raises:
            ModelError: A file is missing, damaged or of another schema, or contains numbers that are not finite.
        """
        try:
            info = json.loads((directory / INFO_FILE).read_bytes())
            if info["schema"] == _PICTURES_ONLY:
                info |= {"schema": SCHEMA, "modality": "picture"}
            if info["schema"] != SCHEMA:
                raise ModelError(
                    f"{directory}: expected a detector of schema {SCHEMA}, got {info['schema']}; run `dvc repro`"
                )
            with np.load(io.BytesIO((directory / ARRAYS_FILE).read_bytes()), allow_pickle=False) as arrays:
                # A limit of the quality may be infinite: then it is none.
                check_finite(
                    ((name, arrays[name]) for name in arrays.files if not name.startswith("quality.")), directory
                )
                parts: dict[str, Any] = {
                    part: kind(**{field.name: arrays[f"{part}.{field.name}"] for field in fields(kind)})
                    for part, kind in _PARTS.items()
                }
            lines: dict[str, Any] = {name: _LINES[name](info[name]) for name in _LINES}
            numbers = {name: value for name, value in lines.items() if not isinstance(value, str | None)}
            check_finite(((name, np.asarray(value)) for name, value in numbers.items()), directory)
            parts["quality"].check(table.find(lines["modality"]))
            return cls(**parts, **lines)
        except (OSError, EOFError, BadZipFile, KeyError, TypeError, ValueError, ParamsError) as error:
            raise ModelError(f"{directory} contains no valid detector: {error!r}") from error


_PARTS: dict[str, Any] = {
    "detector": AdversarialDetector,
    "clouds": OutOfDistributionDetector,
    "quality": QualityLimits,
}


def _number_or_none(value: Any) -> float | None:
    return None if value is None else float(value)


def _indices(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


# How each of the other fields is read from JSON.
_READERS: dict[str, Callable[[Any], Any]] = {"dangerous": _indices, "danger_limit": _number_or_none, "modality": str}
_LINES: dict[str, Callable[[Any], Any]] = {
    field.name: _READERS.get(field.name, float) for field in fields(Screening) if field.name not in _PARTS
}
