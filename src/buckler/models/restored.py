"""A classifier behind a restoration step: what an attacker faces who changes pictures before the step."""

from buckler.modality.base import Images, Labels
from buckler.modality.picture.restoration.base import Step
from buckler.models.forward import Logits
from buckler.models.gradients import GradientClassifier, LossName


class RestoredClassifier:
    """``step`` and then ``classifier`` as one model, which gradient attacks attack through the step.

    Radii are of the picture that is given, not of the restored one.

    Args:
        step: Changes the pictures.
        classifier: Answers for the changed pictures.
        backward: The step whose derivative stands for that of ``step``, for an attacker who knows a similar step with a
            true one; None takes ``step`` itself.
    """

    def __init__(self, step: Step, classifier: GradientClassifier, backward: Step | None = None) -> None:
        self.precision = classifier.precision
        self._step, self._classifier, self._backward = step, classifier, backward or step

    def logits(self, images: Images) -> Logits:
        """Return ``(batch, classes)`` for pictures ``(batch, height, width, 3)`` in 0..1, before the step."""
        return self._classifier.logits(self._step(images))

    def loss_gradient(self, images: Images, labels: Labels, loss: LossName = "cross_entropy") -> tuple[Images, Logits]:
        """Return the gradient of the summed ``loss`` with respect to ``images``, and the logits of the same pass.

        The gradient passes the step as its ``pull_back`` says: the true one where there is one, else the identity.
        """
        gradient, logits = self._classifier.loss_gradient(self._step(images), labels, loss)
        return self._backward.pull_back(images, gradient), logits
