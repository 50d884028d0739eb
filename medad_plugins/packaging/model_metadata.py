"""What a trained model takes and gives, in the words of a bundle's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from monai.utils import ensure_tuple_rep

from medad_plugins.engines import ModelFile

__all__ = ["describe_model"]


def describe_model(metadata: Mapping[str, Any], model: ModelFile) -> dict[str, Any]:
    """The bundle's metadata with the grid and the channels of one model.

    A bundle's own metadata speaks of its default; what is packaged may be trained on volumes, in colour or at another
    size, and hosts and export commands make their inputs from what they read here.

    Args:
        metadata: of the bundle.
        model: the model.
    """
    described = deepcopy(dict(metadata))
    dims, channels = int(model.setting("spatial_dims")), int(model.setting("in_channels"))
    shape = [int(edge) for edge in ensure_tuple_rep(model.setting("image_size"), dims)]
    slice_axis = model.setting("slice_axis", None)
    if isinstance(slice_axis, int):  # the network sees slices, the inferer makes them
        del shape[slice_axis]
    elif slice_axis is not None and not model.cuts_volumes:
        shape = model.scan().network_edges
    image = described["network_data_format"]["inputs"]["image"]
    pred = described["network_data_format"]["outputs"]["pred"]
    image["spatial_shape"], pred["spatial_shape"] = shape, list(shape)
    if image["num_channels"] != channels:
        image["num_channels"] = channels
        image["channel_def"] = {str(index): f"image channel {index}" for index in range(channels)}
    return described
