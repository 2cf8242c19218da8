"""Picture statistics have the values that follow from their definitions."""

import numpy as np
import pytest

from buckler.modality.picture.measures import QUALITY_MEASURES, TRAFFIC_MEASURES, quality_measures, traffic_measures

SIZE = 64


def picture(seed: int = 3) -> np.ndarray:
    """A smooth field with grain, like a photograph."""
    generator = np.random.default_rng(seed)
    ramp = np.linspace(0.3, 0.7, SIZE, dtype=np.float32)
    return np.clip(ramp[:, None, None] + generator.normal(0, 0.02, (SIZE, SIZE, 3)), 0, 1).astype(np.float32)


def test_each_measure_changes_with_its_property():
    image, plain = picture(), traffic_measures(picture())
    assert traffic_measures(image * 0.5)["brightness"] == pytest.approx(plain["brightness"] / 2, rel=1e-5)
    assert traffic_measures(image * 0.5)["contrast"] == pytest.approx(plain["contrast"] / 2, rel=1e-5)
    warm = traffic_measures(image * np.array([1, 0.8, 0.6], np.float32))
    assert warm["blue"] == pytest.approx(0.6 * plain["blue"], rel=1e-5)
    assert warm["red"] == plain["red"]
    assert warm["saturation"] > plain["saturation"] + 0.3
    blurred = (image + np.roll(image, 1, axis=0) + np.roll(image, 1, axis=1)) / 3
    assert traffic_measures(blurred)["sharpness"] < plain["sharpness"]


def test_measures_of_simple_pictures_equal_their_definitions():
    red = np.zeros((8, 8, 3), np.float32)
    red[..., 0] = 0.5
    found = traffic_measures(red)
    expected = {"brightness": 0.1495, "contrast": 0, "red": 0.5, "green": 0, "blue": 0, "saturation": 1, "sharpness": 0}
    assert found == pytest.approx(expected, abs=1e-6)
    spot = np.zeros((5, 5, 3), np.float32)
    spot[2, 2] = 1
    # The Laplacian of one bright pixel is -4 at the pixel, 1 beside it, and 0 at the corners of the nine inner pixels.
    assert traffic_measures(spot)["sharpness"] == pytest.approx(255**2 * np.var([0, 1, 0, 1, -4, 1, 0, 1, 0]), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_measures_of_black_and_white_are_finite(value):
    assert all(np.isfinite(list(traffic_measures(np.full((8, 8, 3), value, np.float32)).values())))


def test_both_sets_agree_on_their_common_measures():
    image = picture()
    traffic, quality = traffic_measures(image), quality_measures(image[None])[0]
    assert tuple(traffic) == TRAFFIC_MEASURES
    assert [traffic[name] for name in ("brightness", "contrast")] == quality[:2].tolist()
    assert quality[QUALITY_MEASURES.index("colour")] == pytest.approx(np.ptp(image, axis=2).mean(), rel=1e-5)


def test_blur_is_a_third_for_one_pixel_lines_and_nearly_one_for_a_slope():
    lines = np.zeros((1, SIZE, SIZE, 3), np.float32)
    lines[:, :, ::2] = 1
    slope = np.broadcast_to(np.linspace(0, 1, SIZE, dtype=np.float32)[None, None, :, None], (1, SIZE, SIZE, 3))
    place = QUALITY_MEASURES.index("blur")
    # The means of (0, 1, 0) and (1, 0, 1) differ by a third.
    assert quality_measures(lines)[0, place] == pytest.approx(1 / 3, abs=0.01)
    assert quality_measures(slope)[0, place] == pytest.approx(1, abs=0.01)
