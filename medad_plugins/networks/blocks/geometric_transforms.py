"""Geometric transforms of scans by whole pixels and quarter turns: nothing is interpolated."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError

__all__ = ["GeometricTransforms"]

QUARTERS = (1, 2, 4)


class GeometricTransforms(nn.Module):
    """Every combination of mirroring, shifts along each axis, and turns, in this order.

    Args:
        spatial_dims: 2 or 3.
        mirrored: also with the last spatial axis of images, the first of volumes, reversed: left and right.
        shift: by which share of an edge it is moved both ways along each axis, the border reflected; 0 does not move.
        turns: 1, 2 for half turns, or 4 for quarter turns, in the plane of the first two spatial axes.

    Attributes:
        factors: of each transform ``(T, K)`` its place along each of the K kinds that vary: mirroring, a shift along
            each axis, turns.
        sizes: how many places each kind has.

    Shape:
        ``(B, C, *spatial)`` to ``(B, T, C, *spatial)``.

    Raises:
        InputError: for quarter turns of what is not square in that plane.

    Example:
        >>> transforms = GeometricTransforms(2, mirrored=True, shift=0.25, turns=4)
        >>> transforms(torch.rand(2, 1, 32, 32)).shape, transforms.sizes
        (torch.Size([2, 72, 1, 32, 32]), [2, 3, 3, 4])
    """

    def __init__(self, spatial_dims: int = 2, mirrored: bool = False, shift: float = 0.08, turns: int = 4) -> None:
        super().__init__()
        if turns not in QUARTERS or not 0 <= shift < 0.5:
            raise ValueError(f"turns must be one of {QUARTERS} and shift in [0, 0.5), got {turns} and {shift}.")
        self.shift, self.turns, self.quarters = float(shift), turns, 4 // turns
        self.mirror_axis = 3 if spatial_dims == 2 else 2
        shifts = [(0, -1, 1)] * spatial_dims if shift > 0 else [(0,)] * spatial_dims
        kinds = [(0, 1) if mirrored else (0,), *shifts, tuple(range(turns))]
        self.specs: list[list[int]] = [list(spec) for spec in itertools.product(*kinds)]
        if len(self.specs) < 2:
            raise ValueError("there is nothing to tell apart: mirror, shift or turn.")
        varying = [place for place, kind in enumerate(kinds) if len(kind) > 1]
        self.sizes = [len(kinds[place]) for place in varying]
        factors = [[kinds[place].index(spec[place]) for place in varying] for spec in self.specs]
        self.factors: Tensor = nn.Buffer(torch.tensor(factors), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        edges = list(image.shape[2:])
        if self.turns == 4 and edges[0] != edges[1]:
            if torch.jit.is_scripting():
                raise RuntimeError("quarter turns want scans that are square")
            else:
                raise InputError(
                    "quarter turns want scans that are as wide as they are high",
                    found=" x ".join(str(int(edge)) for edge in edges),
                    todo="give equal edges as --image_size, or --turns 2",
                )
        steps: list[int] = []
        pads: list[int] = []
        for edge in edges:
            # TorchScript rounds to a float
            step = max(int(round(self.shift * edge)), 1) if self.shift > 0 else 0  # noqa: RUF046
            steps.append(step)
            pads = [step, step] + pads
        padded = functional.pad(image, pads, mode="reflect") if self.shift > 0 else image
        found: list[Tensor] = []
        for spec in self.specs:
            found.append(self._transformed(padded, spec, steps, edges))
        return torch.stack(found, 1)

    def _transformed(self, padded: Tensor, spec: list[int], steps: list[int], edges: list[int]) -> Tensor:
        x = padded.flip([self.mirror_axis]) if spec[0] == 1 else padded
        for axis in range(len(edges)):
            x = x.narrow(2 + axis, steps[axis] * (1 - spec[1 + axis]), edges[axis])
        quarter = spec[len(spec) - 1] * self.quarters
        if quarter == 1:
            x = x.transpose(2, 3).flip([2])
        elif quarter == 2:
            x = x.flip([2, 3])
        elif quarter == 3:
            x = x.transpose(2, 3).flip([3])
        return x
