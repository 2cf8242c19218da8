"""Brightness of grey DICOM files, by their own tables and windows, and colours of palettes; computed on paper."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from tests.unit.modality.picture.dicom_codings import decoded, refusal
from tests.unit.modality.picture.dicom_files import dicom

TWELVE_BITS = {"BitsStored": 12, "HighBit": 11}
VALUES = np.array([[0, 50, 100, 200, 300]], np.uint16)


def item(**attributes):
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return Sequence([made])


def table(entries, first=0, bits=16):
    made = item(LUTDescriptor=[len(entries), first, bits])
    made[0].add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    made[0].add_new("LUTData", "OW", np.array(entries, "<u2").tobytes())
    return made


def shown(stored=VALUES, photometric="MONOCHROME2", **tags):
    pixels = decoded(dicom(stored, photometric, **tags))
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])
    return pixels[0, :, 0].tolist()


def test_grey_without_a_window_spans_its_bits_and_monochrome1_is_inverted():
    stored = np.array([[0, 1024, 2048, 4095]], np.uint16)
    assert shown(stored, **TWELVE_BITS) == [0, 64, 128, 255]
    assert shown(stored, "MONOCHROME1", **TWELVE_BITS) == [255, 191, 127, 0]
    assert shown(stored, PresentationLUTShape="INVERSE", **TWELVE_BITS) == [255, 191, 127, 0]
    assert shown(stored, "MONOCHROME1", PresentationLUTShape="INVERSE", **TWELVE_BITS) == [255, 191, 127, 0]
    assert shown(stored, RescaleSlope=-3, RescaleIntercept=7, **TWELVE_BITS) == [255, 191, 127, 0]


def test_the_first_window_applies_after_the_rescaling():
    stored = np.array([[-100, 0, 50, 300]], np.int16)
    tags = {"RescaleSlope": 2, "RescaleIntercept": -10, "WindowCenter": [50.5, 900], "WindowWidth": [101, 1]}
    # 2 x - 10 through a window of 0..100: lower values are black, higher ones white.
    assert shown(stored, **tags) == [0, 0, round(255 * 0.9), 255]


def test_windows_by_function():
    # Linear: black up to c - 0.5 - (w - 1) / 2, white beyond c - 0.5 + (w - 1) / 2; a width of 1 is a threshold.
    assert shown(WindowCenter=150.5, WindowWidth=201) == [0, 0, round(255 / 4), round(255 * 0.5 + 63.75), 255]
    assert shown(WindowCenter=100, WindowWidth=1) == [0, 0, 255, 255, 255]
    exact = {"VOILUTFunction": "LINEAR_EXACT", "WindowCenter": 150, "WindowWidth": 200}
    assert shown(**exact) == [0, 0, round(255 / 4), round(255 * 0.75), 255]
    narrow = {"VOILUTFunction": "LINEAR_EXACT", "WindowCenter": 100.25, "WindowWidth": 0.5}
    assert shown(**narrow) == [0, 0, 0, 255, 255]
    sigmoid = {"VOILUTFunction": "SIGMOID", "WindowCenter": 100, "WindowWidth": 200}
    assert shown(**sigmoid) == [round(255 / (1 + np.exp(-4 * (x - 100) / 200))) for x in VALUES[0].tolist()]


@pytest.mark.parametrize(
    ("tags", "keyword"),
    [
        ({"WindowCenter": 5, "WindowWidth": 0}, "WindowWidth"),
        ({"WindowCenter": 5, "WindowWidth": 0.5}, "WindowWidth"),
        ({"WindowCenter": 5, "WindowWidth": -3, "VOILUTFunction": "SIGMOID"}, "WindowWidth"),
        ({"WindowCenter": 5, "WindowWidth": 10, "VOILUTFunction": "CUBIC"}, "VOILUTFunction"),
        ({"RescaleSlope": 0, "RescaleIntercept": 1}, "RescaleSlope"),
    ],
)
def test_invalid_windows_are_refused_by_keyword(tags, keyword):
    assert keyword in refusal(dicom(VALUES, "MONOCHROME2", **tags))


def test_a_window_that_is_no_number_is_refused_by_keyword():
    content = dicom(VALUES, "MONOCHROME2", WindowCenter="12345678", WindowWidth="100")
    assert "WindowCenter" in refusal(content.replace(b"12345678", b"Muster ^"))


def test_a_voi_table_maps_values_and_extends_its_ends():
    lut = table([0, 0x4000, 0xFFFF], first=49)
    assert shown(VOILUTSequence=lut) == [0, 64, 255, 255, 255]
    assert shown(VOILUTSequence=lut, syntax=ImplicitVRLittleEndian) == [0, 64, 255, 255, 255]
    eight = table([0, 100, 255], first=49, bits=8)
    assert shown(VOILUTSequence=eight) == [0, 100, 255, 255, 255]
    assert shown(VOILUTSequence=lut, WindowCenter=1000, WindowWidth=10) == [0, 64, 255, 255, 255]
    signed = table([0, 0x8000, 0xFFFF], first=-1)
    assert shown(np.array([[-5, -1, 0, 1, 9]], np.int16), VOILUTSequence=signed) == [0, 0, 128, 255, 255]


def test_a_modality_table_comes_before_the_window():
    lut = table([10, 20, 40], first=100)
    assert shown(ModalityLUTSequence=lut, WindowCenter=20.5, WindowWidth=41) == [64, 64, 64, 255, 255]
    twelve = table([0, 2048, 4095], first=99, bits=12)
    assert shown(ModalityLUTSequence=twelve) == [0, 0, 128, 255, 255]


def test_a_damaged_table_is_refused_by_keyword():
    short = table([1, 2, 3])
    short[0].LUTDescriptor = [300, 0, 16]
    assert "VOILUTSequence" in refusal(dicom(VALUES, "MONOCHROME2", VOILUTSequence=short))
    del short[0].LUTDescriptor
    assert "ModalityLUTSequence" in refusal(dicom(VALUES, "MONOCHROME2", ModalityLUTSequence=short))


def test_functional_groups_hold_the_display_of_newer_files():
    window = item(FrameVOILUTSequence=item(WindowCenter=150.5, WindowWidth=201))
    scale = item(PixelValueTransformationSequence=item(RescaleSlope=1, RescaleIntercept=100))
    assert shown(SharedFunctionalGroupsSequence=window) == [0, 0, 64, 191, 255]
    assert shown(SharedFunctionalGroupsSequence=window, PerFrameFunctionalGroupsSequence=scale) == [
        *(64, 128, 191, 255, 255)
    ]


def test_bits_beside_the_stored_ones_are_ignored():
    stored = np.array([[0, 1024, 2048, 4095]], np.uint16)
    overlay = stored | 0xF000
    assert shown(overlay, **TWELVE_BITS) == [0, 64, 128, 255]
    assert shown((stored << 4) | 0xF, BitsStored=12, HighBit=15) == [0, 64, 128, 255]
    signed = (stored.astype(np.int32) - 2048).astype(np.int16)
    assert shown(signed & 0x0FFF, **TWELVE_BITS, PixelRepresentation=1) == [0, 64, 128, 255]


def test_few_and_many_bits():
    four = np.array([[0, 3, 15]], np.uint8)
    assert shown(four, BitsStored=4, HighBit=3) == [0, 51, 255]
    bits = dicom(b"\x05\0", "MONOCHROME2", Rows=1, Columns=5, BitsAllocated=1, BitsStored=1, HighBit=0)
    assert decoded(bits)[0, :, 0].tolist() == [255, 0, 255, 0, 0]
    many = np.array([[0, 1 << 30, (1 << 32) - 1]], np.uint32)
    assert shown(many) == [0, 64, 255]
    negative = np.array([[-1000, 0, 1000]], np.int32)
    assert shown(negative, WindowCenter=0.5, WindowWidth=2001) == [0, 128, 255]
    coloured = decoded(dicom(np.array([[[0, 7, 15]]], np.uint8), "RGB", BitsStored=4, HighBit=3))
    assert coloured[0, 0].tolist() == [0, 119, 255]


def palette(red, green, blue, first=0, bits=16, order="<"):
    made = {}
    for colour, entries in (("Red", red), ("Green", green), ("Blue", blue)):
        name = f"{colour}PaletteColorLookupTable"
        made[f"{name}Descriptor"] = [len(entries), first, bits]
        made[f"{name}Data"] = np.array(entries, f"{order}u2").tobytes()
    return made


def test_palette_colours_become_rgb():
    tables = palette([10 << 8, 200 << 8], [20 << 8, 100 << 8], [30 << 8, 0])
    expected = [[[10, 20, 30], [200, 100, 0], [200, 100, 0]]]
    stored = np.array([[0, 1, 9]], np.uint8)
    np.testing.assert_array_equal(decoded(dicom(stored, "PALETTE COLOR", **tables)), expected)
    np.testing.assert_array_equal(
        decoded(dicom(stored, "PALETTE COLOR", syntax=ImplicitVRLittleEndian, **tables)), expected
    )
    big = palette([10 << 8, 200 << 8], [20 << 8, 100 << 8], [30 << 8, 0], order=">")
    np.testing.assert_array_equal(decoded(dicom(stored, "PALETTE COLOR", syntax=ExplicitVRBigEndian, **big)), expected)
    words = palette([10 << 8, 200 << 8], [20 << 8, 100 << 8], [30 << 8, 0], first=300)
    far = np.array([[5, 301, 65535]], np.uint16)
    np.testing.assert_array_equal(decoded(dicom(far, "PALETTE COLOR", **words)), expected)


def test_palettes_of_bytes_and_of_segments():
    bytes_only = {}
    segmented = {}
    for colour, start in (("Red", 0), ("Green", 50), ("Blue", 100)):
        name = f"{colour}PaletteColorLookupTable"
        bytes_only[f"{name}Descriptor"] = segmented[f"{name}Descriptor"] = [4, 0, 8]
        bytes_only[f"{name}Data"] = bytes([start, start + 30, start + 60, start + 90])
        # One discrete entry, then a line of three more.
        segmented[f"Segmented{name}Data"] = bytes([0, 1, start, 1, 3, start + 90, 0, 0])[:6]
    stored = np.array([[0, 1, 2, 3]], np.uint8)
    expected = [[[place, place + 50, place + 100] for place in (0, 30, 60, 90)]]
    np.testing.assert_array_equal(decoded(dicom(stored, "PALETTE COLOR", **bytes_only)), expected)
    np.testing.assert_array_equal(decoded(dicom(stored, "PALETTE COLOR", **segmented)), expected)


def test_segments_that_promise_gigabytes_or_repeat_others_are_refused():
    def file(segment):
        tables = {}
        for colour in ("Red", "Green", "Blue"):
            name = f"{colour}PaletteColorLookupTable"
            tables[f"{name}Descriptor"] = [0, 0, 16]
            tables[f"Segmented{name}Data"] = np.array([0, 1, 7, *segment], "<u2").tobytes()
        return dicom(np.zeros((2, 2), np.uint8), "PALETTE COLOR", **tables)

    # Each of these lines states 65,535 entries; two of them fill a table.
    assert decoded(file([1, 65535, 9] * 20_000)).tolist()[0][0] == [7, 7, 7]
    assert "RedPaletteColorLookupTableData" in refusal(file([2, 1, 0, 0]))
    assert "RedPaletteColorLookupTableData" in refusal(file([1, 3, 9]))  # too few entries


def test_a_missing_palette_is_refused_by_keyword():
    assert "RedPaletteColorLookupTableDescriptor" in refusal(dicom(np.zeros((2, 2), np.uint8), "PALETTE COLOR"))
