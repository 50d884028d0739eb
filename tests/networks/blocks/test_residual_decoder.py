"""The decoder mirrors its encoder, stage by stage."""

from __future__ import annotations

import pytest
import torch
from plain_resnet import vary_norms
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks import ResidualDecoder
from medad_plugins.networks.blocks.residual_decoder import DecoderBlock

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


def _transposed_written_out(block: DecoderBlock, x: Tensor, size: list[int]) -> Tensor:
    """The block of reverse distillation: a 2x2 transposed convolution of stride 2 where the grid is doubled."""
    state = block.state_dict()
    plane = x.dim() == 4

    def norm(name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, mean, var, weight, bias)

    def conv(name: str, x: Tensor) -> Tensor:
        kernel = state[f"{name}.weight"]
        return (functional.conv2d if plane else functional.conv3d)(x, kernel, padding=kernel.shape[-1] // 2)

    def double(name: str, x: Tensor) -> Tensor:
        # each voxel becomes a block of 2 x 2 (x 2), none overlapping another
        kernel = state[f"{name}.weight"]
        out = torch.einsum("bchw,cdij->bdhiwj" if plane else "bchwz,cdijk->bdhiwjzk", x, kernel)
        out = out.reshape(x.shape[0], kernel.shape[1], *[2 * edge for edge in x.shape[2:]])
        if list(out.shape[2:]) != size:
            out = functional.interpolate(out, size, mode="bilinear" if plane else "trilinear", align_corners=False)
        return out

    grows, bottleneck = "shortcut.weight" in state, "expand.1.weight" in state
    if bottleneck:
        out = norm("bn1", conv("conv1", x)).relu()
        out = norm("bn2", double("conv2", out) if grows else conv("conv2", out)).relu()
        out = norm("expand.2", conv("expand.1", out))
    else:
        out = norm("bn1", double("conv1", x) if grows else conv("conv1", x)).relu()
        out = norm("bn2", conv("conv2", out))
    return (out + (norm("shortcut_norm", double("shortcut", x)) if grows else x)).relu()


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("expansion", [1, 4])
@pytest.mark.parametrize("size", ["double", "odd", "same"])
def test_transposed_block_is_that_of_its_description(spatial_dims: int, expansion: int, size: str) -> None:
    torch.manual_seed(0)
    grid = [3, 4, 3][:spatial_dims]
    goal = {"double": [2 * edge for edge in grid], "odd": [2 * edge - 1 for edge in grid], "same": grid}[size]
    in_channels = 3 * expansion if size == "same" else 5
    width = 2 if expansion > 1 else 1  # a basic block has no inner width of its own
    block = DecoderBlock(spatial_dims, in_channels, 3, expansion, size != "same", 0.1, "transposed", width)
    vary_norms(block)
    block.eval()
    x = torch.rand(2, in_channels, *grid)
    with torch.no_grad():
        out = block(x, goal)
        torch.testing.assert_close(out, _transposed_written_out(block, x, goal), rtol=1e-5, atol=1e-5)
    assert out.shape == (2, 3 * expansion, *goal)
    kinds = [m for m in block.modules() if isinstance(m, nn.ConvTranspose2d | nn.ConvTranspose3d)]
    assert len(kinds) == (0 if size == "same" else 2)


@pytest.mark.parametrize("upsampling", ["interpolate", "transposed"])
def test_blocks_are_counted_from_the_deepest_stage(upsampling: str) -> None:
    with torch.device("meta"):
        decoder = ResidualDecoder("resnet34", upsampling=upsampling, blocks=(3, 4, 6))
    assert [len(stage.blocks) for stage in decoder.stages] == [3, 4, 6]  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(64, 64), (37, 90), (20, 33, 17)])
def test_transposed_decoder_gives_the_shapes_of_the_taps(size: tuple[int, ...]) -> None:
    taps, deepest = _sizes(size)
    torch.manual_seed(0)
    decoder = ResidualDecoder("resnet10", len(size), upsampling="transposed").eval()
    x = torch.rand(2, 512, *deepest)
    with torch.no_grad():
        finest_first = decoder(x, taps)
        assert [list(tap.shape[2:]) for tap in finest_first] == taps
        for stage, grid, expected in zip(decoder.stages, taps[::-1], finest_first[::-1], strict=True):
            for block in stage.blocks:  # type: ignore[union-attr]
                assert isinstance(block, DecoderBlock)
                x = _transposed_written_out(block, x, grid)
            torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4)
    transposed = nn.ConvTranspose2d if len(size) == 2 else nn.ConvTranspose3d
    for module in decoder.modules():
        if isinstance(module, transposed):
            fan = module.weight[:, 0].numel()
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan) ** 0.5, rel=0.05)


def test_skips_reach_the_next_stage_and_not_what_is_returned() -> None:
    torch.manual_seed(0)
    decoder = ResidualDecoder("resnet10").eval()
    taps, deepest = _sizes((64, 64))
    x = torch.rand(1, 512, *deepest)
    skips = [torch.rand(1, 256, 4, 4), torch.rand(1, 128, 8, 8)]
    with torch.no_grad():
        plain, skipped, first_only = decoder(x, taps), decoder(x, taps, skips), decoder(x, taps, skips[:1])
        assert torch.equal(plain[2], skipped[2])
        second = decoder.stages[1](plain[2] + skips[0], taps[1])
        torch.testing.assert_close(skipped[1], second, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(first_only[1], second, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(skipped[0], decoder.stages[2](second + skips[1], taps[0]), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(first_only[0], decoder.stages[2](second, taps[0]), rtol=1e-5, atol=1e-5)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="upsampling must be one of .*, got 'nearest'"):
        ResidualDecoder("resnet10", upsampling="nearest")
    with pytest.raises(ValueError, match="blocks must be given for three stages, got 2"):
        ResidualDecoder("resnet10", blocks=(1, 1))
