"""The one-class bottleneck by its description: fusion of three scales, then a residual stage of stride 2."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from plain_resnet import vary_norms
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks import OneClassBottleneck

WIDTHS = {"resnet10": (64, 128, 256, 512), "resnet50": (256, 512, 1024, 2048)}


def _taps(architecture: str, *size: int, batch: int = 2) -> list[Tensor]:
    """Random features of strides 4, 8 and 16 of an image of a size."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.rand(batch, width, *[-(-edge // stride) for edge in size], generator=generator)
        for width, stride in zip(WIDTHS[architecture][:3], (4, 8, 16), strict=True)
    ]


def _bottleneck(architecture: str = "resnet10", spatial_dims: int = 2) -> OneClassBottleneck:
    torch.manual_seed(0)
    bottleneck = OneClassBottleneck(architecture, spatial_dims)
    vary_norms(bottleneck)
    return bottleneck.eval()


def _conv_norm(state: Mapping[str, Tensor], conv: str, norm: str, x: Tensor, stride: int) -> Tensor:
    kernel = state[f"{conv}.weight"]
    function = functional.conv2d if x.dim() == 4 else functional.conv3d
    y = function(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
    mean, variance, weight, bias = (
        state[f"{norm}.{name}"].reshape(1, -1, *[1] * (x.dim() - 2))
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    return (y - mean) / (variance + 1e-5).sqrt() * weight + bias


def _written_out(state: Mapping[str, Tensor], taps: list[Tensor]) -> Tensor:
    """Fused ``[reduce(reduce(tap1)), reduce(tap2), tap3]``, then residual blocks of which the first has stride 2."""
    coarse = _conv_norm(state, "reduce1.0.0", "reduce1.0.1", taps[0], 2).relu()
    coarse = _conv_norm(state, "reduce1.1.0", "reduce1.1.1", coarse, 2).relu()
    x = torch.cat([coarse, _conv_norm(state, "reduce2.0", "reduce2.1", taps[1], 2).relu(), taps[2]], 1)
    for index in range(sum(name.endswith("conv1.weight") for name in state)):
        name, stride = f"embed.{index}", 2 if index == 0 else 1
        bottleneck = f"{name}.conv3.weight" in state
        out = _conv_norm(state, f"{name}.conv1", f"{name}.bn1", x, 1 if bottleneck else stride).relu()
        out = _conv_norm(state, f"{name}.conv2", f"{name}.bn2", out, stride if bottleneck else 1)
        if bottleneck:
            out = _conv_norm(state, f"{name}.conv3", f"{name}.bn3", out.relu(), 1)
        if index == 0:
            x = _conv_norm(state, f"{name}.downsample.0", f"{name}.downsample.1", x, 2)
        x = (out + x).relu()
    return x


@pytest.mark.parametrize(
    ("architecture", "size"), [("resnet10", (64, 96)), ("resnet10", (40, 33, 64)), ("resnet50", (37, 50))]
)
def test_embedding_is_that_of_its_description(architecture: str, size: tuple[int, ...]) -> None:
    bottleneck, taps = _bottleneck(architecture, len(size)), _taps(architecture, *size)
    with torch.no_grad():
        embedding = bottleneck(taps)
        expected = _written_out(bottleneck.state_dict(), taps)
    assert embedding.shape == (2, WIDTHS[architecture][3], *[-(-edge // 32) for edge in size])
    torch.testing.assert_close(embedding, expected, rtol=1e-4, atol=1e-4)
    assert float(embedding.min()) >= 0 and float(embedding.std()) > 0.01


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_every_scale_counts(scale: int) -> None:
    bottleneck, taps = _bottleneck(), _taps("resnet10", 64, 64)
    changed = [tap + float(index == scale) for index, tap in enumerate(taps)]
    with torch.no_grad():
        assert float((bottleneck(changed) - bottleneck(taps)).abs().max()) > 1e-3


@pytest.mark.parametrize(("architecture", "blocks"), [("resnet18", 2), ("resnet34", 3), ("wide_resnet50_2", 3)])
def test_it_is_as_deep_and_wide_as_the_teachers_last_stage(architecture: str, blocks: int) -> None:
    with torch.device("meta"):
        bottleneck = OneClassBottleneck(architecture)
    assert len(bottleneck.embed) == blocks
    assert all(m.bias is None for m in bottleneck.modules() if isinstance(m, nn.Conv2d))
    if architecture == "wide_resnet50_2":
        convolutions = [m for m in bottleneck.embed.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        assert [m.out_channels for m in convolutions] == [1024] * 3, "twice its planes"


def test_initialisation() -> None:
    torch.manual_seed(0)
    for module in OneClassBottleneck("resnet10").modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight[:, 0].numel()
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_scripted_it_gives_the_same_embedding() -> None:
    bottleneck, taps = _bottleneck(), _taps("resnet10", 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(bottleneck)(taps), bottleneck(taps), rtol=1e-5, atol=1e-6)
