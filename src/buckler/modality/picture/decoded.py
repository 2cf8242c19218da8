"""What every decoder of pictures returns."""

from dataclasses import dataclass, field

from PIL import Image

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = {5, 6, 7, 8}


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded picture, upright.

    Attributes:
        image: The pixels in the mode of the file. A scaled decoder may return fewer than the file has.
        width, height: Sides of the picture in the file, in pixels, as displayed.
        profile: ICC profile of the pixels; None stands for sRGB.
    """

    image: Image.Image
    width: int
    height: int
    profile: bytes | None = field(default=None, repr=False)


def upright(image: Image.Image, exif: bytes | None, sides: tuple[int, int], profile: bytes | None = None) -> Decoded:
    """Return a picture turned as its EXIF data say.

    Args:
        image: The pixels as they lie in the file.
        exif: The EXIF data, which begin with ``II`` or ``MM``; None without. Broken ones are ignored, as viewers do.
        sides: Width and height of the picture in the file, in pixels, as it lies there.
        profile: As in ``Decoded``.
    """
    orientation = _orientation(exif)
    method = _UPRIGHT.get(orientation)
    width, height = reversed(sides) if orientation in _SWAPS_SIDES else sides
    return Decoded(image if method is None else image.transpose(method), width, height, profile)


def _orientation(exif: bytes | None) -> int:
    """Return the orientation, 1 if none is stated. Unlike `Image.getexif`, this never takes it from XMP."""
    if not exif:
        return 1
    tags = Image.Exif()
    try:
        tags.load(exif)
        orientation = tags.get(_EXIF_ORIENTATION)
    except Exception:
        return 1  # Pillow raises many types
    return orientation if isinstance(orientation, int) else 1
