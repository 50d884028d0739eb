"""Vision transformers compute what is written out in plain functions, for images of any size."""

from __future__ import annotations

import pytest
import torch
from plain_transformer import plain_positions, plain_tokens, varied_transformer
from torch import nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.networks import VisionTransformerTaps
from medad_plugins.networks.backbones import TRANSFORMERS


def _image(*size: int, channels: int = 3, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, channels, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("architecture", "size"),
    [
        ("dinov2_vits14", (42, 28)),
        ("dinov2_vits14_reg", (28, 42)),
        ("dinov3_vits16", (32, 48)),
        ("dino_vits8", (16, 24)),
    ],
)
def test_taps_are_those_of_the_transformer_written_out(architecture: str, size: tuple[int, int]) -> None:
    shape = TRANSFORMERS[architecture]
    network = varied_transformer(architecture, [0, 1])
    state, image = network.state_dict(), _image(*size)
    grid = (size[0] // shape.patch, size[1] // shape.patch)
    positions = None
    if shape.grid:
        positions = plain_positions(state["pos_embed"], grid, shape.offset, shape.antialias)
    with torch.no_grad():
        maps, class_tokens = network.with_class_tokens(image)
        for case in range(2):
            expected = plain_tokens(state, image[case], positions, shape.heads, 2, shape.epsilon)
            for tap, class_token, tokens in zip(maps, class_tokens, expected, strict=True):
                assert tap.shape == (2, shape.width, *grid) and float(tokens.std()) > 0.1
                torch.testing.assert_close(tap[case].flatten(1).T, tokens[1 + shape.registers :], rtol=1e-5, atol=1e-5)
                torch.testing.assert_close(class_token[case], tokens[0], rtol=1e-5, atol=1e-5)


def test_every_part_of_the_state_matters() -> None:
    network = varied_transformer("dinov2_vits14_reg", [1])
    image = _image(28, 28)
    with torch.no_grad():
        before = network(image)[0]
        for name, parameter in network.named_parameters():
            kept = parameter.data.clone()
            parameter.data = kept + 0.1 * torch.randn_like(kept)
            # a bias of the keys cancels in the softmax, the others of this parameter do not
            assert not torch.equal(network(image)[0], before), name
            parameter.data = kept


@pytest.mark.parametrize("architecture", ["dinov2_vits14", "dino_vits16"])
def test_positions_are_the_learned_ones_on_their_grid_and_near_them_elsewhere(architecture: str) -> None:
    network = VisionTransformerTaps(architecture, layers=[0])
    native = TRANSFORMERS[architecture].grid
    assert torch.equal(network.positions([native, native]), network.pos_embed[:, 1:])
    # a plane stays a plane, whatever the grid
    down = torch.linspace(0, 1, native)[:, None].expand(native, native)
    network.pos_embed.data = torch.cat([torch.zeros(1), down.flatten()])[None, :, None].repeat(1, 1, 384)
    fitted = network.positions([16, 9]).unflatten(1, [16, 9])
    assert fitted.shape == (1, 16, 9, 384)
    middle = (torch.arange(16) + 0.5) / 16 * native / (native - 1) - 0.5 / (native - 1)
    torch.testing.assert_close(fitted[0, 2:-2, 4, 0], middle[2:-2], rtol=0, atol=0.01)
    torch.testing.assert_close(fitted[0, :, 0], fitted[0, :, 8], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "grid"), [((29, 28), (3, 2)), ((14, 55), (1, 4)), ((41, 43), (3, 4))])
def test_an_image_that_no_patches_cover_is_stretched_to_the_next_that_they_do(
    size: tuple[int, int], grid: tuple[int, int]
) -> None:
    network = varied_transformer("dinov2_vits14", [0])
    image = _image(*size)
    covered = functional.interpolate(image, [14 * length for length in grid], mode="bilinear")
    with torch.no_grad():
        (tap,) = network(image)
        assert tap.shape == (2, 384, *grid)
        torch.testing.assert_close(tap, network(covered)[0], rtol=1e-6, atol=1e-6)


