"""Pointing game: does the hottest spot of a heat map lie on the lesion?

The map is that of the predicted label, stretched as the service stretches it.

Source: Zhang et al., "Top-down neural attention by excitation backprop", arXiv 1608.00507, sec. 4.2, without the
tolerance of 15 pixels.
"""

from collections.abc import Sequence

import numpy as np

from buckler.data.masks import Mask
from buckler.evaluation.statistics import wilson
from buckler.measurements.results import HeatMapCheck, Rate
from buckler.modality.base import Modality
from buckler.models.explanation import HeadWeights, Relevance, relevance_of
from buckler.models.forward import Forward


def measure(
    forward: Forward, head: HeadWeights, masks: Sequence[Mask], labels: Sequence[str], modality: Modality
) -> HeatMapCheck:
    """Return how often the heat map points at the lesion.

    Args:
        forward: Of ``n`` pictures, with their maps.
        head: Of the same network.
        masks: Of the same pictures.
        labels: Class names in the order of the logits.
        modality: Of the inputs.

    Raises:
        ValueError: ``forward`` has no maps.
    """
    if forward.maps is None:
        raise ValueError("expected a forward pass with maps, got one without")
    guesses = forward.logits.argmax(axis=1)
    relevance = [relevance_of(maps, head, int(guess)) for maps, guess in zip(forward.maps, guesses, strict=True)]
    pointed = np.array([points_at(each, mask, modality) for each, mask in zip(relevance, masks, strict=True)], bool)
    return HeatMapCheck(
        pointed=_share(pointed),
        by_label={label: _share(pointed[guesses == i]) for i, label in enumerate(labels) if (guesses == i).any()},
        flat=sum(not each.any() for each in relevance),
    )


def points_at(relevance: Relevance, mask: Mask, modality: Modality) -> bool:
    """Return whether the hottest spot of ``relevance``, stretched over ``mask``, is part of it."""
    hottest = modality.stretched(relevance, mask.shape).argmax()
    return bool(relevance.any() and mask.flat[hottest])


def _share(held: np.ndarray) -> Rate:
    return wilson(int(held.sum()), len(held))
