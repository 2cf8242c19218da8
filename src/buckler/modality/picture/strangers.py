"""Seeded out-of-distribution pictures, such as clients may send by mistake; the service must flag them.

Text pages, noise, plain colours and radiograph-like phantoms are generated; photographs are crops of the two in
scikit-learn (CC BY).
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Pictures = npt.NDArray[np.float32]  # (n, size, size, 3) in 0..1, 8-bit values
Draw = Callable[[np.random.Generator, int], Image.Image]  # generator and size to one picture


def pictures(kind: str, count: int, *, size: int, seed: int) -> Pictures:
    """Return ``count`` pictures of one of ``KINDS``, ``size`` pixels a side."""
    generator = np.random.default_rng(seed)
    drawn = [KINDS[kind](generator, size).convert("RGB").resize((size, size)) for _ in range(count)]
    return np.asarray(np.stack([np.asarray(picture) for picture in drawn]) / 255, np.float32)


def _text(generator: np.random.Generator, _: int) -> Image.Image:
    paper = tuple(int(level) for level in generator.integers(200, 256, 3))
    page = Image.new("RGB", (224, 224), paper)
    pen = ImageDraw.Draw(page)
    for line in range(int(generator.integers(8, 20))):
        letters = generator.integers(97, 123, int(generator.integers(10, 40)))
        words = "".join(" " if generator.random() < 0.15 else chr(letter) for letter in letters)
        pen.text((5, 5 + 11 * line), words, fill=tuple(int(level) for level in generator.integers(0, 80, 3)))
    return page


def _noise(generator: np.random.Generator, size: int) -> Image.Image:
    cells = int(generator.choice([4, 16, size]))
    return _image(generator.random((cells, cells, 3))).resize((size, size), Image.Resampling.BILINEAR)


def _plain(generator: np.random.Generator, size: int) -> Image.Image:
    return _image(np.broadcast_to(generator.random(3), (size, size, 3)))


def _radiograph(generator: np.random.Generator, size: int) -> Image.Image:
    """Draw a chest: a bright middle, two dark lungs, ribs, film grain."""
    down, across = np.mgrid[0:size, 0:size] / size - 0.5
    body = 0.25 + 0.5 * np.exp(-4 * (across * generator.uniform(1.5, 2.5)) ** 2)
    for side in (-0.22, 0.22):
        height = down + generator.uniform(-0.05, 0.05)
        body -= 0.4 * np.exp(-(((across - side) / 0.13) ** 2) - (height / 0.28) ** 2)
    body += 0.06 * np.sin(down * generator.uniform(50, 70) + 12 * np.abs(across))
    grain = generator.normal(0, 0.02, body.shape)
    return _image(np.repeat((body + grain)[..., None], 3, axis=2))


def _photograph(generator: np.random.Generator, _: int) -> Image.Image:
    from sklearn.datasets import load_sample_images

    photograph = generator.choice(np.array(load_sample_images().images))
    side = int(generator.integers(120, min(photograph.shape[:2])))
    top, left = (int(generator.integers(0, length - side)) for length in photograph.shape[:2])
    return Image.fromarray(photograph[top : top + side, left : left + side])


def _image(values: npt.NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.round(np.clip(values, 0, 1) * 255).astype(np.uint8))


KINDS: Mapping[str, Draw] = {
    "photograph": _photograph,
    "text": _text,
    "radiograph": _radiograph,
    "noise": _noise,
    "plain": _plain,
}
