import numpy as np
import pytest

from buckler.evaluation import pointing
from buckler.models.explanation import HeadWeights
from buckler.models.forward import Forward
from tests.forms import PICTURE

LABELS = ("benign", "malignant")
# Channel 0 speaks for malignant.
HEAD = HeadWeights((np.array([[0, 1]], np.float32),), (np.zeros(2, np.float32),), "mean")


def maps(*places):
    """Return the maps of pictures with 4 by 4 places, of which one stands out in each; in none where None is given."""
    found = np.ones((len(places), 4, 4, 1), np.float32)
    for picture, place in zip(found, places, strict=True):
        if place:
            picture[place] = 3
    return found


def mask(rows, columns):
    """Return the mask of a rectangle in a picture of 16 by 16 pixels."""
    found = np.zeros((16, 16), bool)
    found[rows, columns] = True
    return found


def test_a_map_points_if_its_hottest_spot_lies_on_the_lesion():
    left, right = mask(slice(4, 8), slice(0, 4)), mask(slice(4, 8), slice(12, 16))
    relevance = maps((1, 0))[0, ..., 0] - 1
    assert pointing.points_at(relevance, left, PICTURE)
    assert not pointing.points_at(relevance, right, PICTURE)


def test_a_flat_map_points_nowhere():
    assert not pointing.points_at(np.zeros((4, 4), np.float32), np.ones((16, 16), bool), PICTURE)


def test_hits_are_counted_by_predicted_label_and_flat_maps_as_missed():
    logits = np.array([[2, 1], [2, 1], [2, 1], [0, 1], [0, 1]], np.float32)
    forward = Forward(logits, np.zeros((5, 0), np.float32), maps((1, 0), (1, 0), (3, 3), (2, 2), None))
    lesion = mask(slice(4, 8), slice(0, 4))
    found = pointing.measure(
        forward, HEAD, [lesion, lesion, lesion, mask(slice(8, 12), slice(8, 12)), lesion], LABELS, PICTURE
    )
    assert (found.pointed.value, found.pointed.pictures, found.flat) == (3 / 5, 5, 1)
    shares = {label: (rate.value, rate.pictures) for label, rate in found.by_label.items()}
    assert shares == {"benign": (2 / 3, 3), "malignant": (1 / 2, 2)}


def test_a_label_that_is_never_predicted_has_no_share():
    forward = Forward(np.array([[2, 1]], np.float32), np.zeros((1, 0), np.float32), maps((1, 0)))
    assert set(pointing.measure(forward, HEAD, [np.ones((16, 16), bool)], LABELS, PICTURE).by_label) == {"benign"}


def test_a_pass_without_maps_is_rejected():
    with pytest.raises(ValueError, match="expected a forward pass with maps"):
        pointing.measure(Forward(np.zeros((1, 2)), np.zeros((1, 0))), HEAD, [], LABELS, PICTURE)
