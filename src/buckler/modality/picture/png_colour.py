"""The colour space of a PNG, by the chunk that has precedence: cICP, iCCP, sRGB, gAMA with cHRM.

Source: PNG (third edition), sections 4.3 and 11.3.2; ITU-T H.273 for the numbers of cICP.
"""

import logging
import struct
import zlib

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError
from buckler.modality.picture import colour_space
from buckler.modality.picture.colour import MAX_PROFILE_BYTES

_PRIMARIES = {1: colour_space.SRGB, 9: colour_space.BT2020, 12: colour_space.DISPLAY_P3}
_CURVES: dict[int, tuple[float, ...]] = {
    **dict.fromkeys((1, 6, 14, 15), colour_space.BT709_CURVE),
    4: (2.2,),
    5: (2.8,),
    8: (1.0,),
    13: colour_space.SRGB_CURVE,
}
_HDR = {16: "PQ", 18: "HLG"}
_USUAL_GAMMA = 1 / 2.2
_NEAR = 0.05  # libpng takes a gamma within 5 % for that of sRGB

logger = logging.getLogger(__name__)


def profile(chunks: dict[bytes, bytes]) -> bytes | None:
    """Return the ICC profile of a PNG with these chunks; None stands for sRGB. Damaged chunks are ignored.

    Raises:
        UnusableImageError: The picture has a high dynamic range (``image_unsupported``): how its lights would be shown
            is not known.
    """
    for name, read in _READERS:
        if name in chunks:
            known, found = read(chunks)
            if known:
                return found
            logger.debug("ignored the PNG chunk %s", name.decode())
    return None


def _code_points(chunks: dict[bytes, bytes]) -> tuple[bool, bytes | None]:
    content = chunks[b"cICP"]
    if len(content) != 4:
        return False, None
    primaries, transfer, matrix, full_range = content
    if transfer in _HDR:
        raise UnusableImageError(
            ErrorCode.IMAGE_UNSUPPORTED,
            f"expected a PNG of standard dynamic range, got one with {_HDR[transfer]}; convert it to sRGB first",
        )
    if matrix or full_range != 1 or primaries not in _PRIMARIES or transfer not in _CURVES:
        return False, None
    return True, colour_space.profile_of(_PRIMARIES[primaries], _CURVES[transfer])


def _embedded(chunks: dict[bytes, bytes]) -> tuple[bool, bytes | None]:
    _, separator, rest = chunks[b"iCCP"].partition(b"\0")
    if not separator or rest[:1] != b"\0":
        return False, None
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(rest[1:], MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return False, None
    return inflater.eof, found


def _standard(_: dict[bytes, bytes]) -> tuple[bool, bytes | None]:
    return True, None


def _gamma(chunks: dict[bytes, bytes]) -> tuple[bool, bytes | None]:
    """Primaries without a gamma are ignored, as by browsers."""
    content = chunks[b"gAMA"]
    gamma = int.from_bytes(content, "big") / 100_000 if len(content) == 4 else 0
    if not 0.1 <= gamma <= 10:
        return False, None
    points = _chromaticities(chunks.get(b"cHRM", b""))
    if abs(gamma / _USUAL_GAMMA - 1) <= _NEAR and points == colour_space.SRGB:
        return True, None
    return True, colour_space.profile_of(points, (1 / gamma,)) or colour_space.profile_of(
        colour_space.SRGB, (1 / gamma,)
    )


def _chromaticities(content: bytes) -> colour_space.Chromaticities:
    """Return the primaries that the chunk cHRM states; those of sRGB if it is missing, damaged or about the same."""
    if len(content) != 32:
        return colour_space.SRGB
    numbers = [each / 100_000 for each in struct.unpack(">8I", content)]
    points = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    same = all(
        abs(a - b) < 0.002
        for point, known in zip(points, colour_space.SRGB, strict=True)
        for a, b in zip(point, known, strict=True)
    )
    return colour_space.SRGB if same else points


_READERS = ((b"cICP", _code_points), (b"iCCP", _embedded), (b"sRGB", _standard), (b"gAMA", _gamma))
