"""GLASS' other forms: hypersphere and noise as texture, as its bundle trains them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bundle_runs import copy_bundle, run_config, small_values

from medad_plugins.methods.glass import GLASS

pytestmark = pytest.mark.usefixtures("process_settings")


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_centre_is_that_of_the_last_epochs_network(
    spatial_dims: int, cohorts: dict[int, Path], tmp_path: Path
) -> None:
    others = {
        "hypothesis": "hypersphere",
        "texture": "noise",
        "train::dataloader::epoch_length": 1,
        "spatial_dims": spatial_dims,
    }
    # with a learning rate of zero the network before the last epoch is the network at the end
    values = small_values("glass", learning_rate=0.0, projection_learning_rate=0.0, **others)
    workflow = run_config(copy_bundle("glass", tmp_path), "train", dataset_dir=str(cohorts[spatial_dims]), **values)
    network: GLASS = workflow.network_def.eval()
    scans = [case["image"].as_tensor()[None] for case in workflow.parser.get_parsed_content("train::dataset").data]
    assert len(scans) == 4 and network.centre is not None and int(network.centre.count) == 4
    with torch.no_grad():
        expected = torch.stack([network.adapted(network.features(scan))[0] for scan in scans]).mean(0)
    torch.testing.assert_close(network.centre.mean.flatten(1).T, expected, rtol=1e-4, atol=1e-5)
