"""A decoder that knows of its backbone the channels and strides of its feature maps alone."""

from __future__ import annotations

import pytest
import torch
from plain_resnet import vary_norms
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks import TapDecoder
from medad_plugins.networks.blocks.tap_decoder import TapBlock


def _grids(size: tuple[int, ...], strides: list[int]) -> list[list[int]]:
    return [[-(-edge // stride) for edge in size] for stride in strides]


@pytest.mark.parametrize("size", [(64, 64), (37, 90), (20, 33, 17)])
@pytest.mark.parametrize(
    ("channels", "strides"), [([6, 8, 10, 16], [4, 8, 16, 32]), ([6, 8, 10], [4, 4, 16]), ([8, 8], [16, 16])]
)
def test_decoded_maps_have_the_shapes_of_the_taps(
    channels: list[int], strides: list[int], size: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    *finer, deepest = _grids(size, strides)
    decoder = TapDecoder(len(size), channels, strides)
    decoded = decoder(torch.randn(2, channels[-1], *deepest), finer)
    assert [tuple(tap.shape) for tap in decoded] == [
        (2, width, *grid) for width, grid in zip(channels[:-1], finer, strict=True)
    ]
    # like what they rebuild, of both signs
    assert all(bool((tap < 0).any()) and bool((tap > 0).any()) for tap in decoded)
    torch.stack([tap.square().sum() for tap in decoded]).sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in decoder.parameters())


def _written_out(block: TapBlock, x: Tensor, size: list[int]) -> Tensor:
    """The block by its description, in eval mode."""

    def norm(module: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)
        return functional.batch_norm(x, module.running_mean, module.running_var, module.weight, module.bias)

    def conv(module: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(module, nn.Conv2d | nn.Conv3d) and module.bias is None
        function = functional.conv2d if x.dim() == 4 else functional.conv3d
        return function(x, module.weight, padding=module.weight.shape[-1] // 2)

    def enlarge(x: Tensor) -> Tensor:
        return functional.interpolate(x, size, mode="bilinear" if x.dim() == 4 else "trilinear", align_corners=False)

    out = norm(block.bn2, conv(block.conv2, enlarge(norm(block.bn1, conv(block.conv1, x)).relu())))
    if isinstance(block.shortcut, nn.Identity):
        return out + x
    return out + norm(block.shortcut_norm, enlarge(conv(block.shortcut, x)))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(("inputs", "enlarges"), [(6, True), (4, True), (6, False), (4, False)])
def test_block_is_that_of_its_description(spatial_dims: int, inputs: int, enlarges: bool) -> None:
    torch.manual_seed(0)
    block = TapBlock(spatial_dims, inputs, 4, inner=5, enlarges=enlarges, norm_momentum=0.1).double()
    vary_norms(block)
    grid = [3, 5, 4][:spatial_dims]
    size = [2 * edge - 1 for edge in grid] if enlarges else grid
    x = torch.randn(2, inputs, *grid, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(block.eval()(x, size), _written_out(block, x, size))
    # only what stays as it is passes unchanged
    assert isinstance(block.shortcut, nn.Identity) == (inputs == 4 and not enlarges)


def test_every_map_is_decoded_from_the_deeper_one() -> None:
    decoder = TapDecoder(2, [4, 6, 8], [4, 8, 16], blocks=3, width=1).eval()
    deeper, finer = ([block for block in stage.modules() if isinstance(block, TapBlock)] for stage in decoder.stages)
    x, sizes = torch.randn(1, 8, 3, 4), [[12, 15], [6, 8]]
    with torch.no_grad():
        finest, middle = decoder(x, sizes)
        expected = x
        for block in deeper:
            expected = block(expected, sizes[1])
        torch.testing.assert_close(middle, expected)
        for block in finer:
            expected = block(expected, sizes[0])
        torch.testing.assert_close(finest, expected)
    assert len(deeper) == len(finer) == 3


def test_norms_have_the_momentum() -> None:
    decoder = TapDecoder(3, [4, 8], [4, 8], norm_momentum=0.02)
    assert {m.momentum for m in decoder.modules() if isinstance(m, nn.BatchNorm3d)} == {0.02}


@pytest.mark.parametrize("size", [(37, 50), (20, 33, 17)])
def test_scripted_it_gives_the_same(size: tuple[int, ...]) -> None:
    *finer, deepest = _grids(size, [4, 8, 16])
    decoder = TapDecoder(len(size), [4, 6, 8], [4, 8, 16]).eval()
    x = torch.randn(2, 8, *deepest)
    with torch.no_grad():
        for one, other in zip(torch.jit.script(decoder)(x, finer), decoder(x, finer), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("channels", "strides"), [([4], [4]), ([4, 8], [4]), ([4, 8], [8, 4])])
def test_maps_that_are_none_are_refused(channels: list[int], strides: list[int]) -> None:
    with pytest.raises(ValueError, match="must be those of two maps or more, finest first"):
        TapDecoder(2, channels, strides)
    with pytest.raises(ValueError, match="blocks and width must be at least 1, got 0 and 2"):
        TapDecoder(2, [4, 8], [4, 8], blocks=0)
