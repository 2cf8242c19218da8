"""Wrappers for adaptive attacks: they give a usable gradient to a defence that only hides its gradient.

Each wrapper is a model with logits and loss gradients. It replaces the crafter, so that every attack runs on it; the
adversarial pictures are scored on the defended model itself.

Source: Athalye, Carlini & Wagner, "Obfuscated gradients give a false sense of security", arXiv 1802.00420; Tramèr,
Carlini, Brendel & Madry, "On adaptive attacks to adversarial example defenses", arXiv 2002.08347.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from buckler.modality.base import Images, Labels
from buckler.models.forward import Forward, Logits
from buckler.models.gradients import GradientClassifier, LossName

Preprocess = Callable[[Images], Images]  # (batch, height, width, channels) in 0..1 to the same


@runtime_checkable
class Randomised(Protocol):
    """A model that draws random numbers from a seed that can be set."""

    def reseed(self, seed: int) -> None:
        """Seed the model's random numbers."""
        ...


class Expectation:
    """A randomised model as its expectation over draws (EOT): a single gradient is noisy, the mean is not.

    The loss's gradient is the mean over ``draws`` passes; the logits are the logarithm of the mean probabilities,
    whose softmax is the mean itself. Every call draws anew: an attack would overfit to the
    same few draws.

    An attack on it should not exit early: an answer that is just wrong in the mean may be right in the next draws.

    Args:
        classifier: Draws random numbers in each pass. If it has ``reseed``, it is seeded, so that the same calls in
            the same order give the same results.
        draws: Passes a call.
        seed: Of the draws.

    Raises:
        ValueError: ``draws`` is below 1.

    Source: Athalye, Engstrom, Ilyas & Kwok, "Synthesizing robust adversarial examples", arXiv 1707.07397, eq. 1;
        against randomised defences, arXiv 1802.00420, sec. 4.2.
    """

    def __init__(self, classifier: GradientClassifier, draws: int, *, seed: int = 0) -> None:
        if draws < 1:
            raise ValueError(f"expected at least one draw, got {draws}")
        self.classifier, self.draws, self.precision = classifier, draws, classifier.precision
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Seed the model's random numbers."""
        _reseed(self.classifier, seed)

    def logits(self, images: Images) -> Logits:
        """Return the logarithm of the mean probabilities, ``(batch, classes)``."""
        return _mean_of([self.classifier.logits(images) for _ in range(self.draws)])

    def forward(self, images: Images, progress: Callable[[int], object] | None = None) -> Forward:
        """Return ``logits`` as above and the mean features; the model must give features."""
        passes: list[Forward] = [self.classifier.forward(images) for _ in range(self.draws)]  # type: ignore[attr-defined]
        if progress:
            progress(len(images))
        features = np.mean([one.features for one in passes], axis=0)
        return Forward(_mean_of([one.logits for one in passes]), np.asarray(features, np.float32))

    def loss_gradient(self, images: Images, labels: Labels, loss: LossName = "cross_entropy") -> tuple[Images, Logits]:
        """Return the mean gradient of the summed ``loss`` by pixel, and the logits of the same passes."""
        total, passes = np.zeros_like(images), []
        for _ in range(self.draws):
            gradient, logits = self.classifier.loss_gradient(images, labels, loss)
            total += gradient
            passes.append(logits)
        return total / np.float32(self.draws), _mean_of(passes)


