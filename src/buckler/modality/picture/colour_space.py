"""Writes the ICC profile of a colour space that a file describes by numbers: its primaries, white and tone curve.

Source: ICC.1:2022, sections 7, 9.2 and 10.18 (curves); Bradford adaptation as in its annex E.
"""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Chromaticities = tuple[tuple[float, float], ...]
"""The x and y of white, red, green and blue."""

D65 = (0.3127, 0.3290)
SRGB: Chromaticities = (D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3: Chromaticities = (D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
BT2020: Chromaticities = (D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046))

SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
BT709_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
"""A tone curve is (gamma,) or (gamma, a, b, c, d): (a x + b) ** gamma, below d: c x."""

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def profile_of(chromaticities: Chromaticities, curve: Sequence[float]) -> bytes | None:
    """Return the ICC profile of a colour space.

    Args:
        chromaticities: White, red, green and blue.
        curve: The tone curve, from stored value to light.

    Returns:
        The profile; None if no light can have these chromaticities.
    """
    matrix = _to_d50(chromaticities)
    if matrix is None:
        return None
    kind = 3 if len(curve) > 1 else 0
    tone = b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + b"".join(map(_fixed, curve))
    tags = {b"wtpt": _xyz(_D50)}
    for number, name in enumerate(b"rgb"):
        tags[bytes([name]) + b"XYZ"] = _xyz(matrix[:, number])
        tags[bytes([name]) + b"TRC"] = tone
    return _file(tags)


def _to_d50(chromaticities: Chromaticities) -> NDArray[np.float64] | None:
    """Return the matrix from linear RGB to XYZ, adapted to the white D50 of profiles."""
    if any(not (0 <= x <= 1 and 0 < y <= 1) for x, y in chromaticities):
        return None
    white, *primaries = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in chromaticities)
    columns = np.stack(primaries, axis=1)
    if abs(np.linalg.det(columns)) < 1e-4:
        return None
    matrix = columns * np.linalg.solve(columns, white)
    scale = np.diag(_BRADFORD @ _D50 / (_BRADFORD @ white))
    adapted = np.linalg.inv(_BRADFORD) @ scale @ _BRADFORD @ matrix
    return adapted if np.isfinite(adapted).all() and np.abs(adapted).max() < 100 else None


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(value: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, value))


def _file(tags: dict[bytes, bytes]) -> bytes:
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4xI4s4s4s12x4s28x", start + len(body), 0x04200000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return header + b"".join(map(_fixed, _D50)) + bytes(128 - len(header) - 12) + table + body
