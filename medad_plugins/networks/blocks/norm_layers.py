"""Normalisation and activation layers by name."""

from __future__ import annotations

import math

import ignite.distributed as idist
from monai.networks.layers.factories import Norm
from torch import Tensor, nn

from medad_plugins.errors import InputError

__all__ = ["NORMS", "activation_layer", "norm_layer", "require_several"]

NORMS = ("batch", "instance", "layer", "group", "none")


def norm_layer(norm: str, spatial_dims: int, channels: int) -> nn.Module | None:
    """A normalisation layer; None for ``"none"``.

    Args:
        norm: ``"batch"``, ``"instance"`` (with learnt scales), ``"layer"`` (all channels and locations of a case
            together), ``"group"`` (eight groups of channels, fewer where eight do not divide them) or ``"none"``. A
            critic that is trained with a gradient penalty must not have ``"batch"``.
        spatial_dims: 1 (for vectors), 2 or 3.
        channels: how many.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {NORMS}, got {norm!r}.")
    if norm == "batch":
        batch: nn.Module = Norm[Norm.BATCH, spatial_dims](channels)
        return batch
    if norm == "instance":
        instance: nn.Module = Norm[Norm.INSTANCE, spatial_dims](channels, affine=True)
        return instance
    if norm == "none":
        return None
    return nn.GroupNorm(1 if norm == "layer" else math.gcd(8, channels), channels)


def activation_layer(slope: float) -> nn.Module:
    """ReLU, or for a slope above 0 its leaky form."""
    return nn.LeakyReLU(slope, inplace=True) if slope > 0 else nn.ReLU(inplace=True)


def require_several(image: Tensor) -> None:
    """InputError for a batch of a single scan, of which a batch norm of vectors would have no deviation."""
    if image.shape[0] * idist.get_world_size() == 1:
        todo = "give --batch_size 2 or more"
        raise InputError("batch norm needs more than one case", where="batch_size", found=1, todo=todo)
