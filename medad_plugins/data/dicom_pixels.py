"""The pixels of a DICOM file as the standard says what they mean: bit layout, palette, padding, rescaling."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from medad_plugins.data.dicom_file import OVERLAY_GROUPS, damaged
from medad_plugins.errors import InputError

__all__ = ["Pixels", "fill_padding", "pixel_values", "stored_pixels"]

_DECODERS = (
    "install decoders with `pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg`, "
    "or decompress the files with `gdcmconv --raw`"
)
_REQUIRED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation")
_GREY = ("MONOCHROME1", "MONOCHROME2")
# the others of the standard are retired, or occur in video alone
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_KNOWN = "MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB or YBR"


def stored_pixels(dataset: FileDataset, path: Path) -> np.ndarray:
    """Decode the pixel data: ``([frames,] rows, columns[, 3])``, colour as RGB, grey in whole cells of BitsAllocated.

    Raises:
        InputError: elements that describe pixels are missing, more data than they describe, a compression no installed
            decoder reads, or damaged pixel data.
    """
    syntax = _transfer_syntax(dataset)
    _check_description(dataset, path)
    if not syntax.is_encapsulated:
        _check_length(dataset, path)
    # cells as they are where bits may lie beside those stored; other compressions know but the stored ones
    whole_cells = not syntax.is_encapsulated or syntax == RLELossless
    is_grey = int(dataset.SamplesPerPixel) == 1
    try:
        options: dict[str, Any] = {"correct_unused_bits": False} if whole_cells and is_grey else {}
        return pixel_array(dataset, **options)
    except Exception as error:  # RuntimeError, ValueError, AttributeError and whatever else the decoders raise
        if not _decodable(syntax) or "does not support" in str(error):
            name = "an unknown compression" if syntax.name == str(syntax) else syntax.name
            precision = f", {dataset.get('BitsStored', '?')} bits"
            raise InputError(
                "no installed decoder reads the compression of the DICOM file",
                where=path,
                found=name + precision,
                todo=_DECODERS,
            ) from error
        raise damaged(path) from error


def _transfer_syntax(dataset: FileDataset) -> pydicom.uid.UID:
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:  # a file without DICOM's file header is uncompressed
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset.file_meta.TransferSyntaxUID


def _decodable(syntax: pydicom.uid.UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _check_description(dataset: FileDataset, path: Path) -> None:
    """Refuse a file whose pixels are not fully described; fill in what follows from the rest."""
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    if dataset.get("SamplesPerPixel") is None:
        dataset.SamplesPerPixel = 3 if photometric.startswith(("RGB", "YBR")) else 1
    names = [*_REQUIRED, *(["PlanarConfiguration"] if int(dataset.SamplesPerPixel) > 1 else [])]
    missing = [name for name in names if dataset.get(name) in (None, "")]
    if missing:
        raise InputError(
            "the DICOM file does not describe its pixels",
            where=path,
            expected=", ".join(names),
            found=f"no {', '.join(missing)}",
            todo="export it again",
        )
    if photometric not in (*_GREY, "PALETTE COLOR", *_COLOURS):
        raise InputError("unknown photometric interpretation in the DICOM file", where=path, expected=_KNOWN)
    if not dataset.get("NumberOfFrames", 1):
        del dataset.NumberOfFrames  # empty or 0: one frame
    bits, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    high = _high_bit(dataset)
    is_whole = int(dataset.SamplesPerPixel) == 1 or high == bits - 1
    if not (0 < bits <= high + 1 <= allocated and is_whole):
        raise InputError(
            "the bits of a pixel in the DICOM file are impossible",
            where=path,
            expected="BitsStored - 1 <= HighBit < BitsAllocated",
            found=f"{bits}, {high} and {allocated}",
            todo="export it again",
        )


def _high_bit(dataset: Dataset) -> int:
    high = dataset.get("HighBit")
    return int(dataset.BitsStored) - 1 if high is None else int(high)


def _check_length(dataset: FileDataset, path: Path) -> None:
    """Refuse pixel data that are longer by a row or more: either they or the header are not what they were."""
    samples = {"YBR_FULL_422": 2}.get(dataset.PhotometricInterpretation, int(dataset.SamplesPerPixel))
    row = math.ceil(int(dataset.Columns) * samples * int(dataset.BitsAllocated) / 8)
    frames = int(dataset.get("NumberOfFrames") or 1)
    expected = math.ceil(int(dataset.Rows) * int(dataset.Columns) * samples * int(dataset.BitsAllocated) / 8 * frames)
    found = len(dataset.PixelData or b"")
    if found - expected >= max(row, 2):
        raise InputError(
            "the DICOM file holds more pixels than its header describes",
            where=path,
            expected=f"{expected} bytes",
            found=found,
            todo="copy it again from its source",
        )


class Pixels(NamedTuple):
    """Intensities in the scanner's unit (HU for CT), which of them are padding, and their stored width (see `Scan`)."""

    values: np.ndarray
    padding: np.ndarray | None
    stored_bits: int


