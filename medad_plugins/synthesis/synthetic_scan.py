"""A whole scan, as it is stored, with a synthetic anomaly in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medad_plugins.synthesis.body import FindBodyd
from medad_plugins.synthesis.recipe import Recipe
from medad_plugins.synthesis.synthesize import SynthesizeAnomalyd

__all__ = ["make_anomaly"]


def make_anomaly(
    scan: NDArray, affine: NDArray, recipes: Sequence[Recipe], seed: int, has_channels: bool = False
) -> dict[str, Any] | None:
    """A scan with an anomaly in its body by the first of the recipes that finds a place for one.

    Args:
        scan: ``(*spatial)``, or ``(*spatial, C)`` where it has channels.
        affine: voxel to world.
        recipes: that take nothing from other scans.
        seed: of the anomaly.
        has_channels: whether the last axis is colours.

    Returns:
        ``image`` float32 of the scan's shape and scale, ``mask`` uint8 ``(*spatial)`` and ``recipe``; None where none
        found a place.
    """
    low, high = (float(value) for value in np.percentile(scan, (0.5, 99.5)))
    scale = max(high - low, 1e-6)
    first = np.moveaxis(scan, -1, 0) if has_channels else scan[None]
    image = MetaTensor(torch.from_numpy((first - low) / scale).float(), affine=torch.as_tensor(affine))
    case = FindBodyd()({"image": image})
    for recipe in recipes:
        make = SynthesizeAnomalyd([recipe], prob=1, body_key="body", spatial_dims=first.ndim - 1)
        made = make.set_random_state(seed)(case)
        if made["is_anomalous"]:
            mask = np.asarray(made["mask"][0]).astype(np.uint8)
            values = np.asarray(made["image"], dtype=np.float32) * scale + low
            changed = np.where(mask, values, first).astype(np.float32)
            whole = np.moveaxis(changed, 0, -1) if has_channels else changed[0]
            return {"image": whole, "mask": mask, "recipe": recipe.name}
    return None
