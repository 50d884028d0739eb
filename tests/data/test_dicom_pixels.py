"""The standard's pixel attributes one by one: pixels as pydicom or plain arithmetic has them, or a sentence."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import GREY, RNG, made_item, read
from pydicom.pixels import apply_color_lut, apply_modality_lut
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from scan_samples import dicom_image

from medad_plugins.errors import InputError

# ---- bit layouts: every stored width and place in 8, 16 and 32 bits, both signs

LAYOUTS = [
    (allocated, stored, high, signed)
    for allocated, widths in ((8, (1, 5, 7, 8)), (16, (8, 10, 12, 15, 16)), (32, (12, 24, 32)))
    for stored in widths
    for high in sorted({stored - 1, (stored + allocated) // 2 - 1, allocated - 1})
    for signed in (False, True)
]


@pytest.mark.parametrize(("allocated", "stored", "high", "signed"), LAYOUTS)
@pytest.mark.parametrize("syntax", [None, ExplicitVRBigEndian])
def test_numbers_are_those_of_the_stored_bits(
    tmp_path: Path, allocated: int, stored: int, high: int, signed: bool, syntax: str | None
) -> None:
    rng = np.random.RandomState(stored + high)
    low = -(2 ** (stored - 1)) if signed else 0
    numbers = rng.randint(low, low + 2**stored, (9, 12), dtype=np.int64)
    cells = ((numbers << (high + 1 - stored)) & (2 ** (high + 1) - 1)).astype(f"u{allocated // 8}")
    dataset = dicom_image(
        cells if syntax is None else cells.astype(cells.dtype.newbyteorder(">")),
        BitsStored=stored,
        HighBit=high,
        PixelRepresentation=int(signed),
    )
    np.testing.assert_array_equal(read(tmp_path, dataset, syntax).T, numbers)


@pytest.mark.parametrize(("stored", "high"), [(12, 16), (12, 10), (17, 16), (0, 0)])
def test_impossible_layouts_are_refused(tmp_path: Path, stored: int, high: int) -> None:
    with pytest.raises(InputError, match="bits of a pixel in the DICOM file are impossible"):
        read(tmp_path, dicom_image(GREY, BitsStored=stored, HighBit=high))


def test_bits_beside_those_stored_are_an_overlay_or_refused(tmp_path: Path) -> None:
    cells = GREY | (RNG.randint(0, 2, GREY.shape) << 14).astype(np.uint16)
    dataset = dicom_image(cells, BitsStored=12, HighBit=11)
    with pytest.raises(InputError, match="more bits than its header says"):
        read(tmp_path, dataset)
    dataset.add_new((0x6000, 0x0010), "US", 9)
    dataset.add_new((0x6000, 0x0011), "US", 12)
    dataset.add_new((0x6000, 0x0100), "US", 16)
    dataset.add_new((0x6000, 0x0102), "US", 14)
    np.testing.assert_array_equal(read(tmp_path, dataset).T, GREY)
    # pydicom's own pixels, for the same file
    np.testing.assert_array_equal(read(tmp_path, dataset).T, dataset.pixel_array)


def test_a_sign_that_fills_the_cell_is_no_other_bit(tmp_path: Path) -> None:
    numbers = RNG.randint(-2048, 2048, (9, 12)).astype(np.int16)
    np.testing.assert_array_equal(read(tmp_path, dicom_image(numbers, BitsStored=12, HighBit=11)).T, numbers)


def test_padding_may_lie_outside_the_stored_bits(tmp_path: Path) -> None:
    cells = GREY + np.uint16(5)
    cells[0, :4] = 63536
    dataset = dicom_image(cells, BitsStored=12, HighBit=11)
    dataset.add_new("PixelPaddingValue", "US", 63536)
    expected = cells.copy()
    expected[0, :4] = cells[cells < 4096].min()
    np.testing.assert_array_equal(read(tmp_path, dataset).T, expected)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("signed", [False, True])
def test_compressed_twelve_bits(tmp_path: Path, syntax: str, signed: bool) -> None:
    numbers = RNG.randint(-2048, 2048, (16, 12)).astype(np.int16) if signed else RNG.randint(0, 4096, (16, 12))
    dataset = dicom_image(numbers.astype(np.int16 if signed else np.uint16), BitsStored=12, HighBit=11)
    if syntax == RLELossless:
        dataset.compress(syntax)
    else:
        if signed:
            pytest.skip("no encoder of signed JPEG 2000 is among the dependencies")
        from PIL import Image
        from pydicom.encaps import encapsulate

        file = io.BytesIO()
        Image.fromarray(numbers.astype(np.uint16)).save(file, "JPEG2000", no_jp2=True)
        dataset.PixelData = encapsulate([file.getvalue()])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    np.testing.assert_array_equal(read(tmp_path, dataset).T, numbers)


def test_every_uncompressed_transfer_syntax(tmp_path: Path) -> None:
    for syntax in (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        pixels = GREY if syntax != ExplicitVRBigEndian else GREY.astype(">u2")
        np.testing.assert_array_equal(read(tmp_path, dicom_image(pixels), syntax).T, GREY)


# ---- photometric interpretations

RGB = RNG.randint(0, 256, (10, 12, 3)).astype(np.uint8)


def _colour(pixels: np.ndarray, photometric: str, planar: int = 0, **elements: Any) -> pydicom.FileDataset:
    dataset = dicom_image(
        RGB, SamplesPerPixel=3, PhotometricInterpretation=photometric, PlanarConfiguration=planar, **elements
    )
    dataset.PixelData = pixels.tobytes()
    return dataset


def _ybr_full(rgb: np.ndarray) -> np.ndarray:
    """PS3.3 C.7.6.3.1.2, as numbers."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    ybr = rgb.astype(float) @ matrix.T
    return np.clip(np.rint(ybr + [0, 128, 128]), 0, 255).astype(np.uint8)


