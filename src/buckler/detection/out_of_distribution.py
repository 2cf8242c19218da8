"""Detects inputs unlike the training pictures, by the features of the forward pass that answers.

For each class the clean features of one middle block form a cloud; a picture's score is its Mahalanobis distance to
the nearest. Photographs, text, noise or X-rays are far from every cloud. Attacked pictures are not, because their
perturbations are small; `buckler.detection.adversarial` detects those.

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
    """Fitted clouds; ``centres`` (classes, d) and ``whitener`` (d, d) work on scaled features.

    Attributes:
        read: Columns of the features that the clouds are about, ``(d,)``.
        offset: Mean of the clean training features, ``(d,)``.
        scale: Their standard deviations, ``(d,)``.
        whitener: Maps a scaled feature vector to one whose clean spread within a class is a unit sphere.
    """

    read: Columns
    offset: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    centres: npt.NDArray[np.float32]
    whitener: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, features: Features, labels: Labels, *, read: Columns) -> "OutOfDistributionDetector":
        """Return the clouds of clean ``features`` (n, d_all) with class indices ``labels`` (n,), in columns ``read``.

        Raises:
            ValueError: Some class has fewer than two pictures.
        """
        from sklearn.covariance import ledoit_wolf  # fitting only: the service does not carry scikit-learn

        classes = np.unique(labels)
        if min((labels == c).sum() for c in classes) < 2:
            raise ValueError(f"expected at least 2 pictures a class, got {np.bincount(labels).tolist()}")
        chosen = features.take(read, axis=1)
        offset, scale = chosen.mean(axis=0), chosen.std(axis=0) + 1e-6
        scaled = (chosen - offset) / scale
        centres = np.stack([scaled[labels == c].mean(axis=0) for c in classes])
        within = scaled - centres[np.searchsorted(classes, labels)]
        covariance, _ = ledoit_wolf(within, assume_centered=True)
        # The Cholesky factor of the inverse: squared length after it is the Mahalanobis distance.
        whitener = np.linalg.cholesky(np.linalg.inv(covariance))
        return cls(read, *(np.asarray(a, np.float32) for a in (offset, scale, centres, whitener)))

    def score(self, features: Features) -> Scores:
        """Return the squared distance per dimension of ``features`` (n, d_all) to the nearest class, ``(n,)``."""
        scaled = (features.take(self.read, axis=1) - self.offset) / self.scale
        steps = (scaled[:, None, :] - self.centres[None]) @ self.whitener
        return np.asarray((steps**2).mean(axis=-1).min(axis=-1), np.float64)