class StraightThrough:
    """A model behind preprocessing without a useful gradient (BPDA): the backward pass skips or replaces it.

    Args:
        classifier: The model that classifies the preprocessed pictures.
        preprocess: The defence's function on pixels: quantises, compresses or filters; it may use numpy.
        surrogate: A differentiable TensorFlow function, pixels to pixels, close to ``preprocess``; its derivative is
            used as that of ``preprocess``. The identity when not given, which suits preprocessing that hardly
            changes a picture.

    Source: Athalye, Carlini & Wagner, arXiv 1802.00420, sec. 4.1, "Backward Pass Differentiable Approximation".
    """

    def __init__(
        self,
        classifier: GradientClassifier,
        preprocess: Preprocess,
        surrogate: Callable[[Any], Any] | None = None,
    ) -> None:
        self.classifier, self.preprocess, self.surrogate = classifier, preprocess, surrogate
        self.precision = classifier.precision

    def reseed(self, seed: int) -> None:
        """Seed the model's random numbers."""
        _reseed(self.classifier, seed)

    def logits(self, images: Images) -> Logits:
        """Return ``(batch, classes)`` for the preprocessed ``images``."""
        return self.classifier.logits(self.preprocess(images))

    def loss_gradient(self, images: Images, labels: Labels, loss: LossName = "cross_entropy") -> tuple[Images, Logits]:
        """Return the surrogate's gradient of the summed ``loss`` by pixel, and the logits of the real pass."""
        gradient, logits = self.classifier.loss_gradient(self.preprocess(images), labels, loss)
        if self.surrogate is None:
            return gradient, logits
        from buckler.models.backend import tf  # whoever only names attacks loads faster

        pixels = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            smooth = self.surrogate(pixels)
        return tape.gradient(smooth, pixels, output_gradients=tf.constant(gradient)).numpy(), logits


class Unsaturated:
    """A model whose softmax is saturated: the margin's gradient in place of the cross-entropy's, and smaller logits.

    The cross-entropy's gradient is that of the logits times one minus the probability, which is zero in float32
    once the logits are far apart. The gradient of the margin between the true class and the largest other does not
    vanish; with two classes both gradients have the same signs. AutoAttack divides by the spread of the logits for
    the same purpose (DLR), which needs three classes.

    Args:
        classifier: Maps pixels to logits ``(batch, classes)``.
        scale: Divides the logits, so that a loss computed from them is not saturated either; see ``logit_scale``.

    Raises:
        ValueError: ``scale`` is not positive.

    Source: Carlini & Wagner, "Towards evaluating the robustness of neural networks", arXiv 1608.04644, sec. 5.2 and
        8; Croce & Hein, arXiv 2003.01690, sec. 4.
    """

    def __init__(self, classifier: GradientClassifier, *, scale: float) -> None:
        if not scale > 0:
            raise ValueError(f"expected a positive scale, got {scale}")
        self.classifier, self.scale, self.precision = classifier, np.float32(scale), classifier.precision

    def reseed(self, seed: int) -> None:
        """Seed the model's random numbers."""
        _reseed(self.classifier, seed)

    def logits(self, images: Images) -> Logits:
        """Return ``(batch, classes)``, divided by the scale."""
        return np.asarray(self.classifier.logits(images) / self.scale, np.float32)

    def loss_gradient(self, images: Images, labels: Labels, loss: LossName = "cross_entropy") -> tuple[Images, Logits]:
        """Return the gradient of ``loss`` by pixel, the margin's for the cross-entropy, and the divided logits."""
        asked: LossName = "margin" if loss == "cross_entropy" else loss
        gradient, logits = self.classifier.loss_gradient(images, labels, asked)
        return gradient / self.scale, np.asarray(logits / self.scale, np.float32)


def logit_scale(classifier: GradientClassifier, images: Images) -> float:
    """Return the median distance of the largest logit from the smallest over ``images``; one if they are all equal."""
    return float(np.median(np.ptp(classifier.logits(images), axis=1))) or 1.0


def _reseed(classifier: GradientClassifier, seed: int) -> None:
    if isinstance(classifier, Randomised):
        classifier.reseed(seed)


def _mean_of(passes: list[Logits]) -> Logits:
    """Return the logarithm of the mean of the passes' probabilities."""
    logarithms = [logits - np.logaddexp.reduce(logits, axis=1, keepdims=True) for logits in passes]
    return np.asarray(np.logaddexp.reduce(logarithms, axis=0) - np.log(len(passes)), np.float32)
