"""A classifier behind a restoration step, which is part of it: for the service, and for an attacker.

An attacker changes inputs before the step.
"""

from collections.abc import Callable
from typing import Any

from buckler.modality.base import UNRESTORED, Images, Labels
from buckler.modality.picture.restoration import table
from buckler.modality.picture.restoration.base import Step
from buckler.models.exported_denoiser import ExportedDenoiser
from buckler.models.forward import Forward, Logits
from buckler.models.gradients import GradientClassifier, LossName
from buckler.models.info import ModelInfo
from buckler.state.locations import Location

WEIGHTS_FILE = "denoiser.npz"  # of the step ``cnn``, in a model's directory


def step_of(info: ModelInfo, directory: Location, *, exported: bool = False, threads: int | None = None) -> Step | None:
    """Return the step of the classifier in ``directory``; None if it has none.

    Args:
        info: Description of the classifier.
        directory: Contains the weights of its step, if that has weights.
        exported: Whether the step runs without TensorFlow, as in the service, and without a true derivative.
        threads: Of an exported step; default: one for each processor.

    Raises:
        ModelError: A file is missing or damaged, or scikit-image is not installed.
    """
    if info.restore == UNRESTORED:
        return None
    if info.restore != table.CNN:
        return table.find(info.restore)
    if exported:
        return ExportedDenoiser(directory, threads=threads)
    from buckler.models import denoiser  # loads TensorFlow

    return denoiser.load(directory / WEIGHTS_FILE)


def behind(step: Step | None, classifier: GradientClassifier) -> GradientClassifier:
    """Return ``classifier`` behind ``step``; ``classifier`` itself if there is none."""
    return classifier if step is None else RestoredClassifier(step, classifier)


class Restored:
    """``step`` and then ``model`` as one model.

    Attributes:
        precision: Number format of ``model``.

    Args:
        step: Changes the inputs.
        model: Answers for the changed inputs.
    """

    def __init__(self, step: Step, model: Any) -> None:
        self.precision: str = model.precision
        self._step, self._model = step, model

    def logits(self, images: Images) -> Logits:
        """Return ``(batch, classes)`` for inputs ``(batch, ...)`` in 0..1, before the step."""
        logits: Logits = self._model.logits(self._step(images))
        return logits

    def forward(
        self, images: Images, progress: Callable[[int], object] | None = None, *, maps: bool = False
    ) -> Forward:
        """Return logits and features, and with ``maps`` the last tap's maps, of one pass; as of ``model``."""
        settings: dict[str, Any] = {"maps": True} if maps else {}
        if progress:
            settings["progress"] = progress
        forward: Forward = self._model.forward(self._step(images), **settings)
        return forward

    def reseed(self, seed: int) -> None:
        """Seed the random numbers of ``model``, if it draws some."""
        if hasattr(self._model, "reseed"):
            self._model.reseed(seed)


class RestoredClassifier(Restored):
    """``step`` and then ``classifier`` as one model, which gradient attacks attack through the step.

    Radii are of the picture that is given, not of the restored one.

    Args:
        step: Changes the pictures.
        classifier: Answers for the changed pictures.
        backward: The step whose derivative stands for that of ``step``, for an attacker who knows a similar step with a
            true one; None takes ``step`` itself.
    """

    def __init__(self, step: Step, classifier: GradientClassifier, backward: Step | None = None) -> None:
        super().__init__(step, classifier)
        self._backward = backward or step

    def loss_gradient(self, images: Images, labels: Labels, loss: LossName = "cross_entropy") -> tuple[Images, Logits]:
        """Return the gradient of the summed ``loss`` with respect to ``images``, and the logits of the same pass.

        The gradient passes the step as its ``pull_back`` says: the true one where there is one, else the identity.
        """
        gradient, logits = self._model.loss_gradient(self._step(images), labels, loss)
        return self._backward.pull_back(images, gradient), logits
