"""Random files of other writers have equal numbers and geometry; random damage gives no other scan without a sentence.

What damage can be seen depends on the format. PNG, gzip (NIfTI, NRRD) and zlib (MetaImage) have checksums over the
pixels: any cut and any flipped bit of them is refused. DICOM, uncompressed NIfTI, TIFF, BMP, NRRD and MetaImage have
none, nor has JPEG: a flipped bit of a pixel is another valid pixel there, and one of a header may be another valid
spacing or rescaling. What is asked of these: a cut is refused, and a flip never changes the number of pixels.
"""

from __future__ import annotations

import gzip
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from scan_samples import AXIAL, OBLIQUE, dicom_image

from medad_plugins.data import read_scan
from medad_plugins.data.scan import Scan
from medad_plugins.errors import InputError

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies
_Test = TypeVar("_Test", bound=Callable[..., None])


def given(**drawn: Any) -> Callable[[_Test], _Test]:
    """Hypothesis's decorator, few examples each and always the same."""

    def decorate(test: _Test) -> _Test:
        few = hypothesis.settings(max_examples=25, derandomize=True, deadline=None, database=None)
        decorated: _Test = few(hypothesis.given(**drawn)(test))
        return decorated

    return decorate


SEEDS = st.integers(0, 2**20)


