"""Detects inputs unlike the training pictures, by the features of the forward pass that classified them.

The clean features of one middle block form a cloud for each class; a picture's score is its Mahalanobis distance to
the centre of the nearest cloud. Photographs, text, noise or X-rays are far from every cloud. Attacked pictures are not,
because their perturbations are small; `buckler.detection.adversarial` detects those.

Source: Lee et al., "A simple unified framework for detecting out-of-distribution samples and adversarial
attacks", arXiv 1807.03888; the covariance is shrunk after Ledoit & Wolf 2004.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from buckler.detection.threshold import Scores
from buckler.modality.base import Labels
from buckler.models.forward import Columns, Features


@dataclass(frozen=True, slots=True)
class OutOfDistributionDetector:
    """Fitted clouds of clean features.

    Attributes:
        read: Columns of the features, ``(d,)``.
        offset: Mean of the clean training features, ``(d,)``.
        scale: Standard deviation of the clean training features, ``(d,)``.
        centres: Mean of each class's scaled features, ``(classes, d)``.
        whitener: Maps scaled features to ones with unit covariance within a class, ``(d, d)``.
    """

    read: Columns
    offset: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    centres: npt.NDArray[np.float32]
    whitener: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, features: Features, labels: Labels, *, read: Columns) -> "OutOfDistributionDetector":
        """Return a detector fitted on clean ``features`` (n, d_all) with class indices ``labels`` (n,).

        Raises:
            ValueError: A class has fewer than two pictures.
        """
        from sklearn.covariance import ledoit_wolf  # the service, which only loads detectors, lacks it

        classes = np.unique(labels)
        if min((labels == c).sum() for c in classes) < 2:
            raise ValueError(f"expected at least 2 pictures a class, got {np.bincount(labels).tolist()}")
        chosen = features.take(read, axis=1)
        offset, scale = chosen.mean(axis=0), chosen.std(axis=0) + 1e-6
        scaled = (chosen - offset) / scale
        centres = np.stack([scaled[labels == c].mean(axis=0) for c in classes])
        within = scaled - centres[np.searchsorted(classes, labels)]
        covariance, _ = ledoit_wolf(within, assume_centered=True)
        # With the Cholesky factor of the inverse, squared lengths are squared Mahalanobis distances.
        whitener = np.linalg.cholesky(np.linalg.inv(covariance))
        return cls(read, *(np.asarray(a, np.float32) for a in (offset, scale, centres, whitener)))

    def score(self, features: Features) -> Scores:
        """Return the squared Mahalanobis distance of ``features`` (n, d_all) to the nearest class over d, ``(n,)``."""
        scaled = (features.take(self.read, axis=1) - self.offset) / self.scale
        steps = (scaled[:, None, :] - self.centres[None]) @ self.whitener
        return np.asarray((steps**2).mean(axis=-1).min(axis=-1), np.float64)