def test_colour_by_pixel_and_by_plane(tmp_path: Path) -> None:
    for planar, pixels in ((0, RGB), (1, RGB.transpose(2, 0, 1))):
        found = read(tmp_path, _colour(np.ascontiguousarray(pixels), "RGB", planar))
        np.testing.assert_array_equal(found, RGB.transpose(1, 0, 2))


def test_luminance_and_chrominance_become_rgb(tmp_path: Path) -> None:
    # the way back doubles the rounding of the way there
    ybr = _ybr_full(RGB)
    for planar, pixels in ((0, ybr), (1, ybr.transpose(2, 0, 1))):
        found = read(tmp_path, _colour(np.ascontiguousarray(pixels), "YBR_FULL", planar)).astype(int)
        assert np.abs(found - RGB.transpose(1, 0, 2)).max() <= 2
    smooth = np.repeat(RGB[:, ::2], 2, axis=1)
    halved = _ybr_full(smooth)
    pairs = np.stack([halved[:, ::2, 0], halved[:, 1::2, 0], halved[:, ::2, 1], halved[:, ::2, 2]], axis=-1)
    found = read(tmp_path, _colour(pairs, "YBR_FULL_422")).astype(int)
    assert np.abs(found - smooth.transpose(1, 0, 2)).max() <= 2


@pytest.mark.parametrize("photometric", ["HSV", "ARGB", "CMYK", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "XYZ"])
def test_retired_colours_are_refused(tmp_path: Path, photometric: str) -> None:
    with pytest.raises(InputError, match="photometric interpretation|truncated or damaged"):
        read(tmp_path, _colour(RGB, photometric))


