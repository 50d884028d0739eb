"""What is kept of a scan."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scan_samples import SECRETS, write_series

from audit.textured_heads import textured_head, textured_volume
from medad_plugins.audit.signatures import Signature, read_signatures, sign_scan
from medad_plugins.audit.thumbnails import local_contrast, resize
from medad_plugins.data import read_scan


def _sign(path: Path) -> Signature:
    return sign_scan(read_scan(path), path)


def test_equal_pixels_have_equal_digests_in_whatever_file(tmp_path: Path) -> None:
    head = textured_head(0)
    Image.fromarray(head).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([head] * 3, 2)).save(tmp_path / "colour.bmp")
    Image.fromarray(head.astype(np.uint16)).save(tmp_path / "deep.png")
    nib.save(nib.Nifti1Image(head.T.astype(np.float32), np.eye(4)), tmp_path / "float.nii.gz")
    changed = head.copy()
    changed[60, 60] ^= 1
    Image.fromarray(changed).save(tmp_path / "changed.png")
    Image.fromarray(head[:, ::-1]).save(tmp_path / "mirrored.png")
    digests = {path.name: _sign(path).digest for path in tmp_path.iterdir()}
    same = {digests[name] for name in ("grey.png", "colour.bmp", "deep.png", "float.nii.gz")}
    assert len(same) == 1
    assert len(same | {digests["changed.png"], digests["mirrored.png"]}) == 3


def test_an_area_keeps_its_mean_when_a_scan_shrinks() -> None:
    grid = np.random.RandomState(0).rand(64, 96).astype(np.float32)
    small = resize(grid, 8)
    assert small.shape == (8, 8)
    assert small.mean() == pytest.approx(grid.mean(), abs=0.02)
    assert np.allclose(resize(np.full((10, 7, 5), 3, np.float32), 6), 3)


def test_local_contrast_forgets_brightness_and_contrast() -> None:
    grid = textured_head(1, 64).astype(np.float32) / np.float32(255)
    plain = local_contrast(grid, 0.7, 3)
    assert np.linalg.norm(plain) == pytest.approx(1, abs=1e-5)
    assert plain.mean() == pytest.approx(0, abs=1e-6)
    darker = local_contrast((0.3 * grid + 0.2).astype(np.float32), 0.7, 3)
    assert np.vdot(plain, darker) == pytest.approx(1, abs=1e-3)
    assert not local_contrast(np.full((64, 64), 0.4, np.float32), 0.7, 3).any()


def test_a_volume_is_the_same_in_any_storage_order(tmp_path: Path) -> None:
    volume = textured_volume(0)
    nib.save(nib.Nifti1Image(volume, np.diag([1, 1, 2, 1])), tmp_path / "ras.nii.gz")
    affine = np.diag([-1.0, 1, 2, 1])
    affine[0, 3] = len(volume) - 1
    nib.save(nib.Nifti1Image(volume[::-1].copy(), affine), tmp_path / "las.nii.gz")
    ras, las = _sign(tmp_path / "ras.nii.gz"), _sign(tmp_path / "las.nii.gz")
    assert np.array_equal(ras.detail, las.detail)
    assert (ras.attributes["orientation"], las.attributes["orientation"]) == ("RAS", "LAS")
    assert ras.attributes["slice spacing"] == 2
    assert ras.thumbnail.shape == (16, 16, 16)


def test_nothing_of_a_patient_is_kept(tmp_path: Path) -> None:
    write_series(tmp_path / "series", textured_volume(3, (12, 20, 16)).astype(np.int16))
    found = _sign(tmp_path / "series")
    assert found.attributes["file type"] == "DICOM series"
    assert not any(secret in repr(found) for secret in SECRETS.values())


def test_what_cannot_be_read_is_named_and_the_rest_is_kept_in_order(tmp_path: Path) -> None:
    for number in (0, 2, 3):
        Image.fromarray(textured_head(number)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"no picture")
    cases = [{"image": str(tmp_path / f"{number}.png")} for number in (0, 1, 2, 3, 4)]
    for workers in (0, 2):
        found = read_signatures(cases, workers)
        assert found.index.tolist() == [0, 2, 3]
        assert [position for position, _ in found.unreadable] == [1, 4]
        assert "not an image" in found.unreadable[0][1]
        assert "does not exist" in found.unreadable[1][1]
        assert found.items[1].digest == _sign(tmp_path / "2.png").digest


def test_a_scan_with_nothing_finite_in_it_is_no_obstacle(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((20, 20, 12), np.nan, np.float32), np.eye(4)), tmp_path / "nan.nii.gz")
    found = _sign(tmp_path / "nan.nii.gz")
    assert np.isfinite(found.thumbnail).all()
    assert not found.detail.any()
