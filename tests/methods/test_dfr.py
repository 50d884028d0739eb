"""DFR by its paper: features joined at each place, a code as long as their components, and the error's map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short_trainings import alike_scans, standing_out, train_for_seconds, weights_of_varied_taps
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.data import ScanFormat
from medad_plugins.errors import InputError
from medad_plugins.losses import ResidualLoss
from medad_plugins.methods.dfr import DFR, PlaceCoder, explaining_components


def _dfr(spatial_dims: int = 2, **others: Any) -> DFR:
    torch.manual_seed(0)
    return DFR(spatial_dims, 1, "resnet10", "none", latent_size=6, **others)


def _scan(*size: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(0))


def test_the_paper_s_coder() -> None:
    layers = list(PlaceCoder(2, 40, 6))
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [26, 12, 6, 12, 26, 40]
    assert {layer.kernel_size for layer in convolutions} == {(1, 1)}
    kinds = [type(layer).__name__ for layer in layers]
    assert kinds[6:8] == ["Conv2d", "Conv2d"] and kinds[-1] == "Conv2d" and kinds.count("ReLU") == 4


@pytest.mark.parametrize("size", [(64, 64), (50, 70)])
def test_map_is_the_squared_error_at_each_place(size: tuple[int, int]) -> None:
    network, image = _dfr().eval(), _scan(*size)
    with torch.no_grad():
        found = network(image)
        taps = network.features(image)
        grid = taps[0].shape[2:]
        joined = [functional.interpolate(tap, grid, mode="bilinear", align_corners=True) for tap in taps]
        features = torch.cat(joined, 1)
        assert features.shape[1] == 64 + 128 + 256
        error = torch.zeros(2, 1, *grid)
        for case, row, column in np.ndindex(2, *grid):
            place = features[case, :, row, column][None, :, None, None]
            error[case, 0, row, column] = (network.coder(place) - place).square().mean()
    expected = functional.interpolate(error, size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_volumes() -> None:
    network = _dfr(3).eval()
    with torch.no_grad():
        assert network(_scan(32, 36, 33)).shape == (2, 1, 32, 36, 33)


def test_components_that_explain_a_share() -> None:
    scan = ScanFormat(spatial_dims=2, image_size=64, in_channels=1)
    cases: list[dict[str, Any]] = [{"image": image} for image in _scan(64, 64, batch=4)]
    torch.manual_seed(0)
    found = explaining_components(cases, lambda case: case, scan, "resnet10", share=0.9)
    torch.manual_seed(0)
    network = _dfr().eval()
    with torch.no_grad():
        features = network.align(network.features(torch.stack([case["image"] for case in cases])))
    vectors = features.movedim(1, -1).flatten(0, -2).double().numpy()
    values = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False) ** 2
    explained = np.cumsum(values) / values.sum()
    assert explained[found - 1] >= 0.9 > explained[found - 2]
    with pytest.raises(InputError, match="length of the code"):
        explaining_components([], lambda case: case, scan, "resnet10")


def test_only_the_coder_learns() -> None:
    network = _dfr()
    network.train()
    rebuilt, features = network(_scan(64, 64))
    loss = ResidualLoss(difference=network.difference)((rebuilt, features))
    torch.testing.assert_close(loss, (rebuilt - features).square().mean())
    loss.backward()
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == {"coder"} and not network.features.training


@pytest.mark.costly
def test_it_learns_normal_features(tmp_path: Path) -> None:
    path = weights_of_varied_taps(tmp_path)
    torch.manual_seed(0)
    network = DFR(2, 1, "resnet10", path, latent_size=8, scaling="standard")
    normal = alike_scans()
    changed = normal[8:].clone()
    changed[:, :, 8:40, 24:56] = torch.rand(2, 1, 32, 32)
    network.train()
    with torch.no_grad():
        network(normal[:8])

    before = standing_out(network, changed, normal[8:])
    train_for_seconds(
        network, network.coder_parameters(), ResidualLoss(difference=network.difference), normal[:8], 1e-2
    )
    after = standing_out(network, changed, normal[8:])
    assert after > max(1.3, 1.3 * before), (before, after)


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _dfr().eval(), _scan(64, 60)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)
