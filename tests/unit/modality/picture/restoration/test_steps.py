import subprocess
import sys
import textwrap

import numpy as np
import pytest

from buckler.data import sources
from buckler.errors import InputRangeError, ModelError
from buckler.modality.picture.images import load_pixels
from buckler.modality.picture.restoration import table
from buckler.modality.picture.restoration.degradations import degraded
from buckler.modality.picture.restoration.lesion import mask_of
from tests.forms import PICTURE

DENOISING = ("nl_means", "tv", "wavelet")


@pytest.fixture(scope="module")
def pictures():
    """Six drawn skin pictures of 96 pixels a side."""
    items = sources.generated(PICTURE, per_class=3, seed=5, size=96)
    return np.stack([load_pixels(item.read()) for item in items])


def error(one, other):
    return float(((one - other) ** 2).mean())


@pytest.mark.parametrize("name", table.STEPS)
@pytest.mark.parametrize("shape", [(3, 33, 47, 3), (0, 16, 16, 3)])
def test_shape_type_and_range_stay(name, shape):
    images = np.random.default_rng(1).random(shape, np.float32)
    restored = table.find(name)(images)
    assert restored.shape == shape
    assert restored.dtype == np.float32
    assert not restored.size or (restored.min() >= 0 and restored.max() <= 1)


@pytest.mark.parametrize("name", table.STEPS)
def test_a_result_depends_neither_on_chance_nor_on_other_pictures(name, pictures):
    step, before = table.find(name), pictures.copy()
    together = step(pictures)
    np.testing.assert_array_equal(pictures, before)
    np.testing.assert_array_equal(step(pictures), together)
    np.testing.assert_array_equal(step(pictures[2:3]), together[2:3])


@pytest.mark.parametrize("name", table.STEPS)
@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_a_picture_of_one_colour_stays(name, level):
    plain = np.full((1, 24, 24, 3), level, np.float32)
    np.testing.assert_allclose(table.find(name)(plain), plain, atol=1e-3)


@pytest.mark.parametrize("name", table.STEPS)
def test_stripes_without_detail_in_one_direction_are_no_error(name):
    stripes = np.zeros((1, 32, 32, 3), np.float32)
    stripes[:, ::4] = 0.5
    assert np.isfinite(table.find(name)(stripes)).all()


@pytest.mark.parametrize("name", table.STEPS)
def test_values_outside_the_range_are_rejected(name):
    with pytest.raises(InputRangeError, match=r"expected pixels in \[0, 1\]"):
        table.find(name)(np.full((1, 16, 16, 3), 1.5, np.float32))


@pytest.mark.parametrize("name", DENOISING)
def test_noise_is_reduced_and_a_clean_picture_hardly_changes(name, pictures):
    step, noisy = table.find(name), degraded(pictures, "noise", 4, seed=1)
    assert error(step(noisy), pictures) < 0.4 * error(noisy, pictures)
    assert error(step(pictures), pictures) < 0.05 * error(noisy, pictures)


def test_clahe_raises_the_contrast_of_a_flat_picture(pictures):
    flat = 0.5 + 0.2 * (pictures - 0.5)
    assert table.find("clahe")(flat).std() > 1.3 * flat.std()


@pytest.fixture
def lesion():
    """A dark disk on bright skin with a dark corner and a bright speck, and which pixels are the disk."""
    rows, columns = np.mgrid[:100, :100]
    disk = (rows - 55) ** 2 + (columns - 45) ** 2 < 20**2
    picture = np.full((100, 100, 3), (0.9, 0.7, 0.6), np.float32)
    picture[disk] = (0.4, 0.2, 0.1)
    picture[:12, :12] = 0
    picture[90:93, 90:93] = 1
    return picture, disk


def test_the_mask_is_the_lesion_and_a_margin_not_the_dark_corner(lesion):
    picture, disk = lesion
    mask = mask_of(picture)
    assert mask[disk].all()
    assert disk.sum() < mask.sum() < 1.6 * disk.sum()
    assert not mask[:20, :20].any()


def test_outside_the_lesion_is_the_colour_of_the_skin(lesion):
    picture, disk = lesion
    (restored,) = table.find("lesion_mask")(picture[None])
    np.testing.assert_array_equal(restored[disk], picture[disk])
    np.testing.assert_allclose(restored[:12, :12], np.broadcast_to((0.9, 0.7, 0.6), (12, 12, 3)), atol=1e-6)
    np.testing.assert_allclose(restored[90:93, 90:93], np.broadcast_to((0.9, 0.7, 0.6), (3, 3, 3)), atol=1e-6)


def test_a_picture_without_lesion_stays():
    noise = np.random.default_rng(2).random((1, 64, 64, 3), np.float32)
    step = table.find("lesion_mask")
    np.testing.assert_array_equal(step(np.where(noise > 0.999, 0, 0.8).astype(np.float32)) > 0.7, noise <= 0.999)


def test_an_unknown_step_is_rejected_by_name():
    with pytest.raises(ModelError, match=r"expected one of the restoration steps none, .*, got blur"):
        table.find("blur")


def test_without_scikit_image_no_step_works_and_the_others_say_what_is_missing():
    script = """
        import sys
        sys.modules["skimage"] = None
        from buckler.errors import ModelError
        from buckler.modality.picture.restoration import table
        print(table.find("none").name)
        try:
            table.find("tv")
        except ModelError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed[0] == "none"
    assert printed[1].startswith("restoration step tv: expected the package skimage")
    assert "buckler[restore]" in printed[1]
