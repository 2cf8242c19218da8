import numpy as np
import pytest
from PIL import Image, ImageFilter

from buckler.detection.quality import QualityLimits
from buckler.modality.picture.synthetic import LABELS, draw
from tests.forms import PICTURE

SIZE = 64


def lesions(count, seed):
    drawn = [draw(LABELS[i % 2], i, seed=seed, size=SIZE) for i in range(count)]
    return np.round(np.stack(drawn) * 255).astype(np.float32) / 255


def blurred(images, radius):
    pictures = [Image.fromarray((image * 255).astype(np.uint8)) for image in images]
    return np.stack([np.asarray(p.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255 for p in pictures])


@pytest.fixture(scope="module")
def limits():
    return QualityLimits.fit(lesions(200, seed=1), PICTURE)


@pytest.fixture(scope="module")
def fresh():
    return lesions(100, seed=2)


def test_pictures_like_the_training_pictures_pass(limits, fresh):
    assert limits.unfit(fresh, PICTURE).mean() <= 0.03


@pytest.mark.parametrize(
    "spoil",
    [
        lambda images: blurred(images, 3),
        lambda images: images * 0.1,
        lambda images: np.clip(images * 3, 0, 1),
        lambda images: np.full_like(images, 0.6),
        np.zeros_like,
        lambda images: np.broadcast_to(images.mean(axis=3, keepdims=True), images.shape),
    ],
    ids=["blurred", "dark", "overexposed", "plain", "black", "grey"],
)
def test_spoilt_pictures_are_unfit(limits, fresh, spoil):
    assert limits.unfit(spoil(fresh), PICTURE).mean() >= 0.95


def test_sharper_pictures_pass(limits, fresh):
    generator = np.random.default_rng(3)
    sharp = np.clip(fresh + generator.normal(0, 0.03, fresh.shape), 0, 1).astype(np.float32)
    assert limits.unfit(sharp, PICTURE).mean() <= 0.03


def test_a_single_broken_training_picture_does_not_widen_the_limits():
    training = np.concatenate([np.tile(lesions(100, seed=4), (12, 1, 1, 1)), np.zeros((1, SIZE, SIZE, 3), np.float32)])
    assert QualityLimits.fit(training, PICTURE).unfit(np.zeros((1, SIZE, SIZE, 3), np.float32), PICTURE).all()