def pixel_values(stored: np.ndarray, dataset: Dataset, path: Path, rescale: Dataset | None = None) -> Pixels:
    """Turn one frame's stored pixels into intensities.

    Grey is taken from its bits, then comes the modality lookup table or else rescale slope and intercept; MONOCHROME1
    is inverted, so that high is bright. A palette is resolved to RGB of 8 bits. Windows and VOI lookup tables, which
    are for viewing, are not applied.

    Args:
        stored: ``(rows, columns[, 3])``.
        dataset: the file the frame is from.
        path: the file's path, for messages.
        rescale: what holds RescaleSlope and RescaleIntercept, where that is not ``dataset`` (enhanced multi-frame).

    Raises:
        InputError: an unknown photometric interpretation, bits beyond those stored, an impossible lookup table.
    """
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if stored.ndim == 3 and photometric in _COLOURS:
        return Pixels(stored, None, 8 if stored.dtype == np.uint8 else 16)
    if photometric not in (*_GREY, "PALETTE COLOR") or stored.ndim != 2:
        raise InputError("unknown photometric interpretation in the DICOM file", where=path, expected=_KNOWN)
    values = _from_bits(stored, dataset, path)
    if photometric == "PALETTE COLOR":
        return Pixels(_colours(values, dataset, path), None, 8)
    padding = _padding(values, dataset)
    is_inverted = photometric == "MONOCHROME1"
    if dataset.get("ModalityLUTSequence"):
        table, first = _modality_table(dataset, path)
        looked_up = table[np.clip(values.astype(np.int64) - first, 0, len(table) - 1)]
        depth = int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])
        return Pixels((2**depth - 1 - looked_up if is_inverted else looked_up).astype(np.float32), padding, 16)
    bits, is_signed = int(dataset.BitsStored), bool(dataset.get("PixelRepresentation", 0))
    if is_inverted:
        # mirrored about the middle of the stored range: 0 and the highest number change places (-1 and 0 where signed)
        values = (-1 if is_signed else 2**bits - 1) - values.astype(np.int64 if bits > 16 else np.int32)
    source = dataset if rescale is None else rescale
    slope, intercept = (
        default if (value := source.get(name)) in (None, "") else float(value)
        for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if (slope, intercept) == (1.0, 0.0):
        in_bytes = bits == 8 and not is_signed
        return Pixels(values, padding, 8 if in_bytes else max(16, int(dataset.BitsAllocated)))
    return Pixels((values * np.float64(slope) + intercept).astype(np.float32), padding, 32)


def _from_bits(stored: np.ndarray, dataset: Dataset, path: Path) -> np.ndarray:
    """The numbers that stand in the stored bits of each cell, which may be its upper ones.

    What lies beside them must be nothing or the sign, unless the header says that an overlay is there: numbers wider
    than the header says would else be read as others.
    """
    bits, allocated, high = int(dataset.BitsStored), int(dataset.BitsAllocated), _high_bit(dataset)
    width = 8 * stored.dtype.itemsize
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    if bits == allocated or width != allocated or stored.dtype.kind not in "iu":
        return stored
    shift, is_signed = high + 1 - bits, stored.dtype.kind == "i"
    cells = stored.view(np.dtype(f"u{stored.dtype.itemsize}"))
    raised = np.left_shift(cells, allocated - high - 1).view(stored.dtype)
    values = np.right_shift(raised, allocated - bits)  # brings the sign along where there is one
    if not _has_embedded_overlay(dataset, allocated):
        is_plain = np.right_shift(stored, shift) == values
        if is_signed:
            is_plain |= np.right_shift(cells, high + 1) == 0
        if shift:
            is_plain &= (cells & ((1 << shift) - 1)) == 0
        elif (padding := _padding_mask(stored, dataset)) is not None:
            is_plain |= padding
            values = np.where(padding, stored, values)
        if not is_plain.all():
            raise InputError(
                "pixels of the DICOM file have more bits than its header says",
                where=path,
                expected=f"{bits} of {allocated} bits, the highest of them bit {high}",
                found=f"{int((~is_plain).sum())} pixels with others",
                todo="export it again",
            )
    return values


def _has_embedded_overlay(dataset: Dataset, allocated: int) -> bool:
    """Whether an overlay's bits lie in the pixels' cells, as the standard allowed until 2004."""
    return any(dataset.get((group, 0x0100)) and dataset[group, 0x0100].value == allocated for group in OVERLAY_GROUPS)


def _padding(values: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    padding = _padding_mask(values, dataset)
    return padding if padding is not None and padding.any() and not padding.all() else None


def _padding_mask(values: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    first = _as_represented(dataset.get("PixelPaddingValue"), dataset)
    if first is None:
        return None
    last = _as_represented(dataset.get("PixelPaddingRangeLimit"), dataset)
    low, high = sorted((first, first if last is None else last))
    mask: np.ndarray = (values >= low) & (values <= high)
    return mask


def _as_represented(value: object, dataset: Dataset) -> int | None:
    """A number with the pixels' own sign, whichever of its two value representations it was written in."""
    if not isinstance(value, int):
        return None
    cell = 1 << int(dataset.BitsAllocated)
    if dataset.get("PixelRepresentation", 0):
        return value - cell if value >= cell // 2 else value
    return value + cell if value < 0 else value


def _descriptor(values: object, dataset: Dataset) -> tuple[int, int, int]:
    """Entries, first number that is mapped and bits of a lookup table."""
    entries, first, bits = (int(value) for value in values)  # type: ignore[attr-defined]
    first &= 0xFFFF
    if dataset.get("PixelRepresentation", 0) and first >= 0x8000:
        first -= 0x10000
    return (entries & 0xFFFF) or 0x10000, first, bits


def _table(data: object, entries: int, dataset: Dataset) -> np.ndarray:
    """The entries of a lookup table, from bytes or numbers, one or two entries a word.

    Raises:
        ValueError: there are fewer than the descriptor says.
    """
    _, is_little = dataset.original_encoding if hasattr(dataset, "original_encoding") else (None, True)
    order = ">" if is_little is False else "<"
    if isinstance(data, bytes):
        in_bytes = len(data) < 2 * entries
        table = np.frombuffer(data, np.uint8 if in_bytes else np.dtype(f"{order}u2"))
    else:
        words = np.atleast_1d(np.asarray(data, dtype=np.int64)) & 0xFFFF
        in_bytes = len(words) < entries
        table = words.astype("<u2").view(np.uint8) if in_bytes else words
    if len(table) < entries:
        raise ValueError("a lookup table is too short")
    return table[:entries].astype(np.int64)


def _modality_table(dataset: Dataset, path: Path) -> tuple[np.ndarray, int]:
    item = dataset.ModalityLUTSequence[0]
    try:
        entries, first, _ = _descriptor(item.LUTDescriptor, dataset)
        return _table(item.LUTData, entries, dataset), first
    except (AttributeError, TypeError, ValueError) as error:
        raise _bad_table(path) from error


def _colours(values: np.ndarray, dataset: Dataset, path: Path) -> np.ndarray:
    try:
        entries, first, depth = _descriptor(dataset.RedPaletteColorLookupTableDescriptor, dataset)
        if dataset.get("RedPaletteColorLookupTableData"):
            names = [f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")]
            palette = np.stack([_table(dataset[name].value, entries, dataset) for name in names], axis=-1)
        else:
            palette = apply_color_lut(np.arange(first, first + entries), dataset)[..., :3].astype(np.int64)
    except Exception as error:  # pydicom's expansion of segments raises whatever damaged numbers provoke
        raise _bad_table(path) from error
    # some writers put 8 bits into words and say 16
    palette = palette >> 8 if depth == 16 and palette.max() > 255 else palette & 0xFF
    return palette[np.clip(values.astype(np.int64) - first, 0, entries - 1)].astype(np.uint8)


def _bad_table(path: Path) -> InputError:
    return InputError("a lookup table of the DICOM file is incomplete", where=path, todo="export it again")


def fill_padding(values: np.ndarray, padding: np.ndarray | None) -> np.ndarray:
    """Give the pixels that the scanner never measured (outside a CT's circle) the lowest measured value."""
    if padding is None or padding.all():
        return values
    filled = values.copy()
    filled[padding] = values[~padding].min()
    return filled
