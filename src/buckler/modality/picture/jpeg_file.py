"""Reads the structure of a JPEG: its frame, metadata and scans, and whether all its data are there.

libjpeg decodes a JPEG whose last scans are missing without a warning, so the scans are checked here.

Source: ITU-T T.81, annexes B and G; T.871 (JFIF); Adobe TN 5116 (APP14); ICC.1, annex B (profiles in APP2).
"""

import re
from dataclasses import dataclass, field

from buckler.errors import UnusableImageError
from buckler.modality.picture.decode_budget import MAX_PARTS
from buckler.modality.picture.faults import unreadable

SEQUENTIAL, PROGRESSIVE, LOSSLESS = {0xC0, 0xC1, 0xC9}, {0xC2, 0xCA}, {0xC3, 0xCB}

_START, _END, _SCAN, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_RESTARTS = range(0xD0, 0xD8)
_TABLES = {0xC4, 0xCC, 0xDB, 0xDD}  # Huffman, arithmetic, quantisation, restart interval
_METADATA = {*range(0xE0, 0xF0), 0xFE}
_JFIF, _EXIF, _ICC, _ADOBE = (0xE0, b"JFIF\0"), (0xE1, b"Exif\0\0"), (0xE2, b"ICC_PROFILE\0"), (0xEE, b"Adobe")
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_AFTER_DATA = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # restart markers are part of the data
_COEFFICIENTS = 64