def _read(folder: Path, name: str, content: bytes) -> Scan:
    path = folder / name
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_scan(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("properties")


# ---- whatever is written is read

_DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", "i8"]


def _numbers(dtype: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.RandomState(seed)
    if dtype[0] == "f":
        return rng.uniform(-1e4, 1e4, shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.randint(max(info.min, -(2**23)), min(int(info.max), 2**23), shape).astype(dtype)


@given(
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    dtype=st.sampled_from(_DTYPES),
    seed=SEEDS,
    scaling=st.sampled_from([None, (2.0, -3.0), (0.5, 0.0), (0.0, 7.0), (float("nan"), float("nan"))]),
    unit=st.sampled_from(["unknown", "mm", "micron", "meter"]),
    kind=st.sampled_from(["a.nii", "a.nii.gz", "a.img", "two.nii"]),
    order=st.sampled_from("<>"),
)
def test_nifti(
    folder: Path, shape: list[int], dtype: str, seed: int, scaling: Any, unit: str, kind: str, order: Any
) -> None:
    array = _numbers(dtype, tuple(shape), seed)
    affine = np.diag([*np.random.RandomState(seed).uniform(0.1, 9, 3), 1.0])
    affine[:3, 3] = np.random.RandomState(seed + 1).uniform(-90, 90, 3)
    classes = {"a.img": nibabel.Nifti1Pair, "two.nii": nibabel.Nifti2Image}
    image_class: Any = classes.get(kind, nibabel.Nifti1Image)
    header = image_class.header_class(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    image = image_class(array, affine, header)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, folder / kind)
    if scaling is not None:
        _set_scaling(folder / kind, image_class, scaling)
    channels = [size for size in shape[3:] if size != 1]
    try:
        scan = read_scan(folder / kind)
    except InputError as error:
        assert len(channels) > 1, error
        return
    slope, inter = scaling if scaling is not None and scaling[0] > 0 else (1.0, 0.0)
    spatial = shape[:2] if shape[2:3] in ([], [1]) else shape[:3]
    expected = array.astype(np.float64).reshape([*spatial, *channels], order="F") * slope + inter
    np.testing.assert_allclose(scan.array, expected, rtol=1e-6, atol=1e-3 if slope != 1 else 0)
    assert scan.has_channels == bool(channels)
    factor = {"micron": 1e-3, "meter": 1e3}.get(unit, 1.0)
    np.testing.assert_allclose(scan.affine[:3], affine[:3] * factor, rtol=1e-5, atol=1e-5 * factor)


def _set_scaling(path: Path, image_class: Any, scaling: tuple[float, float]) -> None:
    """Write slope and intercept into a header as they are; nibabel would turn 0 and NaN into others."""
    header_path = path.with_suffix(".hdr") if path.suffix == ".img" else path
    content = bytearray(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else header_path.read_bytes())
    length = image_class.header_class.sizeof_hdr
    header = image_class.header_class.from_fileobj(io.BytesIO(bytes(content)))
    header["scl_slope"], header["scl_inter"] = scaling
    content[:length] = header.binaryblock
    header_path.write_bytes(gzip.compress(bytes(content)) if path.suffix == ".gz" else bytes(content))


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F"]),
    suffix=st.sampled_from([".png", ".bmp", ".tif"]),
    seed=SEEDS,
)
def test_pictures(folder: Path, shape: tuple[int, int], mode: str, suffix: str, seed: int) -> None:
    rng = np.random.RandomState(seed)
    if mode in ("I;16", "I", "F"):
        array = {"I;16": rng.randint(0, 65536, shape), "I": rng.randint(-(2**20), 2**20, shape)}.get(
            mode, rng.rand(*shape)
        )
        image = Image.fromarray(array.astype({"I;16": np.uint16, "I": np.int32}.get(mode, np.float32)))
    else:
        image = Image.fromarray(rng.randint(0, 256, (*shape, 4)).astype(np.uint8)).convert(mode)
    path = folder / f"a{suffix}"
    try:
        image.save(path)
    except (OSError, ValueError):  # no such picture in this format
        return
    try:
        scan = read_scan(path)
    except InputError as error:
        assert mode in ("LA", "P", "RGBA") and "varies" in str(error), error
        return
    with Image.open(path) as stored:
        plain = stored.convert({"1": "L", "P": "RGB"}.get(mode, stored.mode))
        expected = np.asarray(plain)
    if "A" in plain.mode:
        expected = expected[..., 0] if plain.mode == "LA" else expected[..., :3]
    np.testing.assert_array_equal(scan.array, expected.swapaxes(0, 1))


@given(
    allocated=st.sampled_from([8, 16, 32]),
    stored=st.integers(1, 32),
    signed=st.booleans(),
    slope=st.sampled_from([None, 1.0, 0.25, -2.0]),
    orientation=st.sampled_from([AXIAL, OBLIQUE, None]),
    frames=st.integers(1, 3),
    seed=SEEDS,
)
def test_dicom(
    folder: Path,
    allocated: int,
    stored: int,
    signed: bool,
    slope: float | None,
    orientation: Any,
    frames: int,
    seed: int,
) -> None:
    stored = min(stored, allocated)
    low = -(2 ** (stored - 1)) if signed else 0
    pixels = np.random.RandomState(seed).randint(low, low + 2**stored, (frames, 4, 5), dtype=np.int64)
    pixels = pixels.astype(f"{'i' if signed else 'u'}{allocated // 8}")
    elements: dict[str, Any] = {"BitsStored": stored, "HighBit": stored - 1}
    if slope is not None:
        elements |= {"RescaleSlope": slope, "RescaleIntercept": 3.0}
    if orientation is not None:
        place = {"ImagePositionPatient": [1.0, 2.0, 3.0], "PixelSpacing": [2.0, 0.5], "SliceThickness": 4.0}
        elements |= {"ImageOrientationPatient": list(orientation), **place}
    dataset = dicom_image(pixels if frames > 1 else pixels[0], **elements)
    if frames > 1:
        dataset.NumberOfFrames = frames
    if pixels.size % 2 and allocated == 8:
        dataset.PixelData += b"\0"
    dataset.save_as(folder / "a.dcm", enforce_file_format=True)
    try:
        scan = read_scan(folder / "a.dcm")
    except InputError as error:
        assert frames > 1 and "no volume" in str(error), error
        return
    theirs = pydicom.dcmread(folder / "a.dcm")
    expected = theirs.pixel_array.astype(np.float64)
    if slope is not None:
        expected = expected * slope + 3.0
    np.testing.assert_allclose(scan.array, expected.T, rtol=1e-6)
    spacing = [0.5, 2.0, 4.0] if orientation is not None else [1, 1, 1]
    np.testing.assert_allclose(np.linalg.norm(scan.affine[:3, :3], axis=0), spacing, rtol=1e-6)


# ---- whatever is damaged is refused, or is what it was

_SAMPLE = np.random.RandomState(5).randint(1, 3000, (8, 9, 10)).astype(np.int16)


def _saved(save: Callable[[Path], object], folder: Path, name: str) -> bytes:
    save(folder / name)
    return (folder / name).read_bytes()


def _sample(name: str, folder: Path) -> bytes:
    """A small file of each kind."""
    slice_ = _SAMPLE[:, :, 0].astype(np.uint16)
    if ".nii" in name:
        return _saved(
            lambda path: nibabel.save(nibabel.Nifti1Image(_SAMPLE, np.diag([2.0, 3, 4, 1])), path), folder, name
        )
    if name.endswith(".dcm"):
        place = {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": list(AXIAL), "PixelSpacing": [2, 3]}
        dataset = dicom_image(slice_, SliceThickness=4, **place)
        return _saved(lambda path: dataset.save_as(path, enforce_file_format=True), folder, name)
    if name.endswith((".nrrd", ".mha")):
        package = pytest.importorskip("SimpleITK")
        image = package.GetImageFromArray(_SAMPLE)
        return _saved(lambda path: package.WriteImage(image, str(path), "packed" in name), folder, name)
    picture = Image.fromarray(slice_ if name.endswith((".png", ".tif")) else (slice_ >> 4).astype(np.uint8))
    options = {"compression": "tiff_adobe_deflate"} if name == "packed.tif" else {}
    return _saved(lambda path: picture.save(path, **options), folder, name)


CHECKED = ["a.png", "a.nii.gz", "packed.nrrd", "packed.mha"]
UNCHECKED = ["a.nii", "a.dcm", "a.tif", "packed.tif", "a.bmp", "a.jpg", "a.nrrd", "a.mha"]


@pytest.mark.parametrize("name", [*CHECKED, *UNCHECKED])
@given(where=st.floats(0, 1, exclude_max=True), lost=st.integers(1, 40))
def test_a_cut_is_refused(folder: Path, name: str, where: float, lost: int) -> None:
    whole = _sample(name, folder)
    original = read_scan(folder / name).array
    for length in (int(where * len(whole)), max(0, len(whole) - lost)):
        try:
            scan = _read(folder, name, whole[:length])
        except InputError:
            continue
        np.testing.assert_array_equal(scan.array, original)


def _of_header(name: str, place: int, whole: bytes) -> bool:
    """Whether a byte is outside what a checksum covers: headers of NRRD and MetaImage, which are text."""
    if name.endswith(".nrrd"):
        return place < whole.index(b"\n\n")
    return name.endswith(".mha") and place < whole.index(b"LOCAL")


@pytest.mark.parametrize("name", CHECKED)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_under_a_checksum_changes_nothing_unsaid(folder: Path, name: str, where: float, bit: int) -> None:
    whole = _sample(name, folder)
    original = read_scan(folder / name)
    damaged = bytearray(whole)
    place = int(where * len(whole))
    damaged[place] ^= 1 << bit
    try:
        scan = _read(folder, name, bytes(damaged))
    except InputError:
        return
    if _of_header(name, place, whole):
        assert scan.array.size == original.array.size
        return
    np.testing.assert_array_equal(scan.array, original.array)
    np.testing.assert_array_equal(scan.affine, original.affine)


@pytest.mark.parametrize("name", UNCHECKED)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_without_a_checksum_keeps_the_grid_or_is_refused(
    folder: Path, name: str, where: float, bit: int
) -> None:
    whole = _sample(name, folder)
    original = read_scan(folder / name)
    damaged = bytearray(whole)
    damaged[int(where * len(whole))] ^= 1 << bit
    try:
        scan = _read(folder, name, bytes(damaged))
    except InputError:
        return
    assert scan.array.size == original.array.size or name.endswith((".jpg", ".bmp", ".tif"))