def test_sixteen_bits_of_colour(tmp_path: Path) -> None:
    wide = RNG.randint(0, 2**16, (10, 12, 3)).astype(np.uint16)
    dataset = dicom_image(wide, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    np.testing.assert_array_equal(read(tmp_path, dataset), wide.transpose(1, 0, 2))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("stored", [8, 12])
def test_monochrome1_after_the_lookup_or_rescale(tmp_path: Path, signed: bool, stored: int) -> None:
    low = -(2 ** (stored - 1)) if signed else 0
    numbers = RNG.randint(low, low + 2**stored, (9, 12)).astype(np.int16 if signed else np.uint16)
    ends = 2 * low + 2**stored - 1
    dataset = dicom_image(
        numbers,
        PhotometricInterpretation="MONOCHROME1",
        BitsStored=stored,
        HighBit=stored - 1,
        RescaleSlope=2,
        RescaleIntercept=-7,
    )
    np.testing.assert_array_equal(read(tmp_path, dataset).T, 2.0 * (ends - numbers.astype(int)) - 7)


# ---- palettes and modality lookup tables: depth, packing, first number, value representation

TABLES = [
    (entries, first, depth, signed, form)
    for entries, first in ((900, 0), (256, 0), (400, 100), (2**16, 0), (40000, 0), (700, -50))
    for depth in (8, 10, 12, 16)
    for signed in ((False, True) if first >= 0 else (True,))
    for form in ("words", "bytes", "numbers")
    if form != "bytes" or depth == 8
]


def _table(entries: int, depth: int, form: str) -> tuple[np.ndarray, Any, str]:
    values = np.random.RandomState(entries + depth).randint(0, 2**depth, entries)
    if form == "bytes":
        return values, values.astype(np.uint8).tobytes() + b"\0" * (entries % 2), "OW"
    if form == "words" or entries * 2 > 65534:
        return values, values.astype("<u2").tobytes(), "OW"
    return values, values.tolist(), "US"


def _descriptor(entries: int, first: int, depth: int, signed: bool) -> tuple[list[int], str]:
    count = 0 if entries == 2**16 else entries
    if signed and count < 2**15:
        return [count, first, depth], "SS"
    return [count, first & 0xFFFF, depth], "US"


@pytest.mark.parametrize(("entries", "first", "depth", "signed", "form"), TABLES)
def test_modality_lookup_tables(tmp_path: Path, entries: int, first: int, depth: int, signed: bool, form: str) -> None:
    values, data, vr = _table(entries, depth, form)
    descriptor, descriptor_vr = _descriptor(entries, first, depth, signed)
    item = made_item(ModalityLUTType="US")
    item.add_new("LUTDescriptor", descriptor_vr, descriptor)
    item.add_new("LUTData", vr, data)
    numbers = RNG.randint(-60 if signed else 0, 1000, (9, 12)).astype(np.int16 if signed else np.uint16)
    dataset = dicom_image(numbers, ModalityLUTSequence=[item])
    expected = values[np.clip(numbers.astype(int) - first, 0, entries - 1)]
    found = read(tmp_path, dataset).T
    np.testing.assert_array_equal(found, expected)
    if depth in (8, 16) and form == "numbers" and descriptor[1] >= 0:
        # pydicom has no tables of 10 or 12 bits, and none of two entries a word
        np.testing.assert_array_equal(found, apply_modality_lut(numbers, dataset))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("entries", "first"), [(256, 0), (1000, 0), (100, 50), (200, -40), (2**16, 0)])
@pytest.mark.parametrize(("depth", "form"), [(8, "bytes"), (8, "words"), (16, "words")])
def test_palettes(tmp_path: Path, entries: int, first: int, signed: bool, depth: int, form: str) -> None:
    if first < 0 and not signed:
        pytest.skip("an unsigned pixel has no negative number")
    tables = {colour: np.random.RandomState(i).randint(0, 2**depth, entries) for i, colour in enumerate("RGB")}
    numbers = RNG.randint(-50 if signed else 0, 1100, (9, 12)).astype(np.int16 if signed else np.uint16)
    dataset = dicom_image(numbers, PhotometricInterpretation="PALETTE COLOR")
    descriptor, vr = _descriptor(entries, first, depth, signed)
    for name, colour in (("Red", "R"), ("Green", "G"), ("Blue", "B")):
        data = tables[colour].astype(np.uint8 if form == "bytes" else "<u2").tobytes()
        dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", vr, descriptor)
        dataset.add_new(f"{name}PaletteColorLookupTableData", "OW", data)
    index = np.clip(numbers.astype(int) - first, 0, entries - 1)
    expected = np.stack([tables[colour][index] for colour in "RGB"], axis=-1)
    expected = expected >> 8 if depth == 16 else expected
    found = read(tmp_path, dataset)
    np.testing.assert_array_equal(found, expected.transpose(1, 0, 2))
    if depth == 16 and descriptor[1] >= 0 and descriptor[1] == first:
        theirs = apply_color_lut(numbers, dataset)
        np.testing.assert_array_equal(found, (theirs >> 8).transpose(1, 0, 2))


