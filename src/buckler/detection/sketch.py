"""Random projection of features to a few numbers, enough to detect drift.

Sketches of served pictures are stored for days, mixed and with noise (`buckler.serving.traffic_mixing`), so that
`buckler.watch.drift` can compare served pictures with the calibration pictures. The fewer numbers, the less a row
tells. Random projections approximately preserve distances, need no fitting and are the same for every release.

Source: Achlioptas, "Database-friendly random projections", 2003.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from buckler.detection.adversarial import AdversarialDetector
from buckler.models.forward import Columns, Features

NUMBERS = 8
SEED = 7


@dataclass(frozen=True, slots=True)
class Sketch:
    """Projects features, scaled as the detector of a release scales them; ``projection`` is (d, ``NUMBERS``)."""

    read: Columns
    offset: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    projection: npt.NDArray[np.float32]

    @classmethod
    def of(cls, detector: AdversarialDetector) -> "Sketch":
        """Return the sketch for the release of ``detector``."""
        width = len(detector.offset)
        # Raw bits: NumPy may change how a generator's methods draw, which would make stored sketches incomparable.
        words = np.random.PCG64(SEED).random_raw(width * NUMBERS)
        signs = (words >> np.uint64(63)).astype(np.float32) * 2 - 1
        projection = signs.reshape(width, NUMBERS) / np.float32(np.sqrt(width))
        return cls(detector.read, detector.offset, detector.scale, projection)

    def __call__(self, features: Features) -> npt.NDArray[np.float32]:
        """Return ``(n, NUMBERS)`` for ``features`` (n, d_all)."""
        read = features.take(self.read, axis=1)
        return np.asarray(((read - self.offset) / self.scale) @ self.projection, np.float32)
