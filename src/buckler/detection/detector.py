"""Tells attacked pictures from clean ones by the features of the pass that classified them.

For each class the clean features form a cloud; a picture's score is its Mahalanobis distance to the nearest
cloud. An attack moves the answer, and with it the deep features, to where no clean picture of any class lies.

Source: Lee et al., "A simple unified framework for detecting out-of-distribution samples and adversarial
attacks", arXiv 1807.03888; the covariance is shrunk after Ledoit & Wolf 2004.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from buckler.errors import ModelError
from buckler.models.forward import Features, Labels, slices

ARRAYS_FILE = "detector.npz"
INFO_FILE = "detector.json"
SCHEMA = 1
BLOCK = 4  # the last of the five: deeper is where attacks show (see docs/adr)

Scores = npt.NDArray[np.float64]  # (n,), higher is more suspicious


@dataclass(frozen=True, slots=True)
class Detector:
    """A fitted detector; ``centres`` (classes, d) and ``whitener`` (d, d) work on scaled features.

    Attributes:
        offset: Mean of the clean training features, ``(d,)``.
        scale: Their standard deviations, ``(d,)``.
        whitener: Maps a scaled feature vector to one whose clean spread within a class is a unit sphere.
    """

    offset: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    centres: npt.NDArray[np.float32]
    whitener: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, features: Features, labels: Labels) -> "Detector":
        """Return the detector of clean ``features`` (n, d_all) with class indices ``labels`` (n,).

        Raises:
            ValueError: Some class has fewer than two pictures.
        """
        from sklearn.covariance import ledoit_wolf  # fitting only: the service does not carry scikit-learn

        classes = np.unique(labels)
        if min((labels == c).sum() for c in classes) < 2:
            raise ValueError(f"expected at least 2 pictures a class, got {np.bincount(labels).tolist()}")
        chosen = _chosen(features)
        offset, scale = chosen.mean(axis=0), chosen.std(axis=0) + 1e-6
        scaled = (chosen - offset) / scale
        centres = np.stack([scaled[labels == c].mean(axis=0) for c in classes])
        within = scaled - centres[np.searchsorted(classes, labels)]
        covariance, _ = ledoit_wolf(within, assume_centered=True)
        # The Cholesky factor of the inverse: squared length after it is the Mahalanobis distance.
        whitener = np.linalg.cholesky(np.linalg.inv(covariance))
        return cls(*(np.asarray(a, np.float32) for a in (offset, scale, centres, whitener)))

    def score(self, features: Features) -> Scores:
        """Return how far each of ``features`` (n, d_all) lies from the nearest class, per dimension, ``(n,)``."""
        scaled = (_chosen(features) - self.offset) / self.scale
        steps = (scaled[:, None, :] - self.centres[None]) @ self.whitener
        return np.asarray((steps**2).mean(axis=-1).min(axis=-1), np.float64)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A detector and where an answer stops being taken without a second look.

    Attributes:
        threshold: ``score > threshold`` flags.
        max_fpr: The share of clean pictures that the threshold was set to flag at most.
        min_confidence: An answer less probable than this is for a person to review.
    """

    detector: Detector
    threshold: float
    max_fpr: float
    min_confidence: float

    def save(self, directory: Path) -> None:
        """Write the arrays and the threshold into ``directory``, which is made if missing."""
        directory.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {name: getattr(self.detector, name) for name in Detector.__slots__}
        np.savez(directory / ARRAYS_FILE, **arrays)
        info = {"schema": SCHEMA} | {name: getattr(self, name) for name in _NUMBERS}
        (directory / INFO_FILE).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> "Calibrated":
        """Return what ``save`` wrote; no pickle is ever read.

        Raises:
            ModelError: A file is missing, damaged or of another schema.
        """
        try:
            info = json.loads((directory / INFO_FILE).read_text(encoding="utf-8"))
            with np.load(directory / ARRAYS_FILE, allow_pickle=False) as arrays:
                detector = Detector(**{name: arrays[name] for name in Detector.__slots__})
            if info["schema"] != SCHEMA:
                raise ModelError(f"{directory}: expected a detector of schema {SCHEMA}, got {info['schema']}")
            return cls(detector, **{name: float(info[name]) for name in _NUMBERS})
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{directory} does not hold a detector: {error!r}") from error


_NUMBERS = ("threshold", "max_fpr", "min_confidence")


def _chosen(features: Features) -> Features:
    return features[:, slices()[BLOCK]]