@dataclass(slots=True)
class JpegFile:
    """The structure of a JPEG.

    Attributes:
        width, height: Sides in pixels.
        frame: Second byte of the frame's marker: 0xC0 baseline, 0xC1 extended, 0xC2 progressive, 0xC3 lossless.
        precision: Bits a sample.
        components: Ids of the components, in order.
        sampling: Horizontal and vertical sampling factor of each component.
        jfif: Whether a JFIF marker states YCbCr.
        adobe: Colour transform that an Adobe marker states: 0 none (RGB or CMYK), 1 YCbCr, 2 YCCK; None without the
            marker.
        exif: EXIF data, without their name; None without.
        profile: ICC profile; None without, and if a part of it is missing.
        scans: Number of scans, each a pass over the pixels.
        has_end: Whether the end marker is there; without it, all data may be there nevertheless.
    """

    width: int = 0
    height: int = 0
    frame: int = 0
    precision: int = 0
    components: tuple[int, ...] = ()
    sampling: tuple[tuple[int, int], ...] = ()
    jfif: bool = False
    adobe: int | None = None
    exif: bytes | None = None
    scans: int = 0
    has_end: bool = False
    profile: bytes | None = None
    _profile_parts: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    _pixels: list[bytes | memoryview] = field(default_factory=list)
    _sent: dict[int, list[int | None]] = field(default_factory=dict)
    """For each component and coefficient, the lowest bit that was sent; None if none was."""

    def missing(self) -> str | None:
        """Return which data of the picture are missing as far as its scans state it; None if none are."""
        never = sum(all(bit is None for bit in bits) for bits in self._sent.values())
        if never:
            return f"without the data of {never} of its {len(self.components)} colour components"
        whole = sum(bits.count(0) for bits in self._sent.values())
        share = 1 - whole / (_COEFFICIENTS * len(self._sent))
        if share:
            return f"without its last passes: {max(1, round(100 * share))} % of its detail is missing"
        return None

    def stream(self, transform: int | None = None) -> bytes:
        """Return the JPEG without metadata, so that flaws in them do not count as damaged pixels.

        Args:
            transform: Colour transform to apply, as ``adobe``, instead of the one that the file states.
        """
        parts: list[bytes | memoryview] = [b"\xff\xd8"]
        if transform is None and self.jfif:
            parts.append(b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0")
        transform = self.adobe if transform is None else transform
        if transform is not None:
            usual = 2 if len(self.components) == 4 else 1  # libjpeg takes any unknown value for it
            parts.append(b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([usual if transform else 0]))
        return b"".join([*parts, *self._pixels, b"\xff\xd9"])

    def add_frame(self, marker: int, content: bytes) -> None:
        """Note the frame's header."""
        if self.frame:
            raise damaged("with two frames")
        count = content[5] if len(content) > 5 else 0
        if not count or len(content) != 6 + 3 * count:
            raise damaged("with a damaged header")
        self.frame, self.precision = marker, content[0]
        self.height, self.width = int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big")
        if not self.width or not self.height:
            raise damaged("without a size")
        self.components = tuple(content[6::3])
        self.sampling = tuple((each >> 4, each & 15) for each in content[7::3])
        self._sent = {component: [None] * _COEFFICIENTS for component in self.components}

    def add_scan(self, content: bytes) -> bytes:
        """Note a scan by its header; return the header, corrected where its values have one possible meaning."""
        count = content[0] if content else 0
        if not self.frame or len(content) != 4 + 2 * count:
            raise damaged("with a damaged scan")
        self.scans += 1
        first, last, bits = content[-3:]
        if self.frame not in PROGRESSIVE:
            # Phones write other values there, which the standard fixes for these frames.
            content = content if self.frame in LOSSLESS else content[:-3] + bytes([0, _COEFFICIENTS - 1, 0])
            first, last, bits = 0, _COEFFICIENTS - 1, 0
        for component in content[1:-3:2]:
            if component not in self._sent:
                raise damaged("with a scan of an unknown component")
            for place in range(first, min(last, _COEFFICIENTS - 1) + 1):
                self._sent[component][place] = bits & 15
        return content

    def add_pixels(self, *parts: bytes | memoryview) -> None:
        """Add a segment or data that belong to the pixels."""
        self._pixels += parts

    def add_metadata(self, marker: int, content: bytes) -> None:
        """Note what the segments between the header and the pixels state; the first of each kind counts."""
        if (marker, content[:5]) == _JFIF and len(content) >= 14:
            self.jfif = True
        elif (marker, content[:5]) == _ADOBE and len(content) >= 12:
            self.adobe = content[11]
        elif (marker, content[:6]) == _EXIF and self.exif is None:
            self.exif = content[6:]
        elif (marker, content[:12]) == _ICC and len(content) > 14:
            self._profile_parts.setdefault(content[12], (content[13], content[14:]))

    def finish(self) -> None:
        """Join the parts of the profile."""
        parts = self._profile_parts
        if parts and sorted(parts) == list(range(1, len(parts) + 1)) and {n for n, _ in parts.values()} == {len(parts)}:
            self.profile = b"".join(parts[number][1] for number in sorted(parts))


def damaged(what: str) -> UnusableImageError:
    """Return the error of a JPEG; ``what`` follows "got one"."""
    return unreadable(f"expected a complete JPEG picture, got one {what}; send the original file again")


def read(content: bytes) -> JpegFile:
    """Return the structure of a JPEG. What follows the end of the picture is ignored, as by all viewers.

    Raises:
        UnusableImageError: The structure is damaged or has too many parts (``image_unreadable``).
    """
    file, view = JpegFile(), memoryview(content)
    position, parts, strict = 2, 0, False
    while found := _MARKER.search(content, position):
        gap = content[position : found.start()]
        stray = len(gap) - gap.count(b"\xff")  # any number of these may stand before a marker
        if stray and strict:
            # Line ends changed by a transfer in text mode make tables longer or shorter than they state.
            raise damaged("in which bytes were inserted or are missing")
        parts += 1 + stray
        if parts > MAX_PARTS:
            raise unreadable(f"expected a JPEG of at most {MAX_PARTS:,} parts, got more; save the picture again")
        marker, start = content[found.end() - 1], found.end()
        if marker == _END:
            file.has_end = True
            break
        position = start
        if marker in _RESTARTS or marker == _TEM:
            continue
        length = int.from_bytes(content[start : start + 2], "big")
        position = start + length
        if position > len(content):
            break
        strict = marker not in _METADATA
        segment = content[start + 2 : position]
        if length < 2 or marker == _START:
            raise damaged("in which another picture begins" if marker == _START else "with a damaged segment")
        if marker in _METADATA:
            if not file.scans:
                file.add_metadata(marker, segment)
            continue
        if marker == _SCAN:
            position = _add_scan(file, view, segment, position)
            continue
        if marker not in _TABLES and marker not in SEQUENTIAL | PROGRESSIVE | LOSSLESS:
            raise damaged("of an unknown coding")
        if marker not in _TABLES:
            file.add_frame(marker, segment)
        file.add_pixels(view[found.start() : position])
    if not file.frame or not file.scans:
        raise damaged("without pixels")
    file.finish()
    return file


def _add_scan(file: JpegFile, view: memoryview, segment: bytes, position: int) -> int:
    """Add a scan and the data behind its header, which end at ``position``; return where the data end."""
    header = file.add_scan(segment)
    end = _MARKER_AFTER_DATA.search(view, position)
    stop = end.start() if end else len(view)
    file.add_pixels(b"\xff\xda" + (len(header) + 2).to_bytes(2, "big") + header, view[position:stop])
    return stop
