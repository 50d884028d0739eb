"""New values in an old scan."""

from __future__ import annotations

import torch
from monai.data import MetaTensor

__all__ = ["with_values"]


def with_values(image: MetaTensor, values: torch.Tensor) -> MetaTensor:
    """The scan ``(C, *spatial)`` with other values of the same shape, and all that is known of it."""
    return MetaTensor(
        values, meta=image.meta, applied_operations=image.applied_operations, spatial_ndim=image.spatial_ndim
    )
