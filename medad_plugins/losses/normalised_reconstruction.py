"""Reconstruction error of scans as an encoder towards one centre sees them, for its first stage."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from medad_plugins.networks.families.one_centre import OneCentre

__all__ = ["normalised_reconstruction"]


def normalised_reconstruction(network: OneCentre, batch: dict[str, Any]) -> dict[str, Tensor]:
    """``reconstruction``, the mean squared residual of the normalised scans ``batch["image"]``."""
    image = batch["image"]
    residual = network.rebuild(image) - network.normalised(image)
    return {"reconstruction": residual.square().mean()}
