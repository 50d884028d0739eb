"""Which way up a scan is shown, against nibabel's orientations."""

from __future__ import annotations

from itertools import product

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from medad_plugins.data import upright_turn
from medad_plugins.data.scan import PICTURE_AFFINE
from medad_plugins.data.upright import UPRIGHT_SLICES

PICTURE = np.arange(12.0).reshape(3, 4)  # (rows, columns)
# rows, columns and the axis across, as radiologists look at a slice
PLANES = {"axial": "PLS", "coronal": "ILA", "sagittal": "IPR"}
_OPPOSITE = dict(zip("RLAPSI", "LRPAIS"))
STORED = [
    (plane, "".join(code if keep else _OPPOSITE[code] for code, keep in zip(codes, kept)))
    for plane, shown in PLANES.items()
    for codes in (shown[:2] + shown[2], shown[1] + shown[0] + shown[2])
    for kept in product((True, False), (True, False), (True, False))
]


def _affine(codes: str, shape: tuple[int, int]) -> np.ndarray:
    """Of an array of these axes whose voxels are 2 x 3 x 4 mm along R, A and S."""
    to_ras = axcodes2ornt(codes)
    full = (*shape, 1)
    return np.diag([2.0, 3, 4, 1]) @ np.linalg.inv(inv_ornt_aff(to_ras, full))


def _stored(codes: str, plane: str) -> np.ndarray:
    turn = ornt_transform(axcodes2ornt(PLANES[plane]), axcodes2ornt(codes))
    return apply_orientation(PICTURE[..., None], turn)[..., 0]


@pytest.mark.parametrize(("plane", "codes"), STORED)
def test_however_it_is_stored_the_picture_is_the_same(plane: str, codes: str) -> None:
    stored = _stored(codes, plane)
    affine = _affine(codes, stored.shape)
    assert "".join(nibabel.aff2axcodes(affine)) == codes
    turn = upright_turn(affine)
    assert np.array_equal(turn(stored), PICTURE)
    # colours stand before the axes
    assert np.array_equal(turn(np.stack([stored, -stored])), np.stack([PICTURE, -PICTURE]))
    # every pixel stays where it is in the patient
    index = turn.matrix(stored.shape) @ [1, 2, 0, 1]
    assert stored[int(index[0]), int(index[1])] == PICTURE[1, 2]


def test_a_picture_file_is_shown_as_it_is() -> None:
    assert np.array_equal(upright_turn(PICTURE_AFFINE)(PICTURE.T), PICTURE)


@pytest.mark.parametrize("degrees", [-44, -45, -20, 20, 44, 45])
def test_the_nearest_axes_decide(degrees: float) -> None:
    angle = np.radians(degrees)
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert upright_turn(turned @ PICTURE_AFFINE) == upright_turn(PICTURE_AFFINE)
    # also where they were rounded to the precision of a file
    assert upright_turn((turned @ PICTURE_AFFINE).astype(np.float32)) == upright_turn(PICTURE_AFFINE)


def test_a_sheared_slice_of_two_axes_alone() -> None:
    assert upright_turn(np.array([[-1.0, 0.3, 5], [0, -2, 5], [0, 0, 1]])) == upright_turn(PICTURE_AFFINE)


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.diag([1.0, 0, 1, 1]), np.full((4, 4), np.nan)])
def test_what_lies_nowhere_has_columns_first(affine: np.ndarray) -> None:
    assert upright_turn(affine) == (True, ())


@pytest.mark.parametrize(("axis", "plane"), [(0, "sagittal"), (1, "coronal"), (2, "axial")])
def test_slices_of_volumes_stand_as_scans_of_one_slice_do(axis: int, plane: str) -> None:
    axes = UPRIGHT_SLICES[axis]
    assert axes[axis] == "RAS"[axis]
    assert axes[:axis] + axes[axis + 1 :] == PLANES[plane][:2]
