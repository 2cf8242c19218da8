"""Loads a released model for MLflow (``loader_module`` of its pyfunc flavour)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from buckler.trust import keys

if TYPE_CHECKING:
    from buckler.serving.predictor import Predictor


class PyfuncModel:
    """A verified release behind MLflow's ``predict``: probabilities only, without detector or decision."""

    def __init__(self, predictor: "Predictor") -> None:
        self._predictor = predictor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> npt.NDArray[np.float32]:
        """Return ``(n, labels)`` probabilities in the order of the model's labels.

        Args:
            model_input: ``(n, size, size, 3)`` float32 pixels in 0..1, or one flattened row per picture (array
                or DataFrame).
            params: Unused; MLflow passes it.
        """
        labels = self._predictor.labels
        pixels = np.asarray(model_input, np.float32).reshape(-1, *self._predictor.form.shape)
        answers = [self._predictor(picture).probabilities for picture in pixels]
        rows = [[answer[label] for label in labels] for answer in answers]
        return np.asarray(rows, np.float32).reshape(-1, len(labels))


def _load_pyfunc(data_path: str) -> PyfuncModel:
    """Verify the verdict of the release directory ``data_path`` and return its model.

    Raises:
        VerdictError: The verdict is invalid, or the model failed its gate.
    """
    from buckler.serving.predictor import Predictor

    return PyfuncModel(Predictor.load(Path(data_path), keys.load_public_keys()))
