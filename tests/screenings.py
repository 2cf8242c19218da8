"""A small screening for tests, fitted on pictures, noisy copies, and logits like those of attacked pictures."""

from dataclasses import replace

import numpy as np

from buckler.detection.adversarial import AdversarialDetector
from buckler.detection.out_of_distribution import OutOfDistributionDetector
from buckler.detection.quality import QualityLimits
from buckler.detection.screening import Screening
from buckler.modality.picture.benign_changes import noisy
from buckler.modality.picture.measures import QUALITY_MEASURES
from buckler.models.forward import Forward
from buckler.models.networks.tiny import TINY


def fit(judge, images, labels, network=TINY, **thresholds):
    """Return a screening fitted on ``images``; it flags nothing unless ``thresholds`` sets lower ones."""
    clean = judge.forward(images)
    changed = judge.forward(noisy(images, np.random.default_rng(0), epsilon=2 / 255))
    # Iterated attacks increase the margins of the logits.
    attacked = Forward(clean.logits[:, ::-1] * 3, changed.features)
    everything = QualityLimits(*(np.full(len(QUALITY_MEASURES), limit, np.float32) for limit in (-np.inf, np.inf)))
    fitted = Screening(
        AdversarialDetector.fit(
            clean, [clean, changed], [attacked], read=network.trace_columns, probed=network.probe_columns
        ),
        OutOfDistributionDetector.fit(clean.features, labels, read=network.cloud_columns),
        everything,
        threshold=1e9,
        max_fpr=0.05,
        confidence=0.95,
        strangeness=1e9,
        min_confidence=0.0,
        temperature=1.0,
        dangerous=(1,),
        min_sensitivity=0.95,
        modality="picture",
        danger_limit=1.0,
    )
    return replace(fitted, **thresholds)
