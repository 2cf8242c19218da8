"""Finds near-duplicate pictures.

A 64-bit perceptual hash cannot distinguish lesions well, because most are dark, round and centred. The hash selects
candidate pairs; the correlation of their thumbnails in the same orientation decides.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from buckler.modality.base import Pair
from buckler.modality.picture import images

THUMBNAIL: Final = 32
"""Side of a thumbnail in pixels; imagehash reduces pictures to this size before its cosine transform."""

_CHUNK: Final = 256  # pictures compared with all others at once; bounds the memory
_TURNS: Final[tuple[Callable[[NDArray[Any]], NDArray[Any]], ...]] = (
    lambda a: a,
    lambda a: np.rot90(a, 1),
    lambda a: np.rot90(a, 2),
    lambda a: np.rot90(a, 3),
    lambda a: a[:, ::-1],
    lambda a: a[::-1],
    lambda a: a.swapaxes(0, 1),
    lambda a: np.rot90(a, 2).swapaxes(0, 1),
)


@dataclass(frozen=True, slots=True)
class Appearance:
    """What is compared of a picture.

    Attributes:
        hashes: ``(8,)`` uint64 perceptual hashes: upright first, then rotated and mirrored.
        thumbnail: ``(32, 32, 3)`` uint8.
    """

    hashes: NDArray[np.uint64]
    thumbnail: NDArray[np.uint8]

    @classmethod
    def of(cls, source: Path | bytes) -> "Appearance":
        """Return the appearance of a picture; errors as `images.load_pixels`."""
        small = thumbnail(source)
        return cls(perceptual_hashes(small), small)


def thumbnail(source: Path | bytes) -> NDArray[np.uint8]:
    """Return a picture reduced to ``(32, 32, 3)``; errors as `images.load_pixels`."""
    return np.rint(images.load_pixels(source, size=THUMBNAIL) * 255).astype(np.uint8)


def perceptual_hashes(thumbnail: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the 64-bit perceptual hashes ``(8,)`` of a ``(32, 32, 3)`` picture, in every orientation."""
    grey = np.asarray(Image.fromarray(thumbnail).convert("L"))
    turned = (Image.fromarray(np.ascontiguousarray(turn(grey))) for turn in _TURNS)
    return np.array([_as_integer(imagehash.phash(one)) for one in turned], np.uint64)


def near_duplicates(appearances: Sequence[Appearance], *, max_bits: int, min_correlation: float) -> list[Pair]:
    """Return the near-duplicate pairs, independent of order, orientation and colour of the light.

    Args:
        appearances: Of ``n`` pictures.
        max_bits: Maximum Hamming distance of the hashes of a candidate pair, 0 to 64.
        min_correlation: Minimum correlation of the thumbnails of a near-duplicate pair, in the same orientation.
    """
    if not appearances:
        return []
    normalised = _normalised(np.stack([each.thumbnail for each in appearances]))
    hashes = np.stack([each.hashes for each in appearances])
    found: dict[tuple[int, int], Pair] = {}
    for start in range(0, len(normalised), _CHUNK):
        distance = np.bitwise_count(hashes[start : start + _CHUNK, :, None] ^ hashes[:, 0])
        for row, turn, other in np.argwhere(distance <= max_bits).tolist():
            one, bits = start + row, int(distance[row, turn, other])
            correlation = float(np.vdot(_TURNS[turn](normalised[one]), normalised[other]))
            if one == other or correlation < min_correlation:
                continue
            # A pair can match in both directions and in several orientations, because rotating a picture changes its
            # hash slightly. Keeping the best values makes the result independent of the order of the pictures.
            key = (min(one, other), max(one, other))
            known = found.get(key, Pair(*key, bits, correlation))
            found[key] = Pair(*key, min(bits, known.bits), max(correlation, known.correlation))
    return sorted(found.values())


def _normalised(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return thumbnails with zero mean per channel and unit length, so that their dot product is their correlation.

    Removing the channel means removes the colour of the light; a uniform picture correlates with nothing.
    """
    centred = thumbnails - thumbnails.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    length = np.sqrt((centred**2).sum(axis=(1, 2, 3), keepdims=True))
    result: NDArray[np.float32] = centred / np.maximum(length, np.float32(1e-6))
    return result


def _as_integer(value: Any) -> int:
    return int(np.packbits(value.hash.ravel()).view(">u8")[0])
