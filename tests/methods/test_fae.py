"""FAE by its paper: features, coder, similarity, map, and what learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short_trainings import alike_scans, standing_out, train_for_seconds, weights_of_varied_taps
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses import ResidualLoss
from medad_plugins.methods.fae import FAE, FeatureDissimilarity, StructuralCoder


def _fae(spatial_dims: int = 2, **others: Any) -> FAE:
    torch.manual_seed(0)
    return FAE(spatial_dims, 1, "resnet10", "none", widths=(8, 12), **others)


def _scan(*size: int) -> Tensor:
    return torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))


def _plain_dissimilarity(one: Tensor, other: Tensor) -> Tensor:
    """Window 5, deviation 1.5, zeros beyond the border, place by place."""
    offsets = np.arange(-2, 3)
    weights = np.exp(-0.5 * (offsets[:, None] ** 2 + offsets**2) / 1.5**2)
    weights /= weights.sum()
    padded = [functional.pad(values, [2] * 4).double().numpy() for values in (one, other)]
    found = np.zeros(one.shape)
    for place in np.ndindex(*one.shape):
        case, channel, row, column = place
        a, b = (values[case, channel, row : row + 5, column : column + 5] for values in padded)
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * a * a).sum() - mean_a**2, (weights * b * b).sum() - mean_b**2
        covariance = (weights * a * b).sum() - mean_a * mean_b
        found[place] = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
        found[place] *= (2 * covariance + 9e-4) / (var_a + var_b + 9e-4)
    return torch.from_numpy(1 - found).float().mean(1, keepdim=True)


def test_dissimilarity_by_loops() -> None:
    one, other = (torch.rand(1, 3, 7, 6, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    torch.testing.assert_close(
        FeatureDissimilarity()(one, other), _plain_dissimilarity(one, other), rtol=1e-4, atol=1e-5
    )
    assert float(FeatureDissimilarity()(one, one).abs().max()) < 1e-6


@pytest.mark.parametrize("size", [(64, 64), (50, 37)])
def test_map_is_the_dissimilarity_on_the_finest_grid_brought_to_the_image(size: tuple[int, int]) -> None:
    network, image = _fae().eval(), _scan(*size)
    with torch.no_grad():
        found = network(image)
        stem, one, two = network.features(image)
        assert stem.shape == one.shape
        joined = [stem, one, functional.interpolate(two, one.shape[2:], mode="bilinear", align_corners=True)]
        features = torch.cat(joined, 1)
        expected = _plain_dissimilarity(network.coder(features), features)
    expected = functional.interpolate(expected, size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert found.dtype == torch.float32


def test_the_paper_s_layers() -> None:
    coder = StructuralCoder(2, 256)
    convolutions = [layer for layer in coder.layers if isinstance(layer, nn.Conv2d)]
    back = [layer for layer in coder.layers if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in convolutions] == [100, 150, 200, 300, 300, 256]
    assert [layer.out_channels for layer in back] == [200, 150, 100, 256]
    assert coder(torch.zeros(1, 256, 32, 32)).shape == (1, 256, 32, 32)
    assert FAE(weights="none").align.out_channels == 64 + 64 + 128


def test_volumes() -> None:
    network = _fae(3).eval()
    with torch.no_grad():
        assert network(_scan(32, 36, 33)).shape == (2, 1, 32, 36, 33)


def test_the_backbone_stays_as_it_is_while_the_coder_learns() -> None:
    """In the public code the frozen backbone's norms follow the batches."""
    network = _fae()
    before = {name: value.clone() for name, value in network.features.state_dict().items()}
    network.train()
    loss = ResidualLoss(difference=network.difference)(network(_scan(64, 64)))
    loss.backward()
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == {"coder"} and not network.features.training
    assert len(network.coder_parameters()) == sum(1 for p in network.parameters() if p.requires_grad)
    for name, value in network.features.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.costly
def test_it_learns_normal_structure(tmp_path: Path) -> None:
    """What stands where nothing ever stood is found, after a short training and not before."""
    path = weights_of_varied_taps(tmp_path)
    torch.manual_seed(0)
    network = FAE(2, 1, "resnet10", path, widths=(16, 16, 16), dropout=0.0)
    normal = alike_scans()
    changed = normal[8:].clone()
    changed[:, :, 8:30, 34:56] = 1 - changed[:, :, 8:30, 34:56]

    before = standing_out(network, changed, normal[8:])
    train_for_seconds(
        network, network.coder_parameters(), ResidualLoss(difference=network.difference), normal[:8], 3e-3
    )
    after = standing_out(network, changed, normal[8:])
    assert after > max(1.1, 1.1 * before), (before, after)
    with torch.no_grad():
        found = network(changed)
    assert float(found[:, :, 8:30, 34:56].mean()) > 1.2 * float(found[:, :, 34:, :24].mean())


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _fae().eval(), _scan(64, 60)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)
