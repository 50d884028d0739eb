"""AnoDDPM: its map against a plain computation."""

from __future__ import annotations

import inspect

import pytest
import torch

from medad_plugins.methods.anoddpm import AnoDDPM


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_can_be_made_for_images_and_volumes(spatial_dims: int) -> None:
    torch.manual_seed(0)
    small = {"weights": "none"} if "weights" in inspect.signature(AnoDDPM).parameters else {}
    network = AnoDDPM(spatial_dims=spatial_dims, **small)
    assert network.calibration.reference_scores.numel() == 0, "nothing is calibrated before it is fitted"
