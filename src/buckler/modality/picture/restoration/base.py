"""A restoration step: changes pictures before they are classified."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from buckler.modality.base import Images, check_pixels

Picture = npt.NDArray[np.float32]  # (height, width, 3), 0..1


class Step(ABC):
    """Base of all restoration steps.

    A step is part of the classifier that it precedes: an attacker changes pictures before the step.

    Attributes:
        name: In the table of steps, settings and results.
        title: For people.
        source: The paper.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def __call__(self, images: Images) -> Images:
        """Return ``images`` (n, h, w, 3) float32 in 0..1 restored, with the same shape, type and range.

        A picture's result depends neither on the other pictures nor on chance.

        Raises:
            InputRangeError: Some value lies outside 0..1.
        """

    def pull_back(self, images: Images, gradient: Images) -> Images:
        """Return the gradient of a loss at ``images``, given its ``gradient`` at the restored pictures, same shape.

        By default ``gradient`` itself: where a step has no useful derivative but changes pictures little, the identity
        approximates it. Without this, an attack would find no gradient, and the step would appear to protect.

        Source: Athalye, Carlini & Wagner, "Obfuscated gradients give a false sense of security", arXiv 1802.00420,
        sec. 4.1 (backward pass differentiable approximation).
        """
        del images
        return gradient


class PictureStep(Step):
    """Base of steps that restore one picture after the other."""

    @abstractmethod
    def restored(self, picture: Picture) -> npt.NDArray[np.floating]:
        """Return ``picture`` restored, same shape; values outside 0..1 are clipped."""

    def __call__(self, images: Images) -> Images:
        """Return ``images`` (n, h, w, 3) in 0..1 restored."""
        check_pixels(images)
        result = np.empty_like(images)
        for place, picture in enumerate(images):
            result[place] = np.clip(self.restored(picture), 0, 1)
        return result


class Unchanged(Step):
    """No restoration, the default."""

    name = "none"
    title = "none"
    source = ""

    def __call__(self, images: Images) -> Images:
        """Return ``images``."""
        check_pixels(images)
        return images
