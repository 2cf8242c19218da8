"""Generates dermoscopy-like pictures from a seed: the embedded data source.

A picture is skin (tone, texture, light), a lesion, and objects over both (hairs, bubbles, ruler, vignette). Only the
lesion depends on the class, through the four criteria of the ABCD rule: asymmetry, border, colour and diameter. Each
criterion is the lesion's latent malignancy, whose distributions in the two classes overlap, plus an independent
deviation. `BAYES_ACCURACY` is the accuracy of an ideal reader who knows all four criteria exactly.

Source of the criteria: Nachbar et al., "The ABCD rule of dermatoscopy", J Am Acad Dermatol 30 (1994).
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from buckler.modality.picture import canvas
from buckler.modality.picture.canvas import Field, Picture

BENIGN: Final = "benign"
MALIGNANT: Final = "malignant"
LABELS: Final = (BENIGN, MALIGNANT)

_SEPARATION = 1.32  # mean malignancy of the classes: minus and plus this, in standard deviations
_DEVIATION = 0.5  # standard deviation of each criterion from the lesion's malignancy
BAYES_ACCURACY: Final = 0.5 * (1 + math.erf(_SEPARATION / math.sqrt(1 + _DEVIATION**2 / 4) / math.sqrt(2)))

# Skin under a dermatoscope, Fitzpatrick I to VI; light and pressure cause the pink and lilac tones.
_SKIN = np.array(
    [
        [0.93, 0.80, 0.77],
        [0.89, 0.70, 0.66],
        [0.86, 0.69, 0.73],
        [0.84, 0.66, 0.54],
        [0.80, 0.48, 0.42],
        [0.64, 0.45, 0.35],
        [0.46, 0.31, 0.25],
    ]
)
_SKIN_SHARE = np.array([0.20, 0.22, 0.16, 0.16, 0.12, 0.09, 0.05])
_BLUE_GREY = np.array([0.40, 0.44, 0.54])
_SCAR_WHITE = np.array([0.90, 0.84, 0.82])


@dataclass(frozen=True, slots=True)
class Criteria:
    """The ABCD criteria of one lesion, each 0..1, higher is more suspicious."""

    asymmetry: float
    border: float
    colour: float
    diameter: float


def draw(label: str, index: int, *, seed: int, size: int) -> Picture:
    """Return picture ``index`` of ``label`` as ``(size, size, 3)`` float32 in 0..1.

    The picture depends on the arguments alone, not on the number or order of the pictures drawn.

    Raises:
        ValueError: The label is not one of ``LABELS``, or ``size`` is below 16.
    """
    picture, criteria, rng = _begin(label, index, seed, size)
    picture, _, _ = with_lesion(picture, criteria, rng)
    return photographed(picture, size, rng)


def lesion_mask(label: str, index: int, *, seed: int, size: int) -> NDArray[np.bool_]:
    """Return which pixels of the same arguments' picture lie in the lesion, at least half of each, ``(size, size)``.

    The edge of a lesion is soft; its outline is where half of the pigment's depth is reached.

    Raises:
        ValueError: As for `draw`.
    """
    skin, criteria, rng = _begin(label, index, seed, size)
    inside, _ = _shape(len(skin), criteria, rng)
    return np.asarray(canvas.shrunk((inside > 0).astype(np.float32), size) >= 0.5)


def _begin(label: str, index: int, seed: int, size: int) -> tuple[Picture, Criteria, np.random.Generator]:
    """Return a picture's skin, its lesion's criteria, and the generator of everything drawn next."""
    if label not in LABELS:
        raise ValueError(f"expected a label of {LABELS}, got {label!r}")
    if size < 16:
        raise ValueError(f"expected at least 16 pixels a side, got {size}")
    rng = np.random.default_rng([seed, LABELS.index(label), index])
    criteria = draw_criteria(label, rng)
    return skin(size * canvas.SUPERSAMPLING, rng), criteria, rng


def draw_criteria(label: str, rng: np.random.Generator) -> Criteria:
    """Return the criteria of one lesion of ``label``."""
    mean = _SEPARATION if label == MALIGNANT else -_SEPARATION
    malignancy = rng.normal(mean, 1)
    scores = malignancy + rng.normal(0, _DEVIATION, 4)
    return Criteria(*(float(share) for share in 1 / (1 + np.exp(-scores))))


def skin(side: int, rng: np.random.Generator) -> Picture:
    """Return skin without a lesion on a canvas of ``side`` pixels."""
    tone = canvas.single(_SKIN[rng.choice(len(_SKIN), p=_SKIN_SHARE)] + rng.normal(0, 0.025, 3))
    blotches = 0.6 * canvas.noise(side, 4, rng) + 0.4 * canvas.noise(side, 11, rng)
    # Blood varies the colour, texture (furrows, pores) the brightness.
    depth = canvas.single(0.05 + rng.uniform(0.02, 0.06) * blotches)
    texture = 0.6 * canvas.noise(side, 24, rng) + 0.8 * canvas.noise(side, 48, rng)
    picture = canvas.absorb(np.broadcast_to(tone, (side, side, 3)), depth, canvas.BLOOD)
    picture *= 1 + rng.uniform(0.008, 0.025) * texture[..., None]
    if rng.random() < 0.25:
        picture = _freckles(picture, rng)
    return picture


def _freckles(picture: Picture, rng: np.random.Generator) -> Picture:
    side = len(picture)
    spots = np.clip(canvas.noise(side, int(rng.integers(12, 26)), rng) - rng.uniform(1.5, 2.3), 0, None)
    return canvas.absorb(picture, rng.uniform(0.2, 0.5) * spots, canvas.MELANIN)


def with_lesion(
    picture: Picture, criteria: Criteria, rng: np.random.Generator
) -> tuple[Picture, Field, NDArray[np.float32]]:
    """Return skin with a lesion, how far each pixel is inside it, and the lesion's radius there, in half sides."""
    inside, radius = _shape(len(picture), criteria, rng)
    softness = radius.mean() * (0.16 + 0.40 * rng.beta(2, 3)) * (1.2 - 0.5 * criteria.border)
    cover = canvas.smoothstep(inside / softness + 0.5)
    return _pigment(picture, cover, canvas.smoothstep(inside / radius.mean()), criteria, rng), inside, radius


