"""Interface of a model for gradient attacks; without TensorFlow."""

from typing import Literal, Protocol

from buckler.modality.base import Images, Labels
from buckler.models.forward import Logits

# Loss that an attack maximises: the cross-entropy; the margin by which the largest other logit exceeds the label's
# logit, which does not saturate; or the label's logit.
LossName = Literal["cross_entropy", "margin", "logit"]


class GradientClassifier(Protocol):
    """Interface of a model for gradient attacks."""

    precision: str

    def logits(self, images: Images) -> Logits:
        """Return ``(batch, classes)`` for pixels ``(batch, height, width, 3)`` in 0..1."""
        ...

    def loss_gradient(self, images: Images, labels: Labels, loss: LossName = "cross_entropy") -> tuple[Images, Logits]:
        """Return the gradient of the summed ``loss`` with respect to ``images``, and the logits of the same pass."""
        ...
