"""Generates pictures of benign lesions that show two findings of dermoscopy, each or both or none.

- ``streaks``: dark lines that radiate from the lesion's edge.
- ``veil``: a ragged, blue-white haze over a part of the lesion.

Source of the findings: Argenziano et al., "Dermoscopy of pigmented skin lesions: results of a consensus meeting via the
Internet", J Am Acad Dermatol 48 (2003).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from buckler import findings
from buckler.modality.picture import canvas, synthetic
from buckler.modality.picture.canvas import Field, Picture

STREAKS: Final = "streaks"
VEIL: Final = "veil"
FINDINGS: Final = (STREAKS, VEIL)
LABELS: Final = findings.sets_of(FINDINGS)

_BLUE_WHITE = np.array([0.56, 0.64, 0.80])


def draw(label: str, index: int, *, seed: int, size: int) -> Picture:
    """Return picture ``index`` of the set ``label`` as ``(size, size, 3)`` float32 in 0..1.

    The picture depends on the arguments alone, not on the number or order of the pictures drawn.

    Raises:
        ValueError: The label is not one of ``LABELS``, or ``size`` is below 16.
    """
    if label not in LABELS:
        raise ValueError(f"expected a label of {LABELS}, got {label!r}")
    if size < 16:
        raise ValueError(f"expected at least 16 pixels a side, got {size}")
    rng = np.random.default_rng([seed, len(synthetic.LABELS) + LABELS.index(label), index])
    criteria = synthetic.draw_criteria(synthetic.BENIGN, rng)
    skin = synthetic.skin(size * canvas.SUPERSAMPLING, rng)
    picture, inside, radius = synthetic.with_lesion(skin, criteria, rng)
    shown = findings.members(label)
    if STREAKS in shown:
        picture = _streaks(picture, inside, radius, rng)
    if VEIL in shown:
        picture = _veil(picture, inside, radius, rng)
    return synthetic.photographed(picture, size, rng)


def _streaks(picture: Picture, inside: Field, radius: NDArray[np.float32], rng: np.random.Generator) -> Picture:
    side, size = len(picture), float(radius.mean())
    x, y = canvas.plane(side)
    lesion = inside > 0
    angle = np.arctan2(y - y[lesion].mean(), x - x[lesion].mean())
    waves = np.cos(int(rng.integers(12, 20)) * angle + rng.uniform(0, 2 * np.pi) + 0.7 * canvas.noise(side, 5, rng))
    rays = canvas.smoothstep(canvas.single((waves - 0.1) / 0.5))
    length = size * rng.uniform(0.35, 0.6)
    ring = canvas.smoothstep((inside + length) / (0.6 * length)) * canvas.smoothstep(
        (0.3 * size - inside) / (0.2 * size)
    )
    return canvas.absorb(picture, rng.uniform(0.8, 1.3) * rays * ring, canvas.MELANIN)


def _veil(picture: Picture, inside: Field, radius: NDArray[np.float32], rng: np.random.Generator) -> Picture:
    side = len(picture)
    ragged = canvas.noise(side, int(rng.integers(3, 5)), rng) + np.float32(0.3) * canvas.noise(side, 12, rng)
    cover = canvas.smoothstep(inside / (0.4 * float(radius.mean())))
    least = np.quantile(ragged[inside > 0], rng.uniform(0.2, 0.5))  # it covers half of the lesion, at least
    haze = cover * canvas.smoothstep((ragged - np.float32(least)) / np.float32(0.8))
    return canvas.blend(picture, rng.uniform(0.55, 0.8) * haze, _BLUE_WHITE * float(picture.mean()) / 0.6)
