"""NIfTI files of every kind: read right or refused in a sentence."""

from __future__ import annotations

import gzip
import io
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medad_plugins.data import find_scans, read_scan
from medad_plugins.data.nifti_file import read_nifti
from medad_plugins.errors import InputError


def _nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine).to_filename(path)
    return path


def test_nifti_axes_affine_and_width(tmp_path: Path) -> None:
    affine = np.array([[0, -2.0, 0.3, 4], [1.5, 0, 0.1, -5], [0, 0.2, -3, 6], [0, 0, 0, 1]])
    array = np.random.RandomState(0).randint(0, 900, (7, 8, 9)).astype(np.int16)
    for name in ("a.nii", "a.nii.gz"):
        scan = read_nifti(_nifti(tmp_path / name, array, affine))
        np.testing.assert_array_equal(scan.array, array)
        np.testing.assert_allclose(scan.affine, affine, atol=1e-6)
        assert (scan.stored_bits, scan.has_channels) == (16, False)
    assert read_nifti(_nifti(tmp_path / "b.nii", array.astype(np.uint8))).stored_bits == 8


def test_scaled_bytes_are_no_longer_bytes(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), np.eye(4))
    image.header.set_slope_inter(2.0, 1.0)
    image.to_filename(tmp_path / "a.nii")
    scan = read_nifti(tmp_path / "a.nii")
    np.testing.assert_allclose(scan.array.ravel(), np.arange(60) * 2.0 + 1.0)
    assert scan.stored_bits == 32


@pytest.mark.parametrize(
    ("shape", "read_as", "has_channels"),
    [
        ((7, 8), (7, 8), False),
        ((7, 8, 1), (7, 8), False),
        ((7, 8, 9, 1), (7, 8, 9), False),
        ((7, 8, 9, 4), (7, 8, 9, 4), True),
        ((7, 8, 1, 3), (7, 8, 3), True),
        ((7, 8, 9, 1, 2), (7, 8, 9, 2), True),
    ],
)
def test_singleton_axes_and_channels(
    tmp_path: Path, shape: tuple[int, ...], read_as: tuple[int, ...], has_channels: bool
) -> None:
    array = np.random.RandomState(0).rand(*shape).astype(np.float32)
    scan = read_nifti(_nifti(tmp_path / "a.nii", array))
    assert (scan.array.shape, scan.has_channels) == (read_as, has_channels)
    np.testing.assert_array_equal(scan.array.ravel(), array.ravel())


def test_colour_nifti(tmp_path: Path) -> None:
    colours = np.random.RandomState(0).randint(0, 255, (7, 8, 9, 3)).astype(np.uint8)
    packed = np.ascontiguousarray(colours).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    scan = read_nifti(_nifti(tmp_path / "a.nii", packed))
    np.testing.assert_array_equal(scan.array, colours)
    assert (scan.has_channels, scan.stored_bits) == (True, 8)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5, 6, 2, 3), np.float32), "is not an image.*4 x 5 x 6 x 2 x 3"),
        (np.zeros(5, np.float32), "is not an image"),
        (np.zeros((4, 5, 6), np.complex64), "complex numbers"),
    ],
)
def test_nifti_that_is_no_image(tmp_path: Path, array: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_nifti(_nifti(tmp_path / "a.nii", array))


def test_nifti_without_a_usable_affine(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4))
    image.header.set_sform(np.diag([1.0, 0.0, 1.0, 1.0]), code=1)
    image.header["qform_code"] = 0
    nibabel.Nifti1Image(image.dataobj, None, image.header).to_filename(tmp_path / "a.nii")
    with pytest.raises(InputError, match="no usable affine"):
        read_nifti(tmp_path / "a.nii")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_truncated_nifti(tmp_path: Path, name: str) -> None:
    path = _nifti(tmp_path / name, np.random.RandomState(0).rand(9, 10, 11).astype(np.float32))
    whole = path.read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 60):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="is empty|is truncated"):
            read_nifti(path)


def test_damaged_nifti_headers_are_refused_not_raised(tmp_path: Path) -> None:
    path = _nifti(tmp_path / "a.nii", np.random.RandomState(0).rand(9, 10, 11).astype(np.float32))
    whole, rng = path.read_bytes(), np.random.RandomState(0)
    outcomes: set[object] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(150):
            damaged = bytearray(whole)
            for _ in range(4):
                damaged[rng.randint(352)] = rng.randint(256)
            path.write_bytes(damaged)
            try:
                outcomes.add(read_nifti(path).array.shape)
            except InputError:
                outcomes.add("refused")
    assert "refused" in outcomes and (9, 10, 11) in outcomes


_VOLUME = np.random.RandomState(0).randint(1, 900, (9, 10, 11)).astype(np.int16)


def test_a_wrong_checksum_is_seen(tmp_path: Path) -> None:
    raw = _nifti(tmp_path / "a.nii", _VOLUME).read_bytes()
    packed = bytearray(gzip.compress(raw, 0))
    packed[900:910] = bytes(10)
    (tmp_path / "a.nii.gz").write_bytes(packed)
    with pytest.raises(InputError, match="gzip file is damaged.*found a wrong checksum"):
        read_nifti(tmp_path / "a.nii.gz")
    packed = bytearray(gzip.compress(raw))
    packed[-1] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(packed)
    with pytest.raises(InputError, match="found a wrong length"):
        read_nifti(tmp_path / "a.nii.gz")


