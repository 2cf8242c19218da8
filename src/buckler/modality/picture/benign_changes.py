"""Changes of pictures that are not attacks: sensor noise and JPEG recompression."""

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from buckler.modality.base import Images

Change = Callable[[Images, np.random.Generator], Images]


def noisy(images: Images, generator: np.random.Generator, *, epsilon: float) -> Images:
    """Return 8-bit ``images`` (n, h, w, 3) with uniform noise of at most ``epsilon``, rounded to 8 bits."""
    moved = images + generator.uniform(-epsilon, epsilon, images.shape)
    return np.asarray(np.clip(np.round(moved * 255), 0, 255) / 255, np.float32)


def recompressed(images: Images, *, quality: int) -> Images:
    """Return ``images`` (n, h, w, 3) after JPEG compression at ``quality``, 1..95."""
    return np.asarray([_through_jpeg(image, quality) for image in images], np.float32).reshape(images.shape)


def _through_jpeg(image: Images, quality: int) -> Images:
    file = io.BytesIO()
    Image.fromarray(np.round(image * 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), np.float32) / np.float32(255)


# Used to fit the detector. The noise is as large as the perturbations from which the detector must distinguish it.
FITTING_CHANGES: Mapping[str, Change] = {
    "noise_2": lambda images, generator: noisy(images, generator, epsilon=2 / 255),
    "noise_8": lambda images, generator: noisy(images, generator, epsilon=8 / 255),
    "jpeg_75": lambda images, _: recompressed(images, quality=75),
    "jpeg_92": lambda images, _: recompressed(images, quality=92),
}
# Used to evaluate the detector; includes strengths that it was not fitted on.
EVALUATION_CHANGES: Mapping[str, Change] = {
    **FITTING_CHANGES,
    "noise_4": lambda images, generator: noisy(images, generator, epsilon=4 / 255),
    "jpeg_60": lambda images, _: recompressed(images, quality=60),
    "jpeg_85": lambda images, _: recompressed(images, quality=85),
}