def photographed(picture: Picture, size: int, rng: np.random.Generator) -> Picture:
    """Return the canvas as a photograph: with hairs and other objects, light, the camera's grain, ``size`` pixels."""
    return _photograph(_light(_overlay(picture, rng), rng), size, rng)


def _shape(side: int, criteria: Criteria, rng: np.random.Generator) -> tuple[Field, Field]:
    """Return how far each pixel is inside the lesion, and the lesion's radius in its direction, in half sides."""
    x, y = canvas.plane(side)
    centre = canvas.single(rng.normal(0, 0.07, 2))
    distance, angle = _polar(x - centre[0], y - centre[1], criteria, rng)
    radius = _outline(angle, side, criteria, rng)
    return radius - distance, radius


def _polar(dx: Field, dy: Field, criteria: Criteria, rng: np.random.Generator) -> tuple[Field, Field]:
    """Return distance and angle from the lesion's centre, on a randomly stretched and bent plane."""
    turn = rng.uniform(0, np.pi)
    stretch = 1 + rng.uniform(0.02, 0.30)
    along = (dx * math.cos(turn) + dy * math.sin(turn)) / stretch
    across = (dy * math.cos(turn) - dx * math.sin(turn)) * stretch
    bend = 0.05 + 0.09 * criteria.asymmetry
    along = along + bend * 0.5 * canvas.noise(len(dx), 3, rng)
    across = across + bend * 0.5 * canvas.noise(len(dx), 3, rng)
    return np.hypot(along, across), np.arctan2(across, along)