def test_every_member_of_a_gzip_counts(tmp_path: Path) -> None:
    raw = _nifti(tmp_path / "a.nii", _VOLUME).read_bytes()
    members = gzip.compress(raw[:500]) + gzip.compress(raw[500:])
    (tmp_path / "a.nii.gz").write_bytes(members + bytes(512))
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii.gz").array, _VOLUME)
    for damaged in (members[:-3], members + b"rest", members + gzip.compress(b"more")):
        (tmp_path / "a.nii.gz").write_bytes(damaged)
        with pytest.raises(InputError, match="gzip file is|longer than its header says"):
            read_nifti(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("packed", [False, True])
def test_the_content_says_whether_it_is_compressed(tmp_path: Path, packed: bool) -> None:
    raw = _nifti(tmp_path / "b.nii", _VOLUME).read_bytes()
    path = tmp_path / ("a.nii" if packed else "a.nii.gz")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    np.testing.assert_array_equal(read_scan(path).array, _VOLUME)


@pytest.mark.parametrize(("packing", "mark"), [("zst", b"\x28\xb5\x2f\xfd"), ("bz2", b"BZh9"), ("xz", b"\xfd7zXZ\0")])
def test_other_compressions_are_named_and_keep_their_row(tmp_path: Path, packing: str, mark: bytes) -> None:
    path = tmp_path / f"a.nii.{packing}"
    path.write_bytes(mark + bytes(500))
    assert find_scans(tmp_path) == [path]
    with pytest.raises(InputError, match="compression of the NIfTI file is not read.*unpack it"):
        read_scan(path)


@pytest.mark.parametrize("image_class", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_pairs_by_either_file(tmp_path: Path, image_class: type, suffix: str) -> None:
    affine = np.diag([2.0, 3, 4, 1])
    nibabel.save(image_class(_VOLUME, affine), tmp_path / f"a.img{suffix}")
    for name in (f"a.hdr{suffix}", f"a.img{suffix}"):
        scan = read_scan(tmp_path / name)
        np.testing.assert_array_equal(scan.array, _VOLUME)
        np.testing.assert_allclose(scan.affine, affine)
    assert find_scans(tmp_path) == [tmp_path / f"a.hdr{suffix}"]
    (tmp_path / f"a.img{suffix}").unlink()
    with pytest.raises(InputError, match=r"lacks its .img"):
        read_scan(tmp_path / f"a.hdr{suffix}")


def test_analyze_does_not_say_what_is_left(tmp_path: Path) -> None:
    nibabel.save(nibabel.AnalyzeImage(_VOLUME, np.eye(4)), tmp_path / "a.img")
    for name in ("a.hdr", "a.img"):
        with pytest.raises(InputError, match="Analyze 7.5"):
            read_scan(tmp_path / name)


@pytest.mark.parametrize(("unit", "factor"), [("unknown", 1), ("mm", 1), ("micron", 1e-3), ("meter", 1e3)])
@pytest.mark.parametrize("edge", [1e-4, 1.0, 1e5])
def test_units_and_voxels_of_any_size(tmp_path: Path, unit: str, factor: float, edge: float) -> None:
    image = nibabel.Nifti1Image(_VOLUME, np.diag([edge, 2 * edge, edge, 1]))
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "a.nii")
    np.testing.assert_allclose(np.diag(read_nifti(tmp_path / "a.nii").affine)[:3], np.array([1, 2, 1]) * edge * factor)


def _with_header(path: Path, **fields: object) -> Path:
    raw = _nifti(path, _VOLUME).read_bytes()
    header = nibabel.Nifti1Header.from_fileobj(io.BytesIO(raw))
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + raw[348:])
    return path


@pytest.mark.parametrize(
    ("slope", "inter", "expected"),
    [(0, 9, (1, 0)), (np.nan, np.nan, (1, 0)), (2, 3, (2, 3)), (-1, 0, (-1, 0)), (1, 0, (1, 0)), (1, 5, (1, 5))],
)
def test_scaling(tmp_path: Path, slope: float, inter: float, expected: tuple[float, float]) -> None:
    scan = read_nifti(_with_header(tmp_path / "a.nii", scl_slope=slope, scl_inter=inter))
    np.testing.assert_array_equal(scan.array, _VOLUME * float(expected[0]) + expected[1])
    assert scan.stored_bits == (16 if expected == (1, 0) else 32)


@pytest.mark.parametrize(("slope", "inter"), [(np.inf, 0), (-np.inf, 0), (2, np.nan), (2, np.inf)])
def test_scaling_that_is_none(tmp_path: Path, slope: float, inter: float) -> None:
    with pytest.raises(InputError, match="no usable scaling"):
        read_nifti(_with_header(tmp_path / "a.nii", scl_slope=slope, scl_inter=inter))


def test_fewer_or_more_voxels_than_the_header_says(tmp_path: Path) -> None:
    path = _nifti(tmp_path / "a.nii", _VOLUME)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(400))  # the rest of a block
    np.testing.assert_array_equal(read_nifti(path).array, _VOLUME)
    for rest in (bytes(600), b"\1"):
        path.write_bytes(whole + rest)
        with pytest.raises(InputError, match="longer than its header says"):
            read_nifti(path)
    with pytest.raises(InputError, match="longer than its header says"):
        read_nifti(_with_header(tmp_path / "b.nii", dim=[3, 9, 10, 10, 1, 1, 1, 1]))


def test_transparency_that_varies_is_refused(tmp_path: Path) -> None:
    colours = np.random.RandomState(0).randint(0, 255, (7, 8, 9, 4)).astype(np.uint8)
    fields = [(name, "u1") for name in "RGBA"]
    for is_read in (True, False):
        if is_read:
            colours[..., 3] = 200
        _nifti(tmp_path / "a.nii", np.ascontiguousarray(colours).view(fields)[..., 0])
        if is_read:
            np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii").array, colours[..., :3])
            colours[0, 0, 0, 3] = 1
        else:
            with pytest.raises(InputError, match="transparency that varies"):
                read_nifti(tmp_path / "a.nii")
