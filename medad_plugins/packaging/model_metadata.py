"""What a trained model takes and gives, in the words of a bundle's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

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
    channels = int(model.setting("in_channels"))
    scan = model.scan()
    # the network sees slices and tiles, the inferer makes them; but one that knows places cuts the tiles itself
    cuts_tiles = any(name.startswith("tile_states.0.") for name in model.content["model"])
    is_tile = scan.tiles is not None and not cuts_tiles
    shape = scan.network_edges if is_tile else replace(scan, roi_size=None).network_edges
    if model.cuts_volumes:
        shape = scan.whole_edges
    image = described["network_data_format"]["inputs"]["image"]
    pred = described["network_data_format"]["outputs"]["pred"]
    image["spatial_shape"], pred["spatial_shape"] = shape, list(shape)
    image["is_patch_data"] = pred["is_patch_data"] = is_tile
    if image["num_channels"] != channels:
        image["num_channels"] = channels
        image["channel_def"] = {str(index): f"image channel {index}" for index in range(channels)}
    return described
