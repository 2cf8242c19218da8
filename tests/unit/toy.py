"""A classifier small enough to check on paper."""

import numpy as np


class Brightness:
    """Two classes told apart by the mean pixel: logits (0, slope * (mean - middle)). Gradients known on paper."""

    precision = "float32"

    def __init__(self, middle: float = 0.5, slope: float = 8.0) -> None:
        self.middle, self.slope, self.passes = middle, slope, 0

    def logits(self, images):
        bright = self.slope * (images.mean(axis=(1, 2, 3)) - self.middle)
        return np.stack([np.zeros_like(bright), bright], axis=1).astype(np.float32)

    def loss_gradient(self, images, labels, loss="cross_entropy"):
        self.passes += len(images)
        logits = self.logits(images)
        share = 1 / (1 + np.exp(-logits[:, 1]))
        # Derivatives of the loss by the second logit; the first is constant.
        by_logit = {"cross_entropy": share - labels, "margin": 1.0 - 2 * labels, "logit": 1.0 * labels}[loss]
        pixel = self.slope / np.prod(images.shape[1:])
        gradient = np.ones_like(images) * (by_logit * pixel)[:, None, None, None]
        return gradient.astype(np.float32), logits
