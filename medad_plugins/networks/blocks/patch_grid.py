"""A scan or feature map as a small grid of patches, and back."""

from __future__ import annotations

import itertools

from torch import Tensor

__all__ = ["join_patches", "neighbouring_positions", "position_codes", "split_patches"]


def neighbouring_positions(spatial_dims: int, parts: int) -> list[list[int]]:
    """For each patch those around it, corners included; the number of all patches where that is outside the scan.

    Args:
        spatial_dims: 2 or 3.
        parts: of each edge; patches are counted along the last axis first.
    """
    places = list(itertools.product(range(parts), repeat=spatial_dims))
    numbers = {place: number for number, place in enumerate(places)}
    steps = [step for step in itertools.product((-1, 0, 1), repeat=spatial_dims) if any(step)]
    around = [[tuple(p + s for p, s in zip(place, step)) for step in steps] for place in places]
    return [[numbers.get(place, len(places)) for place in row] for row in around]


def position_codes(positions: int) -> list[list[float]]:
    """The number of each position in binary, highest digit first, with as many digits as that of all needs."""
    digits = positions.bit_length()
    return [[float(number >> digit & 1) for digit in reversed(range(digits))] for number in range(positions)]


def split_patches(x: Tensor, parts: int) -> Tensor:
    """``(B, C, *spatial)`` to patches ``(B * positions, C, *spatial / parts)``, case by case; `parts` of each edge."""
    dims = x.dim() - 2
    shape = [x.shape[0], x.shape[1]]
    # (B, C, p, s, p, s) to (B, p, p, C, s, s)
    order, inside = [0], [1]
    for axis in range(dims):
        shape += [parts, x.shape[2 + axis] // parts]
        order.append(2 + 2 * axis)
        inside.append(3 + 2 * axis)
    return x.reshape(shape).permute(order + inside).flatten(0, dims)


def join_patches(patches: Tensor, parts: int) -> Tensor:
    """Patches ``(B * positions, C, *spatial / parts)`` back to ``(B, C, *spatial)``."""
    dims = patches.dim() - 2
    positions = 1
    for _ in range(dims):
        positions *= parts  # to TorchScript a power of whole numbers is none
    shape = [patches.shape[0] // positions]
    whole = [patches.shape[0] // positions, patches.shape[1]]
    # (B, p, p, C, s, s) to (B, C, p, s, p, s)
    order = [0, 1 + dims]
    for axis in range(dims):
        shape.append(parts)
        whole.append(parts * patches.shape[2 + axis])
        order += [1 + axis, 2 + dims + axis]
    shape.append(patches.shape[1])
    for axis in range(dims):
        shape.append(patches.shape[2 + axis])
    return patches.reshape(shape).permute(order).reshape(whole)
