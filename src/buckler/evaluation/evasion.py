"""Attacks that know the detector: they seek a wrong answer that is not flagged.

``Evader`` presents classifier and detector as one model, so that every attack of the table runs against it. Its logits
say whether both are evaded; its gradient is that of one of the ``OBJECTIVES``. The reported rate counts pictures that
are wrong *and* not flagged.

Source: Carlini & Wagner, "Adversarial examples are not easily detected", arXiv 1705.07263; Tramèr, Carlini, Brendel &
Madry, "On adaptive attacks to adversarial example defenses", arXiv 2002.08347.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

from buckler.compute.machine import Precision
from buckler.detection.adversarial import MAX_SURPRISE
from buckler.detection.screening import Screening
from buckler.models.backend import keras, tf
from buckler.models.classifier import Classifier
from buckler.models.gradients import LossName

# joint: away from the label and below the detector's threshold at the same time.
# selective: away from the label until the answer is wrong, then below the threshold; Bryniarski et al., "Evading
#   adversarial example detection defenses with orthogonal projected gradient descent", arXiv 2106.15023.
# camouflage: away from the label, and into the feature cluster of another class; Yao et al., "A hierarchical feature
#   constraint to camouflage medical adversarial attacks", arXiv 2012.09501.
Objective = Literal["joint", "selective", "camouflage"]
OBJECTIVES: tuple[Objective, ...] = ("joint", "selective", "camouflage")
CLEAR = 0.2  # margin, in logits, of a wrong answer and of a score below the threshold; rounding changes less
WEIGHT = 1.0  # of the detector's part relative to the margin; both are in log-odds
CAMOUFLAGE = 1.0  # weight of the distance to the other class's cluster, about 1 for pictures of that class


class Evader(Classifier):
    """A network and the screening of its answers as one model for adaptive attacks.

    ``loss_gradient`` ignores the loss's name: its gradient is the objective's. The logits it returns are not the
    network's: the label has 0, every other class the same number, positive if classifier and detector are evaded.
    """

    def __init__(
        self,
        network: keras.Model,
        screening: Screening,
        objective: Objective,
        precision: Precision = "float32",
        *,
        batch_size: int = 8,
        lead: float = 0.0,
    ) -> None:
        """Combine network and screening.

        Args:
            network: Maps pixels to logits.
            screening: Its detector is to be evaded.
            objective: What the gradient follows.
            precision: Number format of the network's base.
            batch_size: Pictures per call of a compiled function.
            lead: By how much, in logits, the wrong label must exceed the right one: an attacker who knows a limit of
                the decision wants a surer answer than one that is just wrong.
        """
        self._screening, self._objective, self._lead = screening, objective, lead
        super().__init__(network, precision, batch_size=batch_size)

    def _loss_gradients(self, network: keras.Model) -> dict[LossName, Callable[[Any, Any], tuple[Any, Any]]]:
        return {"cross_entropy": self._climb}

    def _climb(self, images: Any, labels: Any) -> tuple[Any, Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits, features = self._with_features(images, training=False)
            own = tf.one_hot(labels, self.classes, on_value=True, off_value=False, dtype=tf.bool)
            margin = tf.reduce_max(tf.where(own, -float("inf"), logits), 1) - tf.gather(logits, labels, batch_dims=1)
            margin -= self._lead
            below = self._screening.threshold - _score(self._screening, logits, features)
            total = tf.reduce_sum(self._value(margin, below, features, labels))
        evaded = tf.minimum(margin, below) - CLEAR
        return tape.gradient(total, images), tf.where(own, 0.0, evaded[:, None])

    def _value(self, margin: Any, below: Any, features: Any, labels: Any) -> Any:
        wrong = tf.minimum(margin, CLEAR * 2)
        if self._objective == "selective":
            return tf.where(margin < CLEAR * 1.5, margin, below)
        if self._objective == "joint":
            return wrong + WEIGHT * tf.minimum(below, CLEAR * 2)
        return wrong - CAMOUFLAGE * _other_cloud(self._screening, features, labels)


def accepted_lead(screening: Screening) -> float:
    """Return by how much, in logits, a harmless label must exceed a dangerous one so that the answer is accepted.

    With several labels of a kind it is less than needed: all dangerous labels together must be improbable.
    """
    excluded = 1 - (screening.danger_limit or 0.0) if screening.dangerous else 0.0
    share = min(max(screening.min_confidence, excluded, 0.5), 1 - 1e-6)
    return screening.temperature * math.log(share / (1 - share))


def _score(screening: Screening, logits: Any, features: Any) -> Any:
    """Return the detector's score as a differentiable TensorFlow value; a test compares it with the detector's own."""
    d = screening.detector
    scaled = (tf.gather(features, d.read, axis=1) - d.offset) / d.scale
    answers = tf.argmax(logits, 1)
    traces = tf.reduce_sum(scaled * tf.gather(tf.constant(d.directions), answers), 1)
    off = tf.abs(logits - (tf.matmul(tf.gather(features, d.probed, axis=1), d.probe) + d.expected)) / d.spread
    surprise = tf.concat([off, off**2 / 3], 1)
    # The detector clips surprises; their gradient passes the clipping unchanged (straight through).
    surprise += tf.stop_gradient(tf.minimum(surprise, MAX_SURPRISE) - surprise)
    bias = tf.gather(tf.constant(d.bias), answers)
    return traces + tf.linalg.matvec(surprise, tf.constant(d.surprise.ravel())) + bias


def _other_cloud(screening: Screening, features: Any, labels: Any) -> Any:
    c = screening.clouds
    scaled = (tf.gather(features, c.read, axis=1) - c.offset) / c.scale
    steps = tf.einsum("ncd,de->nce", scaled[:, None, :] - c.centres[None], tf.constant(c.whitener))
    distances = tf.reduce_mean(steps**2, 2)
    own = tf.one_hot(labels, len(c.centres), on_value=True, off_value=False, dtype=tf.bool)
    return tf.reduce_min(tf.where(own, float("inf"), distances), 1)
