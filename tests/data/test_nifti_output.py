"""Maps and masks lie where their scan lies, for nibabel and for ITK."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medad_plugins.data import ScanFormat, read_scan
from medad_plugins.data.nifti_output import nifti_in_place
from medad_plugins.errors import InputError
from medad_plugins.transforms import ScanPreprocessing
from medad_plugins.transforms.postprocessing import RestoreScanGridd
from medad_plugins.transforms.writers import SaveImageAnomalyd

SHAPE = (12, 16, 10)
VALUES = np.random.RandomState(0).randint(1, 255, SHAPE).astype(np.uint8)
PLAIN = np.array([[-2.0, 0, 0, 90], [0, 2.5, 0, -120], [0, 0, 3, -60], [0, 0, 0, 1]])
_C, _S = np.cos(0.35), np.sin(0.35)
OBLIQUE = np.array([[_C, -_S, 0, 3], [_S, _C, 0, -7], [0, 0, 1, 11], [0, 0, 0, 1]]) @ PLAIN
SHEARED = PLAIN @ np.array([[1, 0, 0.4, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
FLIPPED = PLAIN @ np.diag([1, -1, -1, 1.0])
# qform, its code, sform, its code
FORMS: dict[str, tuple[Any, int, Any, int]] = {
    "qform_only": (OBLIQUE, 1, None, 0),
    "sform_only": (None, 0, OBLIQUE, 4),
    "both_equal": (PLAIN, 1, PLAIN, 1),
    "both_different": (PLAIN, 1, OBLIQUE @ PLAIN, 4),
    "unit_sform": (np.diag([-1.3, -1.3, 10, 1]), 1, np.diag([-1.0, -1, 1, 1]), 1),
    "neither": (None, 0, None, 0),
    "sheared": (PLAIN, 1, SHEARED, 2),
    "sheared_alone": (None, 0, SHEARED, 2),
    "flipped": (FLIPPED, 3, FLIPPED, 3),
    "left_handed_qform": (FLIPPED @ np.diag([1, 1, -1, 1.0]), 1, None, 0),
}


def _scan(kind: str, values: np.ndarray = VALUES) -> nib.Nifti1Image:
    qform, qcode, sform, scode = FORMS[kind]
    image = nib.Nifti1Image(values, None)
    image.header.set_zooms((2.0, 2.5, 3.0, 1.0)[: values.ndim])
    image.set_sform(sform, scode)
    image.set_qform(qform, qcode)
    image.header.set_xyzt_units("mm", "sec")
    return image


def _load(path: Path) -> nib.Nifti1Image:
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return image


def _map_of(path: Path, folder: Path) -> Path:
    """As inference writes it."""
    preprocessing = ScanPreprocessing(ScanFormat(3, (12, 16, 10)))
    image = preprocessing({"image": str(path)})["image"]
    restore = RestoreScanGridd("pred", preprocessing, output_keys="anomaly_map")
    case = restore({"image": image, "pred": image.as_tensor(), "case_id": path.name.split(".")[0]})
    case = SaveImageAnomalyd("anomaly_map", folder)(case)
    return Path(str(case["anomaly_map_file"]))


def _by_itk(path: Path) -> tuple[Any, ...]:
    sitk = pytest.importorskip(
        "SimpleITK", reason="SimpleITK reads NIfTI files as ITK programs do: pip install SimpleITK"
    )
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:  # ITK takes no sheared axes
        return ("refused", "orthonormal" in str(error))
    return tuple(np.round(part, 4).tolist() for part in (image.GetOrigin(), image.GetSpacing(), image.GetDirection()))


@pytest.mark.parametrize("kind", FORMS)
def test_a_map_has_both_forms_of_its_scan(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{kind}.nii.gz"
    nib.save(_scan(kind), path)
    made = _load(_map_of(path, tmp_path))
    scan = _load(path)
    for name in ("qform_code", "sform_code"):
        assert int(made.header[name]) == int(scan.header[name]), name
    assert np.array_equal(made.header.get_qform(), scan.header.get_qform())
    assert np.array_equal(made.header.get_sform(), scan.header.get_sform())
    assert made.header.get_zooms() == scan.header.get_zooms()[:3]
    assert made.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(made.affine, scan.affine, atol=1e-6)
    np.testing.assert_allclose(made.get_fdata() * 255, VALUES, atol=1e-2)


@pytest.mark.parametrize("kind", FORMS)
def test_itk_shows_map_and_scan_in_one_place(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{kind}.nii.gz"
    nib.save(_scan(kind), path)
    expected = _by_itk(path)
    assert _by_itk(_map_of(path, tmp_path)) == expected
    assert (expected[0] == "refused") == (kind in ("sheared_alone",)) or kind == "sheared"


def test_four_axes_with_one_volume(tmp_path: Path) -> None:
    path = tmp_path / "four.nii.gz"
    nib.save(_scan("both_different", VALUES[..., None]), path)
    made, scan = _load(_map_of(path, tmp_path)), _load(path)
    assert scan.shape == (*SHAPE, 1) and made.shape == SHAPE
    assert made.header.get_zooms() == scan.header.get_zooms()[:3]
    assert np.array_equal(made.header.get_qform(), scan.header.get_qform())


@pytest.mark.parametrize("kind", ["qform_only", "sform_only", "both_equal", "neither"])
def test_negative_voxel_sizes(tmp_path: Path, kind: str) -> None:
    """By their magnitude in nibabel; ITK mirrors the scan: map and scan stay together in both."""
    path = tmp_path / "a.nii"
    nib.save(_scan(kind), path)
    raw = bytearray(path.read_bytes())
    raw[80:84] = np.float32(-2.0).tobytes()  # pixdim[1]
    path.write_bytes(bytes(raw))
    written = _map_of(path, tmp_path)
    made = _load(written)
    np.testing.assert_allclose(made.affine, _load(path).affine, atol=1e-5)
    assert made.header.get_zooms() == (2.0, 2.5, 3.0)
    np.testing.assert_allclose(made.get_fdata() * 255, VALUES, atol=1e-2)
    assert gzip.decompress(written.read_bytes())[80:92] == raw[80:92]
    assert _by_itk(written) == _by_itk(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda image: image.set_sform(np.diag([2.0, 0, 3, 1]), 1),
        lambda image: image.set_sform(np.array([[2.0, 2, 0, 0], [2, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]), 1),
        lambda image: image.set_sform(np.array([[np.nan, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]), 1),
    ],
)
def test_axes_that_span_no_space_are_refused(tmp_path: Path, make: Callable[[nib.Nifti1Image], None]) -> None:
    image = nib.Nifti1Image(VALUES, None)
    make(image)
    # past nibabel, which would refuse to write some of them
    header = image.header
    with (tmp_path / "a.nii").open("wb") as file:
        header["vox_offset"], header["magic"] = 352, b"n+1"
        header.write_to(file)
        file.write(VALUES.tobytes(order="F"))
    with pytest.raises(InputError, match=r"no usable affine \(sform/qform\): .*a\.nii"):
        read_scan(tmp_path / "a.nii")


@pytest.mark.parametrize("scale", [1e-5, 1e4])
def test_tiny_and_huge_voxels_are_space(tmp_path: Path, scale: float) -> None:
    affine = np.diag([scale, scale, scale, 1])
    nib.save(nib.Nifti1Image(VALUES, affine), tmp_path / "a.nii")
    np.testing.assert_allclose(read_scan(tmp_path / "a.nii").affine, affine, rtol=1e-6)


def test_another_scan_or_none_gives_no_forms(tmp_path: Path) -> None:
    nib.save(_scan("both_different"), tmp_path / "a.nii")
    for source in ("", tmp_path / "a.nii", tmp_path / "gone.nii", tmp_path / "a.png"):
        made = nifti_in_place(VALUES, PLAIN @ np.diag([2.0, 1, 1, 1]), source)
        assert (int(made.header["qform_code"]), int(made.header["sform_code"])) == (0, 2)
        np.testing.assert_allclose(made.affine, PLAIN @ np.diag([2.0, 1, 1, 1]))


def test_a_slice_keeps_its_forms(tmp_path: Path) -> None:
    path = tmp_path / "slice.nii.gz"
    nib.save(_scan("both_different", VALUES[..., :1]), path)
    scan = read_scan(path)
    values = MetaTensor(torch.rand(1, 12, 16), affine=torch.as_tensor(scan.affine), meta={"filename_or_obj": str(path)})
    SaveImageAnomalyd("anomaly_map", tmp_path)({"anomaly_map": values, "case_id": "slice"})
    made = _load(tmp_path / "maps" / "slice.nii.gz")
    assert made.shape == (12, 16, 1)
    assert np.array_equal(made.header.get_qform(), _load(path).header.get_qform())
