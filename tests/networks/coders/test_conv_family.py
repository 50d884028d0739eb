"""The family of encoders, decoders, bottlenecks and DCGAN-like networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from medad_plugins.errors import InputError
from medad_plugins.networks import (
    ConvDecoder,
    ConvDiscriminator,
    ConvEncoder,
    DCGANEncoder,
    DCGANGenerator,
    SpectralNorm,
    doubling_widths,
    init_dcgan,
    make_bottleneck,
)
from medad_plugins.networks.blocks.norm_layers import NORMS


def _scan(spatial_dims: int, size: int = 16, channels: int = 1) -> Tensor:
    return torch.rand(2, channels, *[size] * spatial_dims, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("spectral_norm", [False, True])
def test_encoder_and_decoder_mirror_each_other(spatial_dims: int, norm: str, spectral_norm: bool) -> None:
    encoder = ConvEncoder(spatial_dims, 2, 16, (4, 8), norm, spectral_norm=spectral_norm, dropout=0.2)
    decoder = ConvDecoder(spatial_dims, 2, (4, 8), norm, spectral_norm=spectral_norm, output="tanh")
    image = _scan(spatial_dims, channels=2)
    grid = encoder(image)
    assert list(grid.shape[1:]) == encoder.grid == [8, *[4] * spatial_dims]
    again = decoder(grid)
    assert again.shape == image.shape and float(again.detach().abs().max()) <= 1
    for network, given in ((encoder, image), (decoder, grid)):
        network.eval()
        with torch.no_grad():
            torch.testing.assert_close(torch.jit.script(network)(given), network(given))


@torch.no_grad()
def test_stages_are_what_the_blocks_give() -> None:
    encoder, image = ConvEncoder(2, 1, 16, (4, 6, 8), extra_blocks=1, dropout=0.1).eval(), _scan(2)
    stages = encoder.stages(image)
    assert [tuple(stage.shape[1:]) for stage in stages] == [(4, 8, 8), (6, 4, 4), (8, 2, 2)]
    assert torch.equal(stages[-1], encoder(image))
    # each but the last is the input of the next convolution
    convs = [index for index, layer in enumerate(encoder) if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
    for stage, start, end in zip(stages[:-1], convs[1:], [*convs[2:], len(encoder)]):
        found = nn.Sequential(*list(encoder)[start:end])(stage)
        assert any(torch.equal(found, each) for each in stages)


def test_the_layers_that_the_options_ask_for() -> None:
    def kinds(**options: Any) -> list[str]:
        return [type(layer).__name__ for layer in ConvEncoder(2, 1, 16, (4, 8), **options)]

    assert kinds() == ["Conv2d", "BatchNorm2d", "ReLU"] * 2
    assert kinds(first_norm=False, slope=0.2) == ["Conv2d", "LeakyReLU", "Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert kinds(norm="none") == ["Conv2d", "ReLU"] * 2
    assert kinds(norm="layer", dropout=0.25) == ["Conv2d", "GroupNorm", "ReLU", "Dropout2d"] * 2
    assert kinds(norm="none", spectral_norm=True) == ["SpectralNorm", "ReLU"] * 2
    assert kinds(norm="none", extra_blocks=2) == ["Conv2d", "ReLU"] * 4
    last = list(ConvDecoder(2, 1, (4, 8), bias=True, output="sigmoid"))[-2:]
    assert isinstance(last[1], nn.Sigmoid) and isinstance(last[0], nn.ConvTranspose2d) and last[0].bias is not None


@pytest.mark.parametrize(
    ("size", "grid", "widths"),
    [
        (64, 4, [8, 16, 32, 64]),
        (32, 4, [8, 16, 32]),
        ((48, 48, 48), 4, [8, 16, 32]),  # 6 is the first edge that cannot be halved to 4 or more
        (224, 4, [8, 16, 32, 64, 64]),
        (64, 8, [8, 16, 32]),
        ((32, 128), 4, [8, 16, 32]),
    ],
)
def test_the_bottlenecks_grid_decides_the_depth(size: Any, grid: int, widths: list[int]) -> None:
    assert doubling_widths(size, 8, grid, widest=64) == widths


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("kind", ["vector", "spatial"])
@pytest.mark.parametrize("hidden_size", [0, 12])
@pytest.mark.parametrize("heads", [1, 2])
def test_bottlenecks(spatial_dims: int, kind: str, hidden_size: int, heads: int) -> None:
    grid = [6, *[2] * spatial_dims]
    bottleneck, expansion = make_bottleneck(kind, grid, 3, hidden_size, heads=heads)
    latent = bottleneck(torch.rand(2, *grid))
    assert latent.shape == ((2, 3 * heads) if kind == "vector" else (2, 3 * heads, *grid[1:]))
    assert expansion(latent.chunk(heads, 1)[0]).shape == (2, *grid)


@torch.no_grad()
def test_without_a_hidden_layer_a_vector_is_a_convolution_over_the_grid() -> None:
    bottleneck, _ = make_bottleneck("vector", [6, 4, 4], 3, 0)
    features, weight = torch.rand(2, 6, 4, 4), next(bottleneck.parameters())
    expected = nn.functional.conv2d(features, weight.reshape(3, 6, 4, 4))[..., 0, 0]
    torch.testing.assert_close(bottleneck(features), expected)


def test_what_cannot_be_built_is_reported_in_a_sentence() -> None:
    with pytest.raises(
        InputError, match=r"halves its image 3 times: image_size \(expected a multiple of 8 .* 16 x 20\)"
    ):
        ConvEncoder(2, 1, (16, 20), (4, 8, 8))
    with pytest.raises(InputError, match=r"no bottleneck: latent_size \(expected 1 to 6, .* found 7\)"):
        make_bottleneck("spatial", [6, 2, 2], 7)
    with pytest.raises(InputError, match="no bottleneck"):
        make_bottleneck("vector", [6, 2, 2], 0)
    for build, name in (
        (lambda: make_bottleneck("memory", [6, 2, 2], 3), "bottleneck"),
        (lambda: ConvDecoder(2, 1, (4,), output="relu"), "output"),
        (lambda: ConvEncoder(2, 1, 16, (4,), "weight"), "norm"),
        (lambda: DCGANEncoder(2, 1, 16, (4,), output="relu"), "output"),
    ):
        with pytest.raises(ValueError, match=f"{name} must be"):
            build()


# in the manner of DCGAN


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("spectral_norm", [False, True])
def test_dcgan_shapes_and_scripts(spatial_dims: int, spectral_norm: bool) -> None:
    shape, image = (spatial_dims, 1, 16, (4, 8)), _scan(spatial_dims)
    encoder = DCGANEncoder(*shape, 5, spectral_norm=spectral_norm, output="tanh")
    generator = DCGANGenerator(*shape, 5)
    critic = ConvDiscriminator(*shape, "layer", spectral_norm=spectral_norm)
    latent = encoder(image)
    assert latent.shape == (2, 5) and float(latent.detach().abs().max()) <= 1
    assert generator(latent).shape == image.shape
    logit, features = critic(image)
    assert logit.shape == (2,) and features.shape == (2, 8, *[4] * spatial_dims)
    for network, given in ((encoder, image), (generator, latent.detach()), (critic, image)):
        network.eval()
        with torch.no_grad():
            torch.testing.assert_close(torch.jit.script(network)(given), network(given))


@torch.no_grad()
def test_initialisation() -> None:
    network = ConvDiscriminator(2, 1, 64, (64, 128), "batch")
    init_dcgan(network)
    norm = next(layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))
    conv = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.in_channels == 64)
    assert float(norm.weight.mean()) == pytest.approx(1, abs=0.01) and 0.01 < float(norm.weight.std()) < 0.03
    assert float(conv.weight.std()) == pytest.approx(0.02, rel=0.02) and float(norm.bias.abs().max()) == 0


# spectral norm


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nn.Linear(6, 4), (3, 6)),
        (lambda: nn.Conv2d(3, 5, 3, bias=False), (2, 3, 6, 6)),
        (lambda: nn.Conv3d(2, 4, 3), (2, 2, 5, 5, 5)),
        (lambda: nn.ConvTranspose2d(3, 5, 4, 2, 1), (2, 3, 6, 6)),
    ],
)
def test_spectral_norm_is_pytorchs(layer: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    plain = layer()
    expected = parametrizations.spectral_norm(_copy(plain, layer), n_power_iterations=100)
    own, x = SpectralNorm(_copy(plain, layer), first_steps=100), torch.rand(shape)
    torch.testing.assert_close(own(x), expected(x), rtol=1e-4, atol=1e-5)
    # and so is its gradient, in which the singular value changes with the weight
    own(x).square().sum().backward()
    expected(x).square().sum().backward()
    theirs: Any = expected.parametrizations
    torch.testing.assert_close(own.layer.weight.grad, theirs.weight.original.grad, rtol=1e-3, atol=1e-4)
    # in eval mode nothing follows
    own.eval()
    before = own.left.clone()
    own(x)
    assert torch.equal(own.left, before)
    own.train()
    with torch.no_grad():
        own.layer.weight.copy_(torch.randn_like(own.layer.weight))  # type: ignore[arg-type,operator]
    own(x)
    assert not torch.equal(own.left, before)


def _copy(plain: nn.Module, layer: Any) -> Any:
    made = layer()
    made.load_state_dict(plain.state_dict())
    return made