def _outline(angle: Field, side: int, criteria: Criteria, rng: np.random.Generator) -> Field:
    """Return the lesion's radius in the direction of each pixel.

    Low-order waves make it asymmetric; high-order waves and noise make its border irregular.
    """
    size = 0.20 + 0.36 * criteria.diameter + float(rng.normal(0, 0.02))
    turn = np.linspace(-np.pi, np.pi, 1440, dtype=np.float32)
    waves = np.ones_like(turn)
    for order, strength in ((1, 0.6), (2, 0.4), (3, 0.5)):
        waves += criteria.asymmetry * 0.20 * strength * np.cos(order * turn + rng.uniform(0, 2 * np.pi))
    for order in range(5, 14):
        strength = float(rng.normal(0, 0.028)) * criteria.border
        waves += strength * np.cos(order * turn + rng.uniform(0, 2 * np.pi))
    # A table of angles: cosines for every pixel and harmonic would take half the time of a picture.
    outline = waves[((angle + np.pi) * (1439 / (2 * np.pi))).astype(np.intp)]
    outline += (0.03 + 0.07 * criteria.border) * canvas.noise(side, 9, rng)
    outline += (0.03 + 0.06 * criteria.border) * canvas.noise(side, 22, rng)
    return max(size, 0.1) * np.clip(outline, 0.4, None)


def _pigment(picture: Picture, cover: Field, core: Field, criteria: Criteria, rng: np.random.Generator) -> Picture:
    """Colour the lesion; ``cover`` rises to 1 just inside its edge, ``core`` at its centre."""
    side = len(picture)
    network = 0.6 * canvas.noise(side, 34, rng) + 0.6 * canvas.noise(side, 16, rng)
    patches = 0.8 * canvas.noise(side, int(rng.integers(3, 7)), rng) + 0.5 * canvas.noise(side, 10, rng)
    depth = rng.uniform(0.40, 0.75) + 0.30 * criteria.colour
    uneven = rng.uniform(0.10, 0.30) * network + (0.10 + 0.25 * criteria.colour) * patches
    depth_field = depth * cover * np.clip(0.75 + 0.45 * core + uneven, 0.1, None)
    blood = rng.gamma(2, 0.12) * cover
    picture = canvas.absorb(canvas.absorb(picture, depth_field, canvas.MELANIN), blood, canvas.BLOOD)
    return _variegate(picture, cover, core, criteria, rng)


def _variegate(picture: Picture, cover: Field, core: Field, criteria: Criteria, rng: np.random.Generator) -> Picture:
    """Add the colours that the ABCD rule counts: black, red, blue-grey, white; more colours are more suspicious."""
    side = len(picture)
    present = rng.random(4) < 0.05 + 0.65 * criteria.colour
    strength = 0.35 + 0.55 * criteria.colour
    if present[0]:
        picture = canvas.absorb(picture, 1.5 * strength * _patch(side, cover, rng), canvas.MELANIN)
    if present[1]:
        picture = canvas.absorb(picture, 0.8 * strength * _patch(side, cover, rng), canvas.BLOOD)
    if present[2]:
        blue_grey = _BLUE_GREY * (float(picture.mean()) / 0.55)
        picture = canvas.blend(picture, 0.7 * strength * _patch(side, cover, rng), blue_grey)
    if present[3]:
        picture = canvas.blend(picture, 0.5 * strength * _patch(side, cover, rng) * core, _SCAR_WHITE)
    return picture


def _patch(side: int, cover: Field, rng: np.random.Generator) -> Field:
    """Return the mask of a ragged part of the lesion, 0..1."""
    field = (
        canvas.noise(side, int(rng.integers(3, 6)), rng)
        + 0.4 * canvas.noise(side, 12, rng)
        + 0.2 * canvas.noise(side, 30, rng)
    )
    return cover * canvas.smoothstep((field - rng.uniform(0.0, 0.6)) / 1.5)


def _overlay(picture: Picture, rng: np.random.Generator) -> Picture:
    """Add objects on the skin, independent of the class."""
    if rng.random() < 0.55:
        picture = _hairs(picture, rng)
    if rng.random() < 0.10:
        picture = _bubbles(picture, rng)
    if rng.random() < 0.07:
        picture = _ruler(picture, rng)
    return picture


