"""Slices of volumes along any axis, upright, and volumes put together of them again."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from medad_plugins.data.upright import UPRIGHT_SLICES
from medad_plugins.volume_slices import padded, turned_upright, upright_slices, volumes_of_slices

VOLUMES = torch.arange(2 * 1 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 1, 3, 4, 5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_stand_as_orientation_by_name_has_them(axis: int) -> None:
    names = nib.orientations.axcodes2ornt(UPRIGHT_SLICES[axis])
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), names)
    expected = np.stack([nib.orientations.apply_orientation(volume[0], turn)[None] for volume in VOLUMES.numpy()])
    assert np.array_equal(turned_upright(VOLUMES, axis), expected)
    assert np.array_equal(upright_slices(VOLUMES, axis)[1], np.take(expected[0], 1, 1 + axis))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_make_the_volumes_again(axis: int) -> None:
    assert torch.equal(volumes_of_slices(upright_slices(VOLUMES, axis), axis, 2), VOLUMES)


def test_slices_are_made_square_by_zeros() -> None:
    found = padded(torch.ones(2, 1, 3, 4), 5)
    assert found.shape == (2, 1, 5, 5) and found.sum() == 24 and bool((found[:, :, :3, :4] == 1).all())
