"""The colour space of HEIC and AVIF files that describe it by numbers, in a box ``nclx``.

Source: ISO/IEC 14496-12, section 12.1.5; ITU-T H.273 for the numbers.
"""

from typing import Final

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError
from buckler.modality.picture import colour_space

_HDR: Final = {16: "PQ", 18: "HLG"}
_WIDE: Final = {9: colour_space.BT2020, 12: colour_space.DISPLAY_P3}


def colours(content: bytes) -> tuple[int, int] | None:
    """Return colour primaries and transfer characteristics of a file with one box, else None."""
    mark = b"colrnclx"
    place = content.find(mark) + len(mark)
    if content.count(mark) != 1 or len(content) < place + 4:
        return None
    return int.from_bytes(content[place : place + 2], "big"), int.from_bytes(content[place + 2 : place + 4], "big")


def profile(found: tuple[int, int] | None) -> bytes | None:
    """Return the ICC profile of these primaries and transfer characteristics; None stands for sRGB.

    Raises:
        UnusableImageError: The picture has a high dynamic range: how its lights would be shown is not known.
    """
    if found is None:
        return None
    primaries, transfer = found
    if transfer in _HDR:
        raise UnusableImageError(
            ErrorCode.IMAGE_UNSUPPORTED,
            f"expected a picture of standard dynamic range, got one with {_HDR[transfer]}; export it as JPEG",
        )
    wide = _WIDE.get(primaries)
    return colour_space.profile_of(wide, colour_space.SRGB_CURVE) if wide else None
