"""Backbones compute what torchvision's do, for any number of channels, in 2D and 3D."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from monai.networks.nets import resnet18
from plain_resnet import plain_taps, varied_taps
from torch import nn

from medad_plugins.networks import PixelPredictor, ResNetTaps, ScanToBackbone

# torchvision's published counts, less those of the classifier
PARAMETERS = {
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "wide_resnet50_2": 68_883_240 - 2_049_000,
}


def _on_meta(architecture: str) -> ResNetTaps:
    with torch.device("meta"):
        return ResNetTaps(architecture, in_channels=3)


@pytest.mark.parametrize(("size", "stages"), [((64, 32), 1), ((64, 32), 3), ((37, 50), 4), ((20, 33, 17), 4)])
def test_taps_have_strides_4_to_32(size: tuple[int, ...], stages: int) -> None:
    network = ResNetTaps("resnet10", len(size), 1, stages).eval()
    with torch.no_grad():
        taps = network(torch.rand(2, 1, *size))
    strides = {4: 64, 8: 128, 16: 256, 32: 512}
    expected = [(2, width, *(math.ceil(edge / stride) for edge in size)) for stride, width in strides.items()]
    assert [tuple(tap.shape) for tap in taps] == expected[:stages]
    assert network.channels == [64, 128, 256, 512][:stages]
    assert all(bool((tap >= 0).all()) and bool((tap > 0).any()) for tap in taps)


@pytest.mark.parametrize("architecture", ["resnet10", "resnet34", "resnet50"])
def test_taps_are_those_of_the_network_written_out(architecture: str) -> None:
    network = varied_taps(architecture).double()
    image = torch.rand(2, 3, 48, 40, dtype=torch.float64)
    with torch.no_grad():
        for tap, plain in zip(network(image), plain_taps(network.state_dict(), architecture, image), strict=True):
            torch.testing.assert_close(tap, plain, rtol=1e-6, atol=1e-6)


def test_wide_resnet_is_that_of_the_network_written_out() -> None:
    network = varied_taps("wide_resnet50_2", stages=2).double()
    image = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        expected = plain_taps(network.state_dict(), "wide_resnet50_2", image, stages=2)
        for tap, plain in zip(network(image), expected, strict=True):
            torch.testing.assert_close(tap, plain, rtol=1e-6, atol=1e-6)


def test_equals_monai_in_torchvisions_geometry() -> None:
    torch.manual_seed(0)
    reference = resnet18(
        spatial_dims=2,
        n_input_channels=3,
        num_classes=5,
        conv1_t_stride=2,
        bias_downsample=False,
        shortcut_type="B",
    ).eval()
    assert reference.fc is not None
    network = ResNetTaps("resnet18", 2, 3).eval()
    state = {name: value for name, value in reference.state_dict().items() if not name.startswith("fc.")}
    network.load_state_dict(state, strict=True)
    image = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        logits = reference.fc(network(image)[3].mean((2, 3)))
        assert torch.allclose(logits, reference(network.adapter(image)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", sorted(PARAMETERS))
def test_parameters_are_as_many_as_torchvisions(architecture: str) -> None:
    assert sum(p.numel() for p in _on_meta(architecture).parameters()) == PARAMETERS[architecture]


def test_wide_resnet_has_torchvisions_names_and_shapes() -> None:
    shapes = {name: tuple(value.shape) for name, value in _on_meta("wide_resnet50_2").state_dict().items()}
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer1.0.conv1.weight"] == (128, 64, 1, 1)
    assert shapes["layer1.0.conv2.weight"] == (128, 128, 3, 3)
    assert shapes["layer1.0.conv3.weight"] == (256, 128, 1, 1)
    assert shapes["layer1.0.bn3.weight"] == (256,)
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer4.2.conv1.weight"] == (1024, 2048, 1, 1)
    assert not any(name.startswith("fc.") or name.endswith("downsample.0.bias") for name in shapes)
    # 320 entries of torchvision's ResNet-50 layout, less two of the classifier
    assert len(shapes) == 318


@pytest.mark.parametrize("size", [(32, 32), (9, 9, 9)])
def test_grey_is_repeated_rgb(size: tuple[int, ...]) -> None:
    grey, rgb = ResNetTaps("resnet10", len(size), 1, 2).eval(), ResNetTaps("resnet10", len(size), 3, 2).eval()
    grey.load_state_dict(rgb.state_dict())
    image = torch.rand(2, 1, *size)
    with torch.no_grad():
        for one, three in zip(grey(image), rgb(image.expand(-1, 3, *size)), strict=True):
            torch.testing.assert_close(one, three)


def test_adapter_brings_rgb_to_imagenet() -> None:
    pixel = torch.tensor([0.485, 0.456, 0.406]) + 2 * torch.tensor([0.229, 0.224, 0.225])
    adapted = ScanToBackbone(2, 3)(pixel.reshape(1, 3, 1, 1))
    torch.testing.assert_close(adapted, torch.full((1, 3, 1, 1), 2.0))


@pytest.mark.parametrize("size", [(32, 32), (9, 9, 9)])
def test_four_channels_that_agree_are_three_that_agree(size: tuple[int, ...], tmp_path: Path) -> None:
    dims = len(size)
    rgb = varied_taps("resnet10", dims, 3, 1)
    torch.save(rgb.state_dict(), tmp_path / "rgb.pth")
    network = ResNetTaps("resnet10", dims, 4, 1, weights=str(tmp_path / "rgb.pth")).eval()
    image = torch.rand(2, 1, *size)
    adapted = network.adapter(image.expand(-1, 4, *size))
    assert adapted.shape[1] == network.conv1.in_channels == 4
    assert torch.equal(adapted[:, 0], adapted[:, 3])

    with torch.no_grad():
        expected = rgb.conv1(adapted[:, :1].expand(-1, 3, *size))
        torch.testing.assert_close(network.conv1(adapted), expected, rtol=1e-4, atol=1e-4)
        assert network(torch.rand(2, 4, *size))[0].shape[1] == 64


def test_a_2d_file_in_3d_gives_its_2d_features_inside_a_constant_volume(tmp_path: Path) -> None:
    flat = varied_taps("resnet10", 2, 1, 2)
    torch.save(flat.state_dict(), tmp_path / "flat.pth")
    solid = ResNetTaps("resnet10", 3, 1, 2, weights=str(tmp_path / "flat.pth")).eval()
    image = torch.rand(1, 1, 16, 16)
    # the second stage sees 51 slices: in the middle of 64, none of the zeros beyond the ends
    volume = image.unsqueeze(2).expand(-1, -1, 64, -1, -1)
    with torch.no_grad():
        for stage, (in_2d, in_3d) in enumerate(zip(flat(image), solid(volume), strict=True)):
            middle = in_3d.shape[2] // 2
            torch.testing.assert_close(in_3d[:, :, middle], in_2d, rtol=1e-4, atol=1e-4)
            edge = in_3d[:, :, 0] - in_2d
            assert edge.abs().max() > 0.01, f"stage {stage}: the test would not notice another axis"


def test_norm_momentum_reaches_every_norm() -> None:
    norms = [m for m in ResNetTaps("resnet18", norm_momentum=0.03).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 20
    assert {norm.momentum for norm in norms} == {0.03}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"architecture": "resnet17"},
            "wants a ResNet.*: backbone .*resnet18.*, found resnet17.; give another",
        ),
        ({"architecture": "resnet18", "spatial_dims": 4}, "spatial_dims must be 2 or 3"),
        ({"architecture": "resnet18", "stages": 5}, "stages 1 to 4"),
        ({"architecture": "resnet18", "in_channels": 0}, "in_channels must be at least 1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, int | str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ResNetTaps(**arguments)  # type: ignore[arg-type]


def _folded(path: Path, shift: float = 0.1, **changes: float) -> str:
    """Weights whose norms are folded into the convolutions: no statistics, only shifts are left."""
    state = varied_taps("resnet10").state_dict()
    identity = {"running_mean": 0.0, "running_var": 1.0, "weight": 1.0, "bias": shift, **changes}
    for name in [name.removesuffix("running_mean") for name in state if name.endswith("running_mean")]:
        for kind, value in identity.items():
            state[name + kind] = torch.full_like(state[name + kind], value)
    torch.save({name: value for name, value in state.items() if not name.startswith("layer4")}, path)
    return str(path)


def _norms_in_train_mode(network: torch.nn.Module) -> set[str]:
    norms = (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)
    return {name for name, module in network.named_modules() if isinstance(module, norms) and module.training}


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_folded_norms_keep_their_statistics_in_training(
    spatial_dims: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _folded(tmp_path / "weights.pth")
    with caplog.at_level("INFO"):
        network = PixelPredictor(spatial_dims, 1, "resnet10", weights=path)
    said = [record.message for record in caplog.records if "folded" in record.message]
    assert len(said) == 1 and said[0].startswith("weights.pth has its batch norms folded into its convolutions")
    network.eval().train()
    encoder = network.coder.get_submodule("encoder")
    # a stage that the file lacks has nothing to keep
    assert {name.split(".")[0] for name in _norms_in_train_mode(encoder)} == {"layer4"}
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    network(torch.rand(2, 1, *[32] * spatial_dims)).mean().backward()
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers() if "layer4" not in name)
    shift = encoder.get_parameter("layer1.0.bn1.bias")
    assert shift.grad is not None and float(shift.grad.abs().sum()) > 0


@pytest.mark.parametrize("changes", [{"running_mean": 0.1}, {"running_var": 0.9}, {"weight": 1.1}, {"bias": 0.0}])
def test_norms_that_are_not_folded_follow_the_scans(changes: dict[str, float], tmp_path: Path) -> None:
    path = _folded(tmp_path / "own.pth", **changes)
    taps = ResNetTaps("resnet10", 2, 1, weights=path, optional_stages=("layer4",)).train()
    assert _norms_in_train_mode(taps) >= {"bn1", "layer1.0.bn1", "layer3.0.bn2"}


def test_stage_0_is_the_stem_after_its_pooling() -> None:
    taps = ResNetTaps("resnet10", 2, 3, layers=[0, 1, 3]).eval()
    assert taps.channels == [64, 64, 256] and taps.strides == [4, 4, 16]
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    stem, first, third = taps(image)
    x = taps.act(taps.bn1(taps.conv1(taps.adapter(image))))
    torch.testing.assert_close(stem, torch.nn.functional.max_pool2d(x, 3, 2, 1))
    torch.testing.assert_close(first, taps.layer1(stem))
    torch.testing.assert_close(third, taps.layer3(taps.layer2(first)))
    with pytest.raises(ValueError, match="stages 1 to 4"):
        ResNetTaps("resnet10", layers=[0])
