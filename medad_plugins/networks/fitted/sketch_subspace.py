"""The main directions of normal feature vectors from a sketch of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.one_class_head import OneClassHead

__all__ = ["SketchSubspace", "frequent_directions"]


class SketchSubspace(OneClassHead):
    """Length of what of a vector the main directions of the normal ones do not span, over the root of the dimensions.

    The directions are those of a sketch, a small matrix that stands for all vectors and is updated row by row
    (`frequent_directions`).

    Args:
        directions: how many are kept; the sketch has twice as many rows.

    Buffers:
        mean ``(D,)``. axes ``(K, D)``.

    Raises:
        InputError: there are not more normal vectors or values than directions.

    Reference:
        Huang and Kasiviswanathan, "Streaming anomaly detection using randomized matrix sketching", VLDB 2015; Liberty,
        "Simple and deterministic matrix sketching", KDD 2013.
    """

    def __init__(self, directions: int = 32) -> None:
        super().__init__()
        if directions < 1:
            raise ValueError(f"directions must be at least 1, got {directions}.")
        self.directions = directions
        self.mean: Tensor = nn.Buffer(torch.empty(0))
        self.axes: Tensor = nn.Buffer(torch.empty(0))

    def fit(self, vectors: Tensor) -> None:
        least = min(len(vectors) - 1, vectors.shape[1] - 1)
        if self.directions > least:
            raise InputError(
                "the normal scans do not have so many directions",
                where=f"--directions {self.directions}",
                expected=f"at most {least}, less than the scans and than their values",
                found=f"{len(vectors)} scans of {vectors.shape[1]} values",
                todo="list more normal scans or lower --directions",
            )
        x = vectors.double()
        mean = x.mean(0)
        sketch = frequent_directions(x - mean, 2 * self.directions)
        right = torch.linalg.svd(sketch, full_matrices=False).Vh
        self.mean, self.axes = mean.float(), right[: self.directions].float().contiguous()

    def forward(self, vectors: Tensor) -> Tensor:
        if self.mean.numel() == 0:
            raise RuntimeError("the sketch has not been fitted.")
        x = vectors.float() - self.mean
        rest = x - (x @ self.axes.t()) @ self.axes
        return (rest.square().sum(1) / x.shape[1]).sqrt()


def frequent_directions(rows: Tensor, size: int) -> Tensor:
    """A sketch ``(size, D)`` of rows ``(n, D)`` by the method of frequent directions.

    Along no unit vector x is ``|Ax|^2 - |Bx|^2`` below 0 or above ``|A|^2 / (size / 2)``, A the rows and B the sketch.

    Args:
        rows: float64.
        size: rows of the sketch, even.
    """
    half = size // 2
    sketch = rows[:0]
    for block in rows.split(max(1, size - half)):
        filled = torch.cat([sketch, block])
        if len(filled) <= half:
            sketch = filled
            continue
        _, singular, right = torch.linalg.svd(filled, full_matrices=False)
        singular, right = singular[:size], right[:size]
        least = singular[half].square() if len(singular) > half else singular.new_zeros(())
        kept = (singular.square() - least).clamp_min(0).sqrt()[:half]
        sketch = kept[:, None] * right[:half]
    return torch.cat([sketch, rows.new_zeros(max(0, size - len(sketch)), rows.shape[1])])
