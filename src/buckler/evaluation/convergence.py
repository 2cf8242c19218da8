"""Success rate of PGD by number of steps: would the suite's attack flip more with more steps?

If success still rises at the last step, the measured robustness depends on the number of steps.

Source: Carlini et al., "On evaluating adversarial robustness", arXiv 1902.06705, sec. 4.3 "Verify attacks have
converged".
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from buckler.attacks.base import Batch
from buckler.attacks.iterative import PGD, Walk, climb
from buckler.evaluation.robustness import Right
from buckler.measurements.results import Convergence
from buckler.modality.base import LEVELS, Images, Labels, RadiusUnit
from buckler.models.forward import Logits
from buckler.models.gradients import GradientClassifier
from buckler.radius import StatedRadius

PICTURES = 64
STEPS = 40
TAIL = 0.25  # last part of the steps, in which success may rise by at most FLAT
FLAT = 0.02


def measure(
    classifier: GradientClassifier,
    images: Images,
    labels: Labels,
    clean: Right,
    worst: Mapping[StatedRadius, Right],
    *,
    seed: int,
    steps: int = STEPS,
    unit: RadiusUnit = LEVELS,
) -> list[Convergence]:
    """Return how PGD's success grows with its steps, at each radius of ``worst``.

    Args:
        classifier: Computes gradients.
        images: ``(n, ...)`` float32 in 0..1.
        labels: True class indices, ``(n,)``.
        clean: Which of ``images`` are right unattacked; at most 64 of them are drawn, and none gives no curve.
        worst: L-infinity radius -> which of ``images`` the suite leaves right up to it.
        seed: Of the draw and of the random starts.
        steps: Gradient steps.
        unit: Of the radii.
    """
    right = np.flatnonzero(clean)
    drawn = np.sort(np.random.default_rng(seed).permutation(right)[:PICTURES])
    if not len(drawn):
        return []
    curves = []
    for radius, robust in worst.items():
        epsilon = unit.radius(radius).value
        walk = PGD(steps=steps, step_size=2.5 * epsilon / steps).walk(epsilon)
        batch = Batch(images[drawn], labels[drawn], drawn.tolist(), seed)
        first = _first_flips(classifier, batch, walk, epsilon)
        rates = [float((first <= step).mean()) for step in range(steps + 1)]
        found = float((~robust[drawn]).mean())
        curves.append(Convergence(PGD.name, radius, len(drawn), list(range(steps + 1)), rates, found, is_flat(rates)))
    return curves


def is_flat(rates: Sequence[float]) -> bool:
    """Return whether ``rates``, one a step from step 0, rise by at most two points over the last quarter."""
    return late_gain(rates) <= FLAT


def late_gain(rates: Sequence[float]) -> float:
    """Return by how much ``rates``, one a step from step 0, rise over the last quarter of the steps."""
    return rates[-1] - rates[-1 - max(1, round(TAIL * (len(rates) - 1)))]


def _first_flips(classifier: GradientClassifier, batch: Batch, walk: Walk, epsilon: float) -> npt.NDArray[np.float64]:
    """Return after how many steps each picture is first wrong, ``(n,)``; infinity if it never is."""
    labels = batch.labels
    first = np.full(len(labels), np.inf)
    passes = 0

    def on_pass(which: npt.NDArray[np.intp], logits: Logits) -> None:
        nonlocal passes
        wrong = which[logits.argmax(axis=1) != labels[which]]
        first[wrong] = np.minimum(first[wrong], passes)
        passes += 1

    moved = climb(classifier, batch, walk, epsilon, on_pass=on_pass)
    # `climb` reports the answer before each step; the answer after the last step is computed here.
    on_pass(np.arange(len(labels)), classifier.logits(moved))
    return first
