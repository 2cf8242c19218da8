"""Lookup tables of DICOM files: of grey values and of palettes, also segmented ones.

Source: DICOM PS3.3, C.7.6.3.1.5 and C.7.6.3.1.6 (palettes), C.7.9.2 (segmented palettes), C.11.1.1 (grey tables).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from buckler.errors import UnusableImageError
from buckler.modality.picture.dicom.refusals import unreadable

if TYPE_CHECKING:
    from pydicom import Dataset

_COLOURS = ("Red", "Green", "Blue")
_MOST_ENTRIES = 1 << 16
_DISCRETE, _LINEAR = 0, 1  # kinds of segments


@dataclass(frozen=True, slots=True)
class Table:
    """A lookup table.

    Attributes:
        entries: The entries, from the lowest input.
        first: Input of the first entry; lower inputs have this entry, inputs beyond the end the last one.
        highest: Highest value that an entry can have.
    """

    entries: NDArray[np.unsignedinteger]
    first: int
    highest: int

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the entries of ``values``."""
        places = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return np.asarray(self.entries[places], np.float64)

    @classmethod
    def of(cls, holder: "Dataset", keyword: str, *, big_endian: bool, signed: bool) -> "Table | None":
        """Return the first table of a sequence, None if there is none.

        Raises:
            UnusableImageError: It is damaged.
        """
        items = holder.get(keyword)
        if not items:
            return None
        try:
            item = items[0]
            return cls._parsed(item.LUTDescriptor, item.LUTData, big_endian=big_endian, signed=signed)
        except Exception:  # pydicom raises many types, whose messages quote values
            raise unreadable(f"a whole lookup table in {keyword}", "a damaged one") from None

    @classmethod
    def _parsed(cls, descriptor: Any, data: Any, *, big_endian: bool, signed: bool) -> "Table":
        count, first, bits = _descriptor(descriptor, signed=signed)
        entries = _entries(data, count, bits, big_endian=big_endian)
        # Some writers state 16 bits for tables of 8 or 12; nothing else tells the highest value.
        return cls(entries, first, (1 << bits) - 1)


def palette(dataset: "Dataset", values: NDArray[np.int64], *, big_endian: bool, signed: bool) -> NDArray[np.uint8]:
    """Return the colours of stored ``values``, ``(len(values), 3)``.

    Raises:
        UnusableImageError: A table is missing or damaged.
    """
    tables = [_colour_table(dataset, colour, big_endian=big_endian, signed=signed) for colour in _COLOURS]
    # Old devices state 16 bits for entries of 8; all of their entries are small.
    words = max(int(table.entries.max(initial=0)) for table in tables) > 0xFF
    colours = np.stack([table(values) for table in tables], -1).astype(np.uint32)
    return (colours >> (8 if words else 0)).astype(np.uint8)


def _colour_table(dataset: "Dataset", colour: str, *, big_endian: bool, signed: bool) -> Table:
    name = f"{colour}PaletteColorLookupTable"
    try:
        descriptor = _descriptor(dataset[f"{name}Descriptor"].value, signed=signed)
        count, first, bits = descriptor
        if f"{name}Data" in dataset:
            entries = _entries(dataset[f"{name}Data"].value, count, bits, big_endian=big_endian)
        else:
            words = dataset[f"Segmented{name}Data"].value
            entries = _expanded(_entries(words, None, bits, big_endian=big_endian), count)
    except UnusableImageError:
        raise
    except Exception:  # pydicom raises many types, whose messages quote values
        raise unreadable(f"whole tables {name}Descriptor and {name}Data", "damaged ones or none") from None
    return Table(entries, first, (1 << bits) - 1)


def _descriptor(value: Any, *, signed: bool) -> tuple[int, int, int]:
    """Return the number of entries, the first input and the bits of an entry."""
    count, first, bits = (int(part) for part in value)
    first &= 0xFFFF
    if not 1 <= bits <= 16:
        raise ValueError("bits of an entry")
    return count & 0xFFFF or _MOST_ENTRIES, first - 0x10000 if signed and first >= 0x8000 else first, bits


def _entries(data: Any, count: int | None, bits: int, *, big_endian: bool) -> NDArray[np.unsignedinteger]:
    """Return the entries of a table, which are bytes or words; ``count`` of them if it is known."""
    if not isinstance(data, bytes):
        entries = np.atleast_1d(np.asarray(data, np.int64)).astype(np.uint16)
    else:
        single = bits <= 8 and (count is None or len(data) < 2 * count)
        entries = np.frombuffer(data, np.uint8 if single else f"{'>' if big_endian else '<'}u2")
    if count is not None and len(entries) < count:
        raise ValueError("entries")
    return entries[:count]


def _expanded(segments: NDArray[np.unsignedinteger], count: int) -> NDArray[np.unsignedinteger]:
    """Return the entries that discrete and linear segments describe.

    Indirect segments, which repeat others, are refused: programs disagree about the unit of their offsets.
    """
    words: list[int] = segments.tolist()
    entries: list[int] = []
    place = 0
    while len(entries) < count:
        kind, length = words[place], words[place + 1]
        if kind == _DISCRETE:
            entries += words[place + 2 : place + 2 + length]
            place += 2 + length
        elif kind == _LINEAR:
            # A line from the last entry, which is not repeated, to the stated one.
            entries += np.rint(np.linspace(entries[-1], words[place + 2], length + 1)[1:]).astype(int).tolist()
            place += 3
        else:
            raise ValueError("indirect segment")
    return np.asarray(entries[:count], np.uint16)