def _hairs(picture: Picture, rng: np.random.Generator) -> Picture:
    side = 2 * len(picture)
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    heading = rng.uniform(0, np.pi)
    for _ in range(int(1 + rng.gamma(1.2, 6))):
        points = side * _hair(heading, rng)
        thickness = max(1, round(side * rng.uniform(0.004, 0.011)))
        shade = int(rng.uniform(110, 235))
        pen.line([(float(x), float(y)) for x, y in points], fill=shade, width=thickness, joint="curve")
    colour = np.array([0.20, 0.14, 0.12]) if rng.random() < 0.85 else np.array([0.85, 0.76, 0.62])
    return canvas.blend(picture, canvas.field(mask.filter(ImageFilter.GaussianBlur(side / 400))), colour)


def _hair(heading: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a curved line as 16 points ``(x, y)``, in units of the picture's side."""
    direction = heading + rng.normal(0, 0.5)
    along = np.array([np.cos(direction), np.sin(direction)])
    start = rng.uniform(-0.2, 1.2, 2) - along * 0.3
    length = rng.uniform(0.25, 1.1)
    end = start + length * along
    bulge = (start + end) / 2 + rng.normal(0, 0.18) * length * np.array([-along[1], along[0]])
    t = np.linspace(0, 1, 16)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * bulge + t**2 * end


def _bubbles(picture: Picture, rng: np.random.Generator) -> Picture:
    side = len(picture)
    x, y = canvas.plane(side)
    for _ in range(int(rng.integers(2, 10))):
        centre, radius = canvas.single(rng.uniform(-1, 1, 2)), rng.uniform(0.02, 0.08)
        distance = np.hypot(x - centre[0], y - centre[1])
        rim = np.exp(-(((distance - radius) / (0.18 * radius)) ** 2))
        to_gloss = np.hypot(x - centre[0] + radius / 2, y - centre[1] + radius / 2)
        gloss = np.exp(-((to_gloss / (radius / 4)) ** 2))
        picture = canvas.blend(picture, np.clip(0.35 * rim + 0.7 * gloss, 0, 1), np.array([0.97, 0.96, 0.95]))
    return picture


def _ruler(picture: Picture, rng: np.random.Generator) -> Picture:
    side = 2 * len(picture)
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    step, width = side * rng.uniform(0.035, 0.07), max(1, round(side / 130))
    for tick in range(int(side / step) + 1):
        length = side * (0.09 if tick % 5 == 0 else 0.05)
        pen.line([(tick * step, side), (tick * step, side - length)], fill=210, width=width)
    mask = mask.rotate(90 * int(rng.integers(4)))
    return canvas.blend(picture, canvas.field(mask), np.array([0.16, 0.15, 0.17]))


def _light(picture: Picture, rng: np.random.Generator) -> Picture:
    """Apply uneven light, a colour cast of the camera and, in some pictures, the dark edge of the dermatoscope."""
    side = len(picture)
    x, y = canvas.plane(side)
    slope = canvas.single(rng.normal(0, 0.06, 2))
    light = 1 + slope[0] * x + slope[1] * y + rng.uniform(0, 0.10) * (0.5 - np.hypot(x, y))
    cast = canvas.single(rng.normal(1, [0.03, 0.02, 0.04]))
    picture = picture * canvas.single(light[..., None] * cast)
    if rng.random() < 0.10:
        centre = canvas.single(rng.normal(0, 0.05, 2))
        edge = canvas.smoothstep(
            (np.hypot(x - centre[0], y - centre[1]) - rng.uniform(0.98, 1.2)) / rng.uniform(0.05, 0.3)
        )
        picture = canvas.blend(picture, 0.96 * edge, np.array([0.03, 0.03, 0.04]))
    return picture * np.float32(rng.uniform(0.90, 1.06))


def _photograph(picture: Picture, size: int, rng: np.random.Generator) -> Picture:
    """Average the canvas down to ``size``, add the sensor's grain, clip."""
    small: Picture = canvas.shrunk(picture, size)
    grain = rng.normal(0, rng.uniform(0.003, 0.010), small.shape)
    noisy: Picture = np.clip(small + canvas.single(grain), 0, 1)
    return noisy