def test_segmented_palette(tmp_path: Path) -> None:
    # a discrete segment of 2, then a linear one of 254 up to 255 (PS3.3 C.7.9.2), as words
    segments = np.array([0, 2, 3, 9, 1, 254, 255], dtype="<u2")
    numbers = RNG.randint(0, 256, (9, 12)).astype(np.uint8)
    dataset = dicom_image(numbers, PhotometricInterpretation="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        dataset.add_new(f"Segmented{name}PaletteColorLookupTableData", "OW", segments.tobytes())
    table = apply_color_lut(np.arange(256), dataset)
    assert table[:2, 0].tolist() == [3, 9] and table[-1, 0] == 255
    np.testing.assert_array_equal(read(tmp_path, dataset), table[numbers].transpose(1, 0, 2))


def test_lookup_tables_that_are_too_short(tmp_path: Path) -> None:
    item = made_item(ModalityLUTType="US")
    item.add_new("LUTDescriptor", "US", [900, 0, 16])
    item.add_new("LUTData", "US", list(range(300)))
    with pytest.raises(InputError, match="lookup table of the DICOM file is incomplete"):
        read(tmp_path, dicom_image(GREY, ModalityLUTSequence=[item]))
    with pytest.raises(InputError, match="lookup table of the DICOM file is incomplete"):
        read(tmp_path, dicom_image(GREY, PhotometricInterpretation="PALETTE COLOR"))


# ---- padding


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("vr", ["US", "SS"])
@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_padding_in_either_representation(
    tmp_path: Path, signed: bool, vr: str, limit: int | None, syntax: str | None
) -> None:
    numbers = (GREY.astype(int) + (-500 if signed else 100)).astype(np.int16 if signed else np.uint16)
    first = -2000 if signed else 63000
    numbers[0, :5] = [first, first + 1, first + 2, first + 3, first]
    dataset = dicom_image(numbers)
    for keyword, value in (("PixelPaddingValue", first), ("PixelPaddingRangeLimit", limit and first + limit)):
        if value is not None:
            wrapped = value & 0xFFFF
            dataset.add_new(keyword, vr, wrapped - 65536 if vr == "SS" and wrapped > 32767 else wrapped)
    is_padding = (numbers == first) if limit is None else (numbers >= first) & (numbers <= first + limit)
    expected = np.where(is_padding, numbers[~is_padding].min(), numbers)
    np.testing.assert_array_equal(read(tmp_path, dataset, syntax).T, expected)


# ---- rescale


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [(2.5, -1024, (2.5, -1024)), (None, -1024, (1, -1024)), (3, None, (3, 0)), ("", "", (1, 0)), (-1, 900, (-1, 900))],
)
def test_rescale_slope_and_intercept(tmp_path: Path, slope: Any, intercept: Any, expected: tuple[float, float]) -> None:
    elements = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    dataset = dicom_image(GREY, **{keyword: value for keyword, value in elements.items() if value is not None})
    np.testing.assert_allclose(read(tmp_path, dataset).T, GREY * float(expected[0]) + expected[1])


def test_windows_and_voi_tables_are_for_viewing(tmp_path: Path) -> None:
    item = made_item()
    item.add_new("LUTDescriptor", "US", [900, 0, 16])
    item.add_new("LUTData", "US", list(range(900, 0, -1)))
    dataset = dicom_image(GREY, WindowCenter=40, WindowWidth=80, VOILUTSequence=[item])
    np.testing.assert_array_equal(read(tmp_path, dataset).T, GREY)