def test_no_scan_depends_on_its_batch_mates() -> None:
    network = VisionTransformerTaps("dinov2_vits14", layers=[0, 2])
    image = _image(42, 42, channels=1, batch=3).float()
    with torch.no_grad():
        for together, alone in zip(network(image), network(image[1:2]), strict=True):
            torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)
            assert float((together[0] - together[1]).abs().max()) > 0.01


def test_grey_is_repeated_rgb() -> None:
    grey, rgb = VisionTransformerTaps("dino_vits16", layers=[0]), VisionTransformerTaps("dino_vits16", 2, 3, layers=[0])
    grey.load_state_dict(rgb.state_dict())
    image = _image(32, 32, channels=1).float()
    torch.testing.assert_close(grey(image)[0], rgb(image.expand(-1, 3, -1, -1))[0])


def test_the_mean_of_several_blocks_is_one_map() -> None:
    torch.manual_seed(0)
    each = VisionTransformerTaps("dinov2_vits14", layers=[0, 1, 2])
    mean = VisionTransformerTaps("dinov2_vits14", layers=[0, 1, 2], average=True)
    mean.load_state_dict(each.state_dict())
    image = _image(28, 42, channels=1).float()
    with torch.no_grad():
        (found,) = mean(image)
        torch.testing.assert_close(found, torch.stack(each(image)).mean(0))
    assert each.channels == [384] * 3 and each.strides == [14] * 3
    assert mean.channels == [384] and mean.strides == [14] and mean.layers == [0, 1, 2]


def test_in_half_precision() -> None:
    network = VisionTransformerTaps("dinov2_vits14", layers=[1])
    image = _image(28, 42, channels=1).float()
    with torch.no_grad():
        exact = network(image)[0]
        with torch.autocast("cpu", torch.bfloat16):
            assert float((network(image)[0] - exact).abs().max()) < 0.05 * float(exact.abs().max())
        halved = network.bfloat16()(image.bfloat16())[0]
    assert halved.dtype == torch.bfloat16
    assert float((halved.float() - exact).abs().max()) < 0.1 * float(exact.abs().max())


def test_frozen_by_default() -> None:
    network = VisionTransformerTaps("dinov3_vits16", layers=[0]).train()
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    learning = VisionTransformerTaps("dinov3_vits16", layers=[0], frozen=False).train()
    assert learning.training and all(p.requires_grad for p in learning.parameters())


def test_sizes_are_the_published_ones() -> None:
    # parameters of the official checkpoints, less mask token and final norm
    counts = {"dinov2_vits14": 22_056_576, "dinov2_vitb14_reg": 86_583_552, "dino_vits16": 21_665_664}
    for architecture, count in counts.items():
        with torch.device("meta"):
            network = VisionTransformerTaps(architecture, layers=[11])
        width = TRANSFORMERS[architecture].width
        unused = 2 * width + (0 if architecture.startswith("dino_") else width)
        assert sum(p.numel() for p in network.parameters()) == count - unused, architecture
    assert len(TRANSFORMERS) == 11
    with torch.device("meta"):
        large = VisionTransformerTaps("dinov2_vitl14")
    assert large.layers == [17] and len(large.blocks) == 18 and isinstance(large.blocks[0].norm1, nn.LayerNorm)


@pytest.mark.parametrize("layers", [[], [12], [-1], [3, 2], [2, 2]])
def test_blocks_that_are_not_there_are_refused(layers: list[int]) -> None:
    text = r"no such layers: layers .expected blocks of dinov2_vits14, 0 to 11, in order, e.g. \[8\], found"
    with pytest.raises(InputError, match=text):
        VisionTransformerTaps("dinov2_vits14", layers=layers)


def test_volumes_are_refused() -> None:
    with pytest.raises(InputError, match=r"sees images only: dinov2_vits14 .*found 3.; give --slice_axis 2"):
        VisionTransformerTaps("dinov2_vits14", spatial_dims=3)


def test_an_image_smaller_than_a_patch_is_refused() -> None:
    network = VisionTransformerTaps("dinov2_vits14", layers=[0])
    with pytest.raises(InputError, match=r"at least 14 pixels along an edge, found 13 x 60.; raise --image_size"):
        network(torch.rand(1, 1, 13, 60))
