"""The pictures of a benchmark: a random choice from a folder, or drawn ones."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from buckler.data import collection, sources
from buckler.data.layout import Layout
from buckler.errors import DataError
from buckler.modality.base import Images, Labels
from buckler.modality.picture.images import load_pixels
from buckler.modality.picture.modality import MODALITY as PICTURE


def sample(folder: str, count: int, *, size: int, seed: int) -> tuple[Images, Labels, tuple[str, ...]]:
    """Return pictures in random order, their class indices and the names of the classes.

    Args:
        folder: Class-per-folder directory; empty for pictures of the seeded generator.
        count: Number of pictures.
        size: Pixels a side.
        seed: Seed of the choice and of the generator.

    Raises:
        DataError: The folder has fewer pictures.
    """
    if folder:
        items = collection.read(Path(folder), Layout()).items(per_class=0, seed=seed)
    else:
        items = sources.generated(PICTURE, per_class=-(-count // 2), seed=seed, size=size)
    if len(items) < count:
        raise DataError(f"expected at least {count} pictures in {folder}, got {len(items)}")
    names = tuple(sorted({item.label for item in items}))
    chosen = [items[place] for place in np.random.default_rng(seed).permutation(len(items))[:count]]
    pixels = [load_pixels(item.read(), size=size) for item in tqdm(chosen, unit="picture", desc="read pictures")]
    return np.stack(pixels), np.array([names.index(item.label) for item in chosen], np.int64), names
