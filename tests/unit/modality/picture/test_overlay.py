import numpy as np
import pytest
from PIL import Image

from buckler.modality.picture.overlay import LONGEST_SIDE, overlay


def painted(size, relevance):
    grey = Image.new("RGB", size, (120, 120, 120))
    return np.asarray(overlay(grey, np.asarray(relevance, np.float32))).astype(int)


def test_nothing_is_painted_where_nothing_is_relevant():
    assert (painted((60, 40), np.zeros((7, 7))) == 120).all()


def test_it_is_painted_where_it_is_relevant_and_yellow_where_most():
    relevance = np.zeros((4, 4))
    relevance[0, 3] = 1
    shown = painted((80, 80), relevance)
    assert (shown[60:, :20] == 120).all()
    red, green, blue = shown[5, 75]
    assert red > green > 120 > blue


@pytest.mark.parametrize(("size", "expected"), [((300, 200), (300, 200)), ((2000, 1000), (LONGEST_SIDE, 256))])
def test_the_sides_keep_their_proportion_and_a_bound(size, expected):
    assert painted(size, np.ones((3, 3))).shape[:2] == expected[::-1]
