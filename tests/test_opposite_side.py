"""What both sides of a volume's map show alike is taken off."""

from __future__ import annotations

import pytest
import torch
from monai.utils import set_determinism
from scipy.ndimage import maximum_filter

from medad_plugins.opposite_side import OppositeSide, mirrored_volumes, opposite_places


def _head(shift: int = 0) -> torch.Tensor:
    """A box of tissue ``(1, 1, 21, 15, 15)``, its middle at 10 and so many voxels to the right."""
    volume = torch.full((1, 1, 21, 15, 15), 0.1)
    volume[:, :, 5 + shift : 16 + shift, 3:12, 3:12] = 1.0
    return volume


def test_as_computed_by_hand() -> None:
    torch.manual_seed(0)
    found = torch.rand(1, 1, 21, 15, 15)
    other = maximum_filter(found[0, 0].flip(0).numpy(), 3, mode="nearest")
    expected = (found[0, 0] - torch.from_numpy(other)).clamp_min(0)
    torch.testing.assert_close(OppositeSide(reach=1 / 21)(found, _head())[0, 0], expected)


def test_a_lesion_on_one_side_stays_and_what_both_have_goes_wherever_the_head_lies() -> None:
    for shift in (0, 3, -2):
        found = torch.zeros(2, 1, 21, 15, 15)
        found[:, :, 6 + shift, 7, 7] = 0.8  # both sides, not quite at the opposite place
        found[:, :, 14 + shift, 7, 8] = 0.9
        found[1, :, 13 + shift, 4, 4] = 1.0  # one side
        left = OppositeSide(reach=0.05)(found, torch.cat([_head(shift), _head(shift) * 0.5]))
        assert left[0].max() == pytest.approx(0.1)
        assert left[1].max() == 1.0 and left[1, 0, 13 + shift, 4, 4] == 1.0
        assert left.min() == 0


def test_a_head_is_mirrored_about_its_own_middle() -> None:
    for shift in (0, 3, -2):
        head = _head(shift)
        head[:, :, 6 + shift, 7, 7] = 0.5
        mirrored = mirrored_volumes(torch.cat([head, head * 0.5]))
        assert mirrored[0, 0, 14 + shift, 7, 7] == 0.5 and mirrored[0, 0, 6 + shift, 7, 7] == 1.0
        torch.testing.assert_close(mirrored[1], mirrored[0] * 0.5)
        assert opposite_places(head)[0, 5 + shift] == 15 + shift


def test_it_can_be_scripted() -> None:
    found, volume = torch.rand(1, 1, 9, 8, 7), torch.rand(1, 2, 9, 8, 7)
    module = OppositeSide()
    torch.testing.assert_close(torch.jit.script(module)(found, volume), module(found, volume))
    set_determinism(None)


def test_a_reach_across_the_middle_is_refused() -> None:
    with pytest.raises(ValueError, match="reach must be a share"):
        OppositeSide(0.5)
