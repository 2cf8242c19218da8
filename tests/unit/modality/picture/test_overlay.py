import numpy as np
import pytest
from PIL import Image

from buckler.modality.picture.overlay import LONGEST_SIDE, overlay


def coloured(size, relevance):
    grey = Image.new("RGB", size, (120, 120, 120))
    return np.asarray(overlay(grey, np.asarray(relevance, np.float32))).astype(int)


def test_without_relevance_the_picture_is_unchanged():
    assert (coloured((60, 40), np.zeros((7, 7))) == 120).all()


def test_the_most_relevant_place_is_yellow_and_the_rest_unchanged():
    relevance = np.zeros((4, 4))
    relevance[0, 3] = 1
    shown = coloured((80, 80), relevance)
    assert (shown[60:, :20] == 120).all()
    red, green, blue = shown[5, 75]
    assert red > green > 120 > blue


@pytest.mark.parametrize(("size", "expected"), [((300, 200), (300, 200)), ((2000, 1000), (LONGEST_SIDE, 256))])
def test_large_pictures_shrink_in_proportion(size, expected):
    assert coloured(size, np.ones((3, 3))).shape[:2] == expected[::-1]
