"""The decoder mirrors its encoder, stage by stage."""

from __future__ import annotations

import pytest
import torch
from plain_resnet import vary_norms
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks import ResidualDecoder
from medad_plugins.networks.residual_decoder import DecoderBlock

DEEPEST = {"resnet10": 512, "resnet18": 512, "resnet34": 512, "resnet50": 2048, "wide_resnet50_2": 2048}


def _sizes(size: tuple[int, ...]) -> tuple[list[list[int]], list[int]]:
    """Grids of the three taps and of the deepest stage."""
    grids = [[-(-edge // stride) for edge in size] for stride in (4, 8, 16, 32)]
    return grids[:3], grids[3]


@pytest.mark.parametrize("size", [(64, 64), (37, 90), (20, 33, 17)])
def test_decoded_maps_have_the_shapes_of_the_taps(size: tuple[int, ...]) -> None:
    taps, deepest = _sizes(size)
    with torch.no_grad():
        decoded = ResidualDecoder("resnet10", len(size))(torch.rand(2, 512, *deepest), taps)
    assert [tuple(tap.shape) for tap in decoded] == [(2, width, *taps[i]) for i, width in enumerate((64, 128, 256))]
    assert all(bool((tap >= 0).all()) and bool((tap > 0).any()) for tap in decoded)


def _written_out(block: DecoderBlock, x: Tensor, size: list[int]) -> Tensor:
    """The block by its description: 1x1 (or 3x3), norm, ReLU, enlarge, 3x3, norm [ReLU, 1x1, norm]; plus shortcut."""

    def norm(module: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)
        return functional.batch_norm(x, module.running_mean, module.running_var, module.weight, module.bias)

    def conv(module: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(module, nn.Conv2d | nn.Conv3d) and module.bias is None
        function = functional.conv2d if x.dim() == 4 else functional.conv3d
        return function(x, module.weight, padding=module.weight.shape[-1] // 2)

    def enlarge(x: Tensor) -> Tensor:
        return functional.interpolate(x, size, mode="bilinear" if x.dim() == 4 else "trilinear", align_corners=False)

    grows = isinstance(block.shortcut, nn.Conv2d | nn.Conv3d)
    out = norm(block.bn1, conv(block.conv1, x)).relu()
    out = norm(block.bn2, conv(block.conv2, enlarge(out) if grows else out))
    if isinstance(block.expand, nn.Sequential):
        out = norm(block.expand[2], conv(block.expand[1], out.relu()))
    shortcut = norm(block.shortcut_norm, enlarge(conv(block.shortcut, x))) if grows else x
    return (out + shortcut).relu()


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("expansion", [1, 4])
@pytest.mark.parametrize("enlarges", [True, False])
def test_block_is_that_of_its_description(spatial_dims: int, expansion: int, enlarges: bool) -> None:
    torch.manual_seed(0)
    in_channels = 6 if enlarges else 3 * expansion
    block = DecoderBlock(spatial_dims, in_channels, 3, expansion, enlarges, 0.1)
    vary_norms(block)
    block.eval()
    size = [5, 7, 6][:spatial_dims] if enlarges else [3, 4, 3][:spatial_dims]
    x = torch.rand(2, in_channels, *[3, 4, 3][:spatial_dims])
    with torch.no_grad():
        out = block(x, size)
        torch.testing.assert_close(out, _written_out(block, x, size), rtol=1e-5, atol=1e-5)
    assert out.shape == (2, 3 * expansion, *size)
    kernels = [m.weight.shape[-1] for m in block.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    assert kernels == ([1, 3, 1] if expansion > 1 else [3, 3]) + ([1] if enlarges else [])


@pytest.mark.parametrize(
    ("architecture", "blocks", "widths"),
    [("resnet18", [2, 2, 2], (256, 128, 64)), ("resnet50", [6, 4, 3], (1024, 512, 256))],
)
def test_stages_mirror_the_encoder(architecture: str, blocks: list[int], widths: tuple[int, ...]) -> None:
    with torch.device("meta"):
        decoder = ResidualDecoder(architecture)
    assert [len(stage.blocks) for stage in decoder.stages] == blocks  # type: ignore[arg-type]
    # a stage decodes the stage before it, only its first block enlarges
    before = DEEPEST[architecture]
    for stage, width in zip(decoder.stages, widths, strict=True):
        shortcuts = [m for name, m in stage.named_modules() if name.endswith("shortcut") and isinstance(m, nn.Conv2d)]
        assert [(m.in_channels, m.out_channels) for m in shortcuts] == [(before, width)]
        before = width


def test_each_stage_decodes_what_the_deeper_one_decoded() -> None:
    torch.manual_seed(0)
    decoder = ResidualDecoder("resnet10").eval()
    taps, deepest = _sizes((32, 32))
    x = torch.rand(1, 512, *deepest)
    with torch.no_grad():
        finest_first = decoder(x, taps)
        for stage, size, expected in zip(decoder.stages, taps[::-1], finest_first[::-1], strict=True):
            for block in stage.blocks:  # type: ignore[union-attr]
                assert isinstance(block, DecoderBlock)
                x = _written_out(block, x, size)
            torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4)


def test_initialisation_and_momentum() -> None:
    torch.manual_seed(0)
    decoder = ResidualDecoder("resnet10", norm_momentum=0.02)
    for module in decoder.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight[:, 0].numel()
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        if isinstance(module, nn.BatchNorm2d):
            assert module.momentum == 0.02
            assert bool((module.weight == 1).all()) and bool((module.bias == 0).all())
