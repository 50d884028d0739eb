"""Single DICOM files: pixel meanings, compressions and everything that is not an image."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless
from scan_samples import dicom_image

from medad_plugins.data.dicom_file import is_dicom
from medad_plugins.data.dicom_series import read_dicom_scan
from medad_plugins.errors import InputError

_COMPRESSED = "no installed decoder reads the compression"
_NO_VOLUME = "multi-frame DICOM file is no volume"
# what each real odd file is: (shape, lowest, highest value) or the beginning of the sentence
ODDITIES: dict[str, tuple[tuple[int, ...], float, float] | str] = {
    "693_J2KI": ((512, 512), -3995, 1812),
    "693_J2KR": ((512, 512), -1024, 1468),
    "CT_small": ((128, 128), -896, 1167),
    "J2K_pixelrep_mismatch": ((512, 512), -2000, 1896),
    "JPEG-LL": f"{_COMPRESSED}.*JPEG Lossless.*pip install pylibjpeg.*gdcmconv",
    "JPEG-lossy": f"{_COMPRESSED}.*JPEG Extended.*12 bits.*pip install",
    "JPEG2000": ((256, 1024), -30, 245),
    "MR_small": ((64, 64), 127, 2145),
    "MR_small_RLE": ((64, 64), 127, 2145),
    "MR_small_bigendian": ((64, 64), 127, 2145),
    "MR_small_implicit": ((64, 64), 127, 2145),
    "MR_small_jp2klossless": ((64, 64), 127, 2145),
    "MR_small_jpeg_ls_lossless": f"{_COMPRESSED}.*JPEG-LS Lossless",
    "SC_rgb_jpeg_gdcm": f"{_COMPRESSED}.*JPEG Lossless",
    "SC_rgb_rle_2frame": _NO_VOLUME,
    "emri_small": _NO_VOLUME,
    "emri_small_RLE": _NO_VOLUME,
    "emri_small_jpeg_2k_lossless": _NO_VOLUME,
    "examples_rgb_color": ((320, 240, 3), 0, 255),
    "examples_ybr_color": _NO_VOLUME,
    "image_dfl": ((512, 512), 0, 255),
    "liver_1frame": "is not an image.*a segmentation",
    "liver_nonbyte_aligned_rle": "is not an image.*a segmentation",
    "no_meta": "holds no image",
    "rtdose": "is not an image.*a radiotherapy dose",
}


@pytest.mark.parametrize("name", ODDITIES)
def test_odd_files_are_read_or_refused_in_one_sentence(shared_data: Path, name: str) -> None:
    path = shared_data / "dicom" / "oddities" / f"{name}.dcm"
    expected = ODDITIES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(expected, str):
            compressed = name in ("JPEG-LL", "JPEG-lossy", "MR_small_jpeg_ls_lossless", "SC_rgb_jpeg_gdcm")
            if compressed and _has_extra_decoders(name):
                pytest.skip("a decoder for this compression is installed")
            with pytest.raises(InputError, match=expected):
                read_dicom_scan(path)
        else:
            scan = read_dicom_scan(path)
            assert (scan.array.shape, scan.array.min(), scan.array.max()) == expected
            assert scan.has_channels == (scan.array.ndim == 3) and abs(np.linalg.det(scan.affine)) > 0


def _has_extra_decoders(name: str) -> bool:
    decoders = ["pylibjpeg", "gdcm", *(["jpeg_ls"] if "jpeg_ls" in name else [])]
    return any(find_spec(decoder) is not None for decoder in decoders)


def _read(path: Path, dataset: pydicom.FileDataset) -> np.ndarray:
    dataset.save_as(path, enforce_file_format=True)
    return read_dicom_scan(path).array


def _pixels(dtype: str = "uint16") -> np.ndarray:
    return np.arange(60, dtype=dtype).reshape(6, 10)


def test_axes_are_columns_then_rows(tmp_path: Path) -> None:
    np.testing.assert_array_equal(_read(tmp_path / "a.dcm", dicom_image(_pixels())), _pixels().T)


@pytest.mark.parametrize(("dtype", "sum_of_ends"), [("uint16", 4095), ("int16", -1)])
def test_monochrome1_is_inverted(tmp_path: Path, dtype: str, sum_of_ends: int) -> None:
    dataset = dicom_image(_pixels(dtype), PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(_read(tmp_path / "a.dcm", dataset), sum_of_ends - _pixels().T.astype(int))


def test_colours_become_channels_last(tmp_path: Path) -> None:
    pixels = np.random.RandomState(0).randint(0, 255, (6, 10, 3)).astype(np.uint8)
    dataset = dicom_image(pixels, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    np.testing.assert_array_equal(_read(tmp_path / "a.dcm", dataset), pixels.transpose(1, 0, 2))


def test_palette_colours_are_resolved(tmp_path: Path) -> None:
    palette = np.random.RandomState(0).randint(0, 2**16, (3, 64)).astype(np.uint16)
    tables = dict(zip(("Red", "Green", "Blue"), palette, strict=True))
    elements = {f"{name}PaletteColorLookupTableData": table.tobytes() for name, table in tables.items()}
    elements |= {f"{name}PaletteColorLookupTableDescriptor": [64, 0, 16] for name in tables}
    dataset = dicom_image(_pixels("uint8"), PhotometricInterpretation="PALETTE COLOR", **elements)
    np.testing.assert_array_equal(_read(tmp_path / "a.dcm", dataset), (palette >> 8).T[_pixels().T])


def test_modality_lookup_table_is_applied(tmp_path: Path) -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData, table.ModalityLUTType = [60, 0, 16], [7 * i for i in range(60)], "US"
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    dataset = dicom_image(_pixels(), ModalityLUTSequence=[table])
    np.testing.assert_array_equal(_read(tmp_path / "a.dcm", dataset), 7 * _pixels().T)


def test_padding_range_of_a_single_image(tmp_path: Path) -> None:
    pixels = _pixels("int16") + 100
    pixels[0, :3] = (-5, -4, -3)
    dataset = dicom_image(pixels, PixelPaddingValue=-5, PixelPaddingRangeLimit=-4)
    assert _read(tmp_path / "a.dcm", dataset)[:3, 0].tolist() == [-3, -3, -3]


def test_stored_bits_tell_bytes_from_wider_numbers(tmp_path: Path) -> None:
    found = []
    for elements in ({}, {"RescaleSlope": 2.0, "RescaleIntercept": 0.0}, {"BitsStored": 7, "HighBit": 6}):
        dicom_image(_pixels("uint8"), **elements).save_as(tmp_path / "a.dcm", enforce_file_format=True)
        found.append(read_dicom_scan(tmp_path / "a.dcm").stored_bits)
    assert found == [8, 32, 16]


@pytest.mark.parametrize("axes", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)])
def test_affine_of_a_single_slice_in_any_plane(tmp_path: Path, axes: tuple[int, ...]) -> None:
    place = {"ImagePositionPatient": [1, 2, 3], "PixelSpacing": [2, 1.5], "SliceThickness": 4}
    dicom_image(_pixels(), ImageOrientationPatient=list(axes), **place).save_as(
        tmp_path / "a.dcm", enforce_file_format=True
    )
    affine = read_dicom_scan(tmp_path / "a.dcm").affine
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), [1.5, 2.0, 4.0])
    np.testing.assert_allclose(affine[:3, 3], [-1, -2, 3])
    np.testing.assert_allclose(affine[:3, 0], np.array(axes[:3]) * 1.5 * [-1, -1, 1])


def test_file_without_a_dicom_header(tmp_path: Path) -> None:
    path = tmp_path / "old.dcm"
    dataset = dicom_image(_pixels())
    del dataset.file_meta
    dataset.preamble = None
    dataset.save_as(path, implicit_vr=True, little_endian=True)
    assert is_dicom(path)
    np.testing.assert_array_equal(read_dicom_scan(path).array, _pixels().T)


def test_text_named_dcm(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_text("this is no DICOM file, although its name says so\n" * 10)
    with pytest.raises(InputError, match="a.dcm"):
        read_dicom_scan(tmp_path / "a.dcm")


@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_anywhere_is_refused_or_complete(tmp_path: Path, compressed: bool) -> None:
    path, pixels = tmp_path / "a.dcm", np.random.RandomState(0).randint(0, 4000, (6, 10)).astype(np.uint16)
    dataset = dicom_image(pixels)
    if compressed:
        dataset.compress(RLELossless)
    dataset.save_as(path, enforce_file_format=True)
    whole = path.read_bytes()
    refused = 0
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        try:
            np.testing.assert_array_equal(read_dicom_scan(path).array, pixels.T)
        except InputError:
            refused += 1
    assert refused >= len(whole) // 7 - 3


def test_damaged_elements_are_refused_not_raised(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.dcm", np.random.RandomState(0)
    dicom_image(_pixels(), ImagePositionPatient=[0, 0, 0], PixelSpacing=[1, 1], SliceThickness=2).save_as(
        path, enforce_file_format=True
    )
    whole = path.read_bytes()
    outcomes: set[object] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(200):
            damaged = bytearray(whole)
            for _ in range(5):
                damaged[rng.randint(len(whole))] = rng.randint(256)
            path.write_bytes(damaged)
            try:
                outcomes.add(read_dicom_scan(path).array.shape)
            except InputError:
                outcomes.add("refused")
    assert "refused" in outcomes and (10, 6) in outcomes


def test_unknown_compression_is_named_without_its_uid(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    dataset = dicom_image(_pixels())
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID("1.2.840.10008.1.2.4.201")
    dataset.PixelData = encapsulate([b"\0" * 64])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    with pytest.raises(InputError, match="High-Throughput JPEG 2000.*pip install"):
        read_dicom_scan(path)
