"""DRAEM by its paper: the two networks, what each gets to see, the map and the score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from plain_resnet import vary_norms
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.methods.draem import DRAEM
from medad_plugins.networks import PoolingUNet


def _draem(spatial_dims: int = 2, **arguments: float) -> DRAEM:
    torch.manual_seed(0)
    return DRAEM(spatial_dims, 1, 4, 2, 0.1, **{"window": 5, **arguments})  # type: ignore[arg-type]


def _scan(*size: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def _louder(network: nn.Module) -> None:
    """Larger kernels: those of the start would make all outputs alike."""
    for parameter in network.parameters():
        if parameter.dim() > 2:
            parameter.mul_(20)


def _widths(network: PoolingUNet) -> list[int]:
    return [int(level[0].out_channels) for level in network.down]  # type: ignore[index]


def test_the_networks_are_as_wide_as_the_papers() -> None:
    network = DRAEM(2, 3, 128, 64)
    assert _widths(network.reconstruction) == [128, 256, 512, 1024, 1024]
    assert _widths(network.segmentation) == [64, 128, 256, 512, 512, 512]
    assert (network.segmentation.down[0][0].in_channels, network.segmentation.head.out_channels) == (6, 2)  # type: ignore[index]


def test_convolutions_start_small() -> None:
    weights = torch.cat([p.detach().flatten() for n, p in DRAEM(2, 1, 16, 8).named_parameters() if p.dim() == 4])
    assert float(weights.std()) == pytest.approx(0.02, rel=0.02) and abs(float(weights.mean())) < 1e-4


def _plain_level(network: PoolingUNet, kind: str, index: int, x: Tensor) -> Tensor:
    state = network.state_dict()
    for conv, norm in ((0, 1), (3, 4)):
        x = functional.conv2d(x, state[f"{kind}.{index}.{conv}.weight"], padding=1)
        part = {n: state[f"{kind}.{index}.{norm}.{n}"] for n in ("running_mean", "running_var", "weight", "bias")}
        x = functional.relu(functional.batch_norm(x, **part))
    return x


@torch.no_grad()
@pytest.mark.parametrize("skips", [False, True])
def test_levels_are_pooled_and_interpolated(skips: bool) -> None:
    torch.manual_seed(1)
    network = PoolingUNet(2, 1, 2, [3, 4, 5], skips).eval()
    vary_norms(network)
    _louder(network)
    image = _scan(18, 15)  # sizes that cannot be halved twice
    levels, x = [], image
    for index in range(3):
        x = _plain_level(network, "down", index, functional.max_pool2d(x, 2) if index else x)
        levels.append(x)
    for index, finer in enumerate((1, 0)):
        x = functional.interpolate(x, levels[finer].shape[2:], mode="bilinear")
        x = _plain_level(network, "up", index, torch.cat([x, levels[finer]], 1) if skips else x)
    expected = functional.conv2d(x, network.head.weight, network.head.bias, padding=1)
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_second_network_sees_the_repaired_scan_and_the_scan(spatial_dims: int) -> None:
    network, image = _draem(spatial_dims), _scan(*[32] * spatial_dims)
    seen: list[Tensor] = []
    network.segmentation.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    repaired, logits = network(image)
    assert repaired.shape == image.shape and logits.shape == (2, 2, *image.shape[2:])
    assert torch.equal(seen[0], torch.cat([repaired, image], 1))
    # the segmentation loss also trains the repair
    logits.sum().backward()
    assert float(network.reconstruction.head.weight.grad.abs().sum()) > 0


def _window_means(values: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """Mean over a window about every place; beyond the border the map counts as zero."""
    padded, out = np.pad(values, window // 2), np.empty_like(values)
    for place in np.ndindex(*values.shape):
        out[place] = padded[tuple(slice(p, p + window) for p in place)].mean()
    return out


@torch.no_grad()
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_score_is_the_highest_window_mean_and_the_map_stays_sharp(spatial_dims: int) -> None:
    network = _draem(spatial_dims).eval()
    vary_norms(network)
    _louder(network)
    image = _scan(*[32] * spatial_dims)
    probability = torch.softmax(network.train(False).training_output(image)[1], 1)[:, 1:]
    anomaly_map = network(image)
    assert float(probability.std()) > 0.05
    assert 0 <= float(anomaly_map.min()) and float(anomaly_map.max()) <= 1
    for case in range(2):
        expected = _window_means(probability[case, 0].numpy(), 5).max()
        assert float(network.pool(anomaly_map)[case]) == pytest.approx(float(expected), rel=1e-5)
        scaled = probability[case] * float(expected) / probability[case].max()
        torch.testing.assert_close(anomaly_map[case], scaled, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_map_is_float32_in_half_precision() -> None:
    network, image = _draem().eval(), _scan(32, 32)
    expected = network(image)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(image)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.02)


def test_bad_settings_and_scans_are_refused() -> None:
    with pytest.raises(ValueError, match="window must be odd, got 4"):
        _draem(window=4)
    with pytest.raises(ValueError, match="widths must be two positive numbers"):
        PoolingUNet(2, 1, 1, [0, 4], True)
    with pytest.raises(InputError, match=r"coarsest level.*at least 32 pixels.*found 32 x 24\); raise --image_size"):
        _draem()(_scan(32, 24))
