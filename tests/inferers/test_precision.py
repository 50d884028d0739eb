"""The same network in float32 and in bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from medad_plugins.inferers import PrecisionInferer, fast_bfloat16, said_precision
from medad_plugins.inferers.precision import _instructions
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.scorers import residual_map


class Convolutions(AnomalyNetwork):
    """Rebuilds the scan by two convolutions."""

    def __init__(self, spatial_dims: int) -> None:
        super().__init__()
        conv = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        torch.manual_seed(0)
        self.layers = nn.Sequential(conv(1, 8, 3, padding=1), nn.ReLU(), conv(8, 1, 3, padding=1))
        self.seen: list[Tensor] = []

    def anomaly_map(self, image: Tensor) -> Tensor:
        self.seen.append(image)
        inner = self.layers[0](image)
        self.seen.append(inner)
        return residual_map(self.layers[2](inner.relu()).float(), image)


def _scan(spatial_dims: int) -> Tensor:
    return torch.rand(2, 1, *[9, 8, 7][:spatial_dims], generator=torch.Generator().manual_seed(0))


def test_float32_is_the_plain_call() -> None:
    network, image = Convolutions(2).eval(), _scan(2)
    assert torch.equal(PrecisionInferer()(image, network), network(image))


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_bfloat16_gives_nearly_the_same_map_in_float32(spatial_dims: int) -> None:
    network, image = Convolutions(spatial_dims).eval(), _scan(spatial_dims)
    expected = network(image)
    anomaly_map = PrecisionInferer("bfloat16")(image, network)
    assert network.seen[-1].dtype == torch.bfloat16 and network.seen[-3].dtype == torch.float32
    assert anomaly_map.dtype == torch.float32 and anomaly_map.shape == expected.shape
    assert not torch.equal(anomaly_map, expected)
    torch.testing.assert_close(anomaly_map, expected, rtol=0.05, atol=0.01)


@pytest.mark.parametrize(("spatial_dims", "layout"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
def test_bfloat16_lays_out_the_weights_that_fit_and_leaves_others(
    spatial_dims: int, layout: torch.memory_format
) -> None:
    network = Convolutions(spatial_dims).eval()
    network.register_buffer("means", torch.rand(2, 3, *[4, 5, 6][: 5 - spatial_dims]))  # one axis more or less
    PrecisionInferer("bfloat16")(_scan(spatial_dims), network)
    weight = network.layers[2].weight
    assert isinstance(weight, Tensor) and weight.is_contiguous(memory_format=layout)
    assert network.get_buffer("means").is_contiguous()


@pytest.mark.parametrize(("spatial_dims", "layout"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
def test_bfloat16_leaves_the_parameters_in_float32(spatial_dims: int, layout: torch.memory_format) -> None:
    network = Convolutions(spatial_dims).train()
    before = [p.detach().clone() for p in network.parameters()]
    network.training_output = network.anomaly_map  # type: ignore[method-assign]
    PrecisionInferer("bfloat16")(_scan(spatial_dims), network).mean().backward()
    for parameter, value in zip(network.parameters(), before, strict=True):
        assert parameter.dtype == torch.float32 and torch.equal(parameter, value)
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32
    # one channel in counts as contiguous in either order, eight do not; how activations lie is the processor's affair
    weight = network.layers[2].weight
    assert isinstance(weight, Tensor) and weight.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_network_gets_plain_tensors(precision: str) -> None:
    network = Convolutions(2).eval()
    anomaly_map = PrecisionInferer(precision)(MetaTensor(_scan(2), meta={"case": 1}), network)
    assert type(network.seen[0]) is Tensor and type(anomaly_map) is Tensor
    torch.testing.assert_close(anomaly_map, PrecisionInferer(precision)(_scan(2), network))


def test_arguments_are_passed_on() -> None:
    def network(image: Tensor, factor: float, plus: float = 0) -> Tensor:
        return image * factor + plus

    for precision in ("float32", "bfloat16"):
        assert torch.equal(
            PrecisionInferer(precision)(torch.ones(1, 1, 2, 2), network, 2.0, plus=3), torch.full((1, 1, 2, 2), 5.0)
        )


@pytest.mark.parametrize("fast", [None, "AVX-512 BF16"])
def test_auto_is_reduced_in_training_alone_and_where_that_is_fast(fast: str | None, monkeypatch: Any) -> None:
    """A processor without the instructions takes 4 to 16 times longer in bfloat16."""
    monkeypatch.setattr("medad_plugins.inferers.precision.fast_bfloat16", lambda device: fast)
    network, infer = nn.Conv2d(1, 3, 3), PrecisionInferer("auto")
    step = infer(_scan(2), network)
    assert step.dtype == (torch.bfloat16 if fast else torch.float32)
    with torch.no_grad():
        scored = infer(_scan(2), network)
    assert torch.equal(scored, PrecisionInferer("float32")(_scan(2), network)), "maps are the same on every machine"
    assert network.weight.is_contiguous()


def test_the_processor_is_asked(tmp_path: Path, monkeypatch: Any) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    for able, expected in (
        ({"avx512_bf16": True, "cpu_name": "one"}, "AVX-512 BF16"),
        ({"avx2": True}, None),
        ({}, None),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able, raising=False)
        assert fast_bfloat16("cpu") == expected
        assert said_precision("auto", "cpu") == (
            f"auto (bfloat16 in training by {expected}, float32 in scoring)"
            if expected
            else "auto (float32: no fast bfloat16 here)"
        )
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert _instructions(cpuinfo) == set(), "not Linux"
    cpuinfo.write_text("processor : 0\nflags : fpu avx2 amx_bf16\n")
    assert "amx_bf16" in _instructions(cpuinfo)
    assert fast_bfloat16("mps") is None and said_precision("float32", "cpu") == "float32"


def test_unknown_precision() -> None:
    with pytest.raises(ValueError, match="precision must be one of.*bfloat16.*got 'float16'"):
        PrecisionInferer("float16")
