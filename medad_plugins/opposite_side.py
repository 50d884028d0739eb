"""What one side of a volume's map shows and the other does not."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["OppositeSide", "mirrored_volumes", "opposite_places"]


def opposite_places(volume: Tensor) -> Tensor:
    """Places ``(B, R)`` along the first axis that lie opposite each, by the plane through the middle of what is bright.

    Args:
        volume: ``(B, C, R, A, S)`` in RAS.
    """
    width = volume.shape[2]
    dtype = volume.dtype if volume.dtype == torch.float64 else torch.float32
    places = torch.arange(width, device=volume.device, dtype=dtype)
    bright = (volume - volume.amin(dim=[1, 2, 3, 4], keepdim=True)).sum(dim=[1, 3, 4]).to(dtype)
    bright = bright + 1e-6  # where all is alike, the middle is that of the grid
    middle = (bright * places).sum(1) / bright.sum(1)
    return (2 * middle.unsqueeze(1) - places).round().long().clamp(0, width - 1)


def mirrored_volumes(volume: Tensor) -> Tensor:
    """Volumes ``(B, C, R, A, S)`` in RAS with left and right changed, by that plane and not by the grid's middle.

    Example:
        >>> mirrored_volumes(torch.tensor([0.0, 1.0, 0.5, 1.0, 0.0, 0.0]).reshape(1, 1, 6, 1, 1)).flatten().tolist()
        [0.0, 1.0, 0.5, 1.0, 0.0, 0.0]
    """
    return _exchanged(volume, volume)


def _exchanged(values: Tensor, volume: Tensor) -> Tensor:
    """Values ``(B, C, R, A, S)`` of the place opposite each, by the plane between the sides of the volume."""
    return torch.stack([case[:, index] for case, index in zip(values, opposite_places(volume))])


class OppositeSide(nn.Module):
    """Takes from a map what the opposite side shows too: of brains and other paired organs, both sides look alike.

    How much of a normal head stands out differs from person to person, by age for one, but it is much the same on both
    sides. So the map's values on the other side, the highest about the opposite place, are taken off. What lies in the
    middle or on both sides is lost with it. Sides are told apart by the plane through the middle of what is bright.

    Args:
        reach: how far about the opposite place its highest value is looked for, a share of the volume's width.

    Shape:
        map ``(B, 1, R, A, S)`` and its volume ``(B, C, R, A, S)``, both in RAS, to such a map, not negative.

    Example:
        >>> found = torch.zeros(1, 1, 9, 9, 9)
        >>> found[..., 2, 4, 4], found[..., 6, 4, 5], found[..., 7, 8, 8] = 1.0, 0.75, 0.5
        >>> left = OppositeSide(reach=0.1)(found, torch.ones_like(found))
        >>> left[0, 0, 2, 4, 4].item(), left[0, 0, 6, 4, 5].item(), left[0, 0, 7, 8, 8].item()
        (0.25, 0.0, 0.5)
    """

    def __init__(self, reach: float = 0.02) -> None:
        super().__init__()
        if not 0 <= reach < 0.5:
            raise ValueError(f"reach must be a share of the width from 0 to below 0.5, got {reach}.")
        self.reach = reach

    def forward(self, found: Tensor, volume: Tensor) -> Tensor:
        width = found.shape[2]
        taken = _exchanged(found, volume)
        margin = int(self.reach * width + 0.5)
        edge = 2 * margin + 1
        # the highest of a box is the highest along one axis after the other
        taken = functional.max_pool3d(taken, [edge, 1, 1], [1, 1, 1], [margin, 0, 0])
        taken = functional.max_pool3d(taken, [1, edge, 1], [1, 1, 1], [0, margin, 0])
        taken = functional.max_pool3d(taken, [1, 1, edge], [1, 1, 1], [0, 0, margin])
        return (found - taken).clamp_min(0)
