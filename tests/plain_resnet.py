"""A residual network written out in plain functions, to compare with: torchvision's layout and names, 2D."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks import ResNetTaps

BLOCKS = {
    "resnet10": (1, 1, 1, 1),
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "wide_resnet50_2": (3, 4, 6, 3),
}


def vary_norms(module: nn.Module, seed: int = 0) -> None:
    """Give every batch norm statistics and an affine part of its own, so that a wrong one shows."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            assert norm.running_mean is not None and norm.running_var is not None
            for values, low, high in (
                (norm.weight.data, 0.5, 1.5),
                (norm.bias.data, -0.3, 0.3),
                (norm.running_mean, -0.2, 0.2),
                (norm.running_var, 0.5, 1.5),
            ):
                values.copy_(torch.rand(values.shape, generator=generator) * (high - low) + low)


def varied_taps(architecture: str, spatial_dims: int = 2, in_channels: int = 3, stages: int = 4) -> ResNetTaps:
    """Backbone with random weights that do not depend on the tests before, in eval mode."""
    torch.manual_seed(0)
    taps = ResNetTaps(architecture, spatial_dims, in_channels, stages)
    vary_norms(taps)
    return taps.eval()


def _norm(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    shape = (1, -1, 1, 1)
    return (x - mean.reshape(shape)) / (variance.reshape(shape) + 1e-5).sqrt() * weight.reshape(shape) + bias.reshape(
        shape
    )


def _block(state: Mapping[str, Tensor], name: str, x: Tensor, stride: int) -> Tensor:
    def conv(number: int, x: Tensor, stride: int = 1) -> Tensor:
        kernel = state[f"{name}.conv{number}.weight"]
        return functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    bottleneck = f"{name}.conv3.weight" in state
    out = _norm(state, f"{name}.bn1", conv(1, x, 1 if bottleneck else stride)).relu()
    out = _norm(state, f"{name}.bn2", conv(2, out, stride if bottleneck else 1))
    if bottleneck:
        out = _norm(state, f"{name}.bn3", conv(3, out.relu()))
    if f"{name}.downsample.0.weight" in state:
        x = _norm(
            state, f"{name}.downsample.1", functional.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
        )
    return (out + x).relu()


def plain_taps(state: Mapping[str, Tensor], architecture: str, rgb: Tensor, stages: int = 4) -> list[Tensor]:
    """Outputs of the stages for an RGB image ``(B, 3, H, W)`` in 0..1."""
    # the network's own constants are float32
    mean, std = torch.tensor([0.485, 0.456, 0.406]).to(rgb), torch.tensor([0.229, 0.224, 0.225]).to(rgb)
    x = (rgb - mean.reshape(1, 3, 1, 1)) / std.reshape(1, 3, 1, 1)
    x = _norm(state, "bn1", functional.conv2d(x, state["conv1.weight"], stride=2, padding=3)).relu()
    x = functional.max_pool2d(x, 3, 2, 1)
    taps = []
    for stage in range(1, stages + 1):
        for block in range(BLOCKS[architecture][stage - 1]):
            x = _block(state, f"layer{stage}.{block}", x, 2 if stage > 1 and block == 0 else 1)
        taps.append(x)
    return taps
