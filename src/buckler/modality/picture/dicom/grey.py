"""Maps stored grey values to brightness, as the file's own tables and windows state.

Source: DICOM PS3.3, C.11.1 (modality LUT), C.11.2 (VOI LUT), C.11.6 (presentation LUT shape), C.7.6.16.2 (functional
groups of multi-frame files).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from buckler.modality.picture.dicom import header
from buckler.modality.picture.dicom.lookup import Table
from buckler.modality.picture.dicom.refusals import unreadable, unsupported

if TYPE_CHECKING:
    from pydicom import Dataset

Values = NDArray[np.float64]


class Display:
    """The way from stored grey values to brightness: modality LUT, then VOI LUT or window, then inversion."""

    def __init__(self, dataset: "Dataset", frame: int, *, big_endian: bool, signed: bool) -> None:
        """Read the attributes.

        Args:
            dataset: The file's attributes.
            frame: Number of the frame, from 0: newer multi-frame files have a display for each.
            big_endian: Byte order of tables.
            signed: Stored values are signed.

        Raises:
            UnusableImageError: An attribute has an invalid value.
        """
        modality = _holder(dataset, frame, "PixelValueTransformationSequence")
        shown = _holder(dataset, frame, "FrameVOILUTSequence")
        self._modality = Table.of(modality, "ModalityLUTSequence", big_endian=big_endian, signed=signed)
        slope, self._intercept = (header.value(modality, f"Rescale{part}", float) for part in ("Slope", "Intercept"))
        self._slope = 1.0 if slope is None else slope
        if not self._slope:
            raise unreadable("a RescaleSlope other than 0", "0")
        # Window and table may both be there; the table is the more exact description.
        self._voi = Table.of(shown, "VOILUTSequence", big_endian=big_endian, signed=signed)
        self._centre, self._width = (header.value(shown, f"Window{part}", float) for part in ("Center", "Width"))
        self._function = (header.value(shown, "VOILUTFunction", str) or "LINEAR").strip()
        self._check_window()
        self._inverted = "INVERSE" in str(header.value(dataset, "PresentationLUTShape", str))
        self._inverted |= header.value(dataset, "PhotometricInterpretation", str) == "MONOCHROME1"

    def _check_window(self) -> None:
        if self._function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
            raise unsupported("the VOILUTFunction LINEAR, LINEAR_EXACT or SIGMOID", "another")
        numbers = [each for each in (self._centre, self._width, self._slope, self._intercept) if each is not None]
        if not np.isfinite(numbers).all():
            raise unreadable("finite WindowCenter, WindowWidth, RescaleSlope and RescaleIntercept", "others")
        smallest = 1 if self._function == "LINEAR" else 1e-9
        if self._voi is None and self._width is not None and self._width < smallest:
            raise unreadable("a WindowWidth of at least 1, or more than 0 if not linear", "a smaller one")

    def brightness(self, values: Values, low: float, high: float) -> Values:
        """Return the brightness of stored values, 0..1.

        Args:
            values: Stored values, of any shape.
            low: Lowest value that the stored bits can have; black if the file has neither table nor window.
            high: The highest one, white.
        """
        real = self._real(values)
        if self._voi is not None:
            shown = self._voi(real) / self._voi.highest
        elif self._centre is not None and self._width is not None:
            shown = _windowed(real, self._centre, self._width, self._function)
        elif self._modality is not None:
            shown = real / self._modality.highest
        else:
            ends = np.sort(self._real(np.array([low, high])))
            shown = (real - ends[0]) / (ends[1] - ends[0])
        return 1 - shown if self._inverted else shown

    def _real(self, values: Values) -> Values:
        if self._modality is not None:
            return self._modality(values)
        return self._slope * values + (self._intercept or 0.0)


def _windowed(values: Values, centre: float, width: float, function: str) -> Values:
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))))
    if function == "LINEAR":
        # A window of width 1 is a threshold.
        centre, width = centre - 0.5, max(width - 1, 1e-9)
    return np.asarray(np.clip((values - centre) / width + 0.5, 0, 1))


def _holder(dataset: "Dataset", frame: int, group: str) -> "Dataset":
    """Return what holds the attributes of a frame: its functional group, the shared one, or the file itself."""
    for keyword, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items: Sequence[Dataset] = dataset.get(keyword) or []
        found: Sequence[Dataset] = items[index].get(group, []) if index < len(items) else []
        if found:
            return found[0]
    return dataset
