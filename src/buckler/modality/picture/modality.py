"""The picture modality: what code outside this folder needs to know of pictures."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from buckler.modality.base import (
    LEVELS,
    Change,
    FactCheck,
    Images,
    Measure,
    Modality,
    Pair,
    Shape,
    Source,
    Upload,
    Values,
)
from buckler.modality.picture import (
    benign_changes,
    fingerprint,
    images,
    measures,
    overlay,
    references,
    strangers,
    synthetic,
    two_findings,
    uploads,
)
from buckler.modality.picture.decode_budget import MAX_PIXELS, ORDINARY_PIXELS
from buckler.modality.picture.restoration import table as restoration

COLOUR_MODES = ("RGB", "RGBA", "P", "CMYK", "PA", "RGBX")
GREY_MODES = ("L", "LA", "1", "I", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow modes that ``images.load_pixels`` turns into RGB."""
_MIN_COLOUR_SHARE = 0.95


def _strangers(kind: str) -> Callable[[int, Shape, int], Images]:
    return lambda count, shape, seed: strangers.pictures(kind, count, size=shape[0], seed=seed)


class Picture(Modality):
    """8-bit RGB pictures, resized to a square: ``(size, size, 3)``."""

    name = "picture"
    one, many = "picture", "pictures"
    unit = LEVELS
    suffix = ".png"
    facts = ("width", "height", "mode")
    labels = synthetic.LABELS
    findings = two_findings.FINDINGS
    fitting_changes: ClassVar[Mapping[str, Change]] = benign_changes.FITTING_CHANGES
    evaluation_changes: ClassVar[Mapping[str, Change]] = benign_changes.EVALUATION_CHANGES
    strangers: ClassVar[Mapping[str, Callable[[int, Shape, int], Images]]] = {
        kind: _strangers(kind) for kind in strangers.KINDS
    }
    # Pictures cannot be too sharp, too rich in contrast or too colourful.
    quality: ClassVar[Mapping[str, tuple[bool, bool]]] = {
        "brightness": (True, True),
        "contrast": (True, False),
        "blur": (False, True),
        "colour": (True, False),
    }
    traffic = tuple(Measure(name, skewed=name == "sharpness") for name in measures.TRAFFIC_MEASURES)
    restorations = restoration.NAMES

    def shape(self, size: int) -> Shape:
        """Return ``(size, size, 3)``."""
        return (size, size, images.CHANNELS)

    def inspect(self, source: Source) -> Mapping[str, Any]:
        """Return width and height in pixels and the colour mode, as Pillow names it."""
        found = images.inspect(source)
        return {"width": found.width, "height": found.height, "mode": found.mode}

    def load(self, source: Source, shape: Shape) -> Values:
        """Return a picture upright, as RGB, resized to ``shape``; see `images.load_pixels`."""
        return images.load_pixels(source, size=shape[0])

    def receive(
        self, content: bytes, shape: Shape, *, shown: bool = False, small: bool = False, frame: int | None = None
    ) -> Upload:
        """Return a picture with the facts of its file; see `uploads.load`."""
        return uploads.load(
            content,
            size=shape[0],
            shown=overlay.LONGEST_SIDE if shown else None,
            most_pixels=ORDINARY_PIXELS if small else MAX_PIXELS,
            frame=frame,
        )

    def marked(self, shown: Image.Image, relevance: npt.NDArray[np.float32]) -> Image.Image:
        """Return the picture coloured by ``relevance`` ``(h, w)``; see `overlay.overlay`."""
        return overlay.overlay(shown, relevance)

    def draw(self, values: Values) -> Image.Image:
        """Return the picture itself."""
        return Image.fromarray(self.unit.steps_of(values))

    def to_file(self, values: Values) -> bytes:
        """Return a picture as PNG."""
        return images.to_png(values)

    def generate(self, label: str, index: int, seed: int, size: int) -> Values:
        """Return a drawn lesion, or one with some findings; see `synthetic.draw` and `two_findings.draw`."""
        if label in two_findings.LABELS:
            return two_findings.draw(label, index, seed=seed, size=size)
        return synthetic.draw(label, index, seed=seed, size=size)

    def mask(self, label: str, index: int, seed: int, size: int) -> npt.NDArray[np.bool_] | None:
        """Return which pixels show the lesion, ``(size, size)``; None if the classes are sets of findings."""
        if label in two_findings.LABELS:
            return None
        return synthetic.lesion_mask(label, index, seed=seed, size=size)

    def quality_of(self, images: Images) -> npt.NDArray[np.float32]:
        """Return brightness, contrast, blur and colour, ``(n, 4)``; see `measures.quality_measures`."""
        return measures.quality_measures(images)

    def traffic_of(self, values: Values) -> Mapping[str, float]:
        """Return brightness, colour and sharpness of a picture; see `measures.traffic_measures`."""
        return measures.traffic_measures(values)

    def fingerprints(self, values: Values) -> npt.NDArray[np.float32]:
        """Return block means in the eight rotated and mirrored forms, ``(8, 768)``."""
        return fingerprint.orientations(fingerprint.block_means(values))

    def references(self, count: int, shape: Shape, seed: int) -> Images:
        """Return dark spots on a lighter ground; see `references.draw`."""
        return self.unit.values_of(references.draw(shape, count=count, seed=seed))

    def appearance(self, source: Source) -> Any:
        """Return perceptual hashes and a thumbnail; see `duplicates.Appearance`."""
        from buckler.modality.picture import duplicates  # imagehash is not installed with the service

        return duplicates.Appearance.of(source)

    def near_duplicates(self, appearances: Sequence[Any], *, max_bits: int, min_correlation: float) -> list[Pair]:
        """Return the pairs of nearly equal pictures; see `duplicates.near_duplicates`."""
        from buckler.modality.picture import duplicates

        return duplicates.near_duplicates(appearances, max_bits=max_bits, min_correlation=min_correlation)

    def checks(self, *, low: float, high: float) -> Sequence[FactCheck]:
        """Return the expectations of colour modes and sides."""
        every = (*COLOUR_MODES, *GREY_MODES)
        return (
            FactCheck("colour_mode", f"colour modes {', '.join(every)}", "mode", every),
            FactCheck(
                "mostly_colour",
                f"at least {_MIN_COLOUR_SHARE:.0%} of the pictures in colour",
                "mode",
                COLOUR_MODES,
                mostly=_MIN_COLOUR_SHARE,
            ),
            *(
                FactCheck(
                    side,
                    f"{side} of {low:g} to {high:g} pixels (validate.min_side, max_side)",
                    side,
                    low=low,
                    high=high,
                )
                for side in ("width", "height")
            ),
        )

    def varied(self, images: Images, generator: np.random.Generator) -> Images:
        """Return each picture in one of the eight symmetries of the square: skin has no preferred orientation."""
        result = np.empty_like(images)
        for place, choice in enumerate(generator.integers(8, size=len(images))):
            picture = np.rot90(images[place], choice % 4)
            result[place] = picture[:, ::-1] if choice >= 4 else picture
        return result

    def stretched(self, relevance: npt.NDArray[np.float32], shape: Shape) -> npt.NDArray[np.float32]:
        """Return a relevance map ``(h, w)`` stretched smoothly over a picture; see `overlay.stretched`."""
        height, width = shape[:2]
        return overlay.stretched(relevance, (width, height))


MODALITY = Picture()
