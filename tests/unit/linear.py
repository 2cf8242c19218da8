"""A classifier whose nearest wrong picture is known in closed form."""

import numpy as np


class Linear:
    """Logits ``<weights[k], pixels> + offsets[k]``; the boundary to class j is ``|lead| / ||w_own - w_j||_1`` away."""

    precision = "float32"

    def __init__(self, classes, shape=(6, 6, 3), seed=0):
        generator = np.random.default_rng(seed)
        self.weights = generator.normal(0, 1, (classes, int(np.prod(shape))))
        self.offsets = -self.weights.sum(axis=1) / 2
        self.passes = 0

    def logits(self, images):
        flat = images.reshape(len(images), -1).astype(np.float64)
        return (flat @ self.weights.T + self.offsets).astype(np.float32)

    def loss_gradient(self, images, labels, loss="cross_entropy"):
        self.passes += len(images)
        logits, rows = self.logits(images), np.arange(len(images))
        by_logit = np.zeros(logits.shape)
        if loss == "cross_entropy":
            shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
            by_logit = shifted / shifted.sum(axis=1, keepdims=True)
            by_logit[rows, labels] -= 1
        elif loss == "margin":
            others = logits.copy()
            others[rows, labels] = -np.inf
            by_logit[rows, others.argmax(axis=1)] = 1
            by_logit[rows, labels] -= 1
        else:
            by_logit[rows, labels] = 1
        return (by_logit @ self.weights).reshape(images.shape).astype(np.float32), logits

    def distances(self, images, labels):
        """Return the smallest change that makes each picture wrong, as long as no pixel meets 0 or 1 on its way."""
        leads = self.logits(images)[np.arange(len(labels)), labels][:, None] - self.logits(images)
        norms = np.abs(self.weights[labels][:, None] - self.weights[None]).sum(axis=2)
        leads[np.arange(len(labels)), labels], norms[np.arange(len(labels)), labels] = np.inf, 1
        return np.maximum(leads / norms, 0).min(axis=1)
