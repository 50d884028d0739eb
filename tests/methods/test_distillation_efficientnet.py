"""Reverse distillations and STFPM on EfficientNet-Lite: what is rebuilt, map, script, state, and that they learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain_resnet import vary_norms
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.losses import GlobalCosineLoss
from medad_plugins.methods.rd4ad import RD4AD
from medad_plugins.methods.rd_plus_plus import RDPlusPlus
from medad_plugins.methods.recontrast import ReContrast
from medad_plugins.methods.stfpm import STFPM
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.networks.blocks.tap_bottleneck import TapBottleneck

METHODS: list[Callable[..., AnomalyNetwork]] = [RD4AD, RDPlusPlus, ReContrast, STFPM]
SIZES = [(40, 52), (33, 20, 17)]


def _network(method: Callable[..., AnomalyNetwork], spatial_dims: int = 2) -> Any:
    torch.manual_seed(0)
    return method(spatial_dims, 1, "efficientnet_lite0", "none")


def _scan(*size: int) -> Tensor:
    return torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", METHODS)
def test_map_script_and_state(method: Callable[..., AnomalyNetwork], size: tuple[int, ...]) -> None:
    network = _network(method, len(size))
    vary_norms(network)
    network.eval()
    image = _scan(*size)
    other = method(len(size), 1, "efficientnet_lite0", "none").eval()
    with torch.no_grad():
        anomaly_map = network(image)
        assert anomaly_map.shape == image.shape
        torch.testing.assert_close(torch.jit.script(network)(image), anomaly_map, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(network(image[:1]), anomaly_map[:1], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(other(image), anomaly_map)
        other.load_state_dict(network.state_dict())
        torch.testing.assert_close(other(image), anomaly_map, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [RD4AD, ReContrast, STFPM])
def test_features_of_three_strides_are_rebuilt(method: Callable[..., AnomalyNetwork]) -> None:
    rebuilt, true = _network(method).train()(_scan(40, 64))
    assert [tuple(tap.shape[1:]) for tap in true[:3]] == [(24, 10, 16), (40, 5, 8), (112, 3, 4)]
    assert [tap.shape for tap in rebuilt] == [tap.shape for tap in true]
    assert min(float(tap.detach().min()) for tap in rebuilt) < 0, "its features have both signs"


def test_the_student_learns_and_the_teacher_does_not() -> None:
    network = _network(RD4AD).train()
    image, loss = _scan(64, 64), GlobalCosineLoss()
    before = {name: value.clone() for name, value in network.state_dict().items() if name.startswith("teacher.")}
    optimizer = torch.optim.AdamW(network.student_parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        value = loss(network(image))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert losses[-1] < 0.6 * losses[0]
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())


def test_a_bottleneck_by_hand() -> None:
    """Halved, joined, compressed, with a shortcut: from the module's own layers, one after the other."""
    torch.manual_seed(0)
    bottleneck = TapBottleneck(2, [3, 5, 7], [4, 8, 16], 14).eval()
    taps = [torch.randn(2, 3, 12, 9), torch.randn(2, 5, 6, 5), torch.randn(2, 7, 3, 3)]
    with torch.no_grad():
        layers: Any = bottleneck.reduce
        fine, middle = layers
        joined = torch.cat([fine[3:](fine[:3](taps[0])), middle(taps[1]), taps[2]], 1)
        assert joined.shape == (2, 21, 3, 3)
        found = bottleneck(taps)
        torch.testing.assert_close(found, bottleneck.embed(joined) + bottleneck.shortcut(joined))
    assert found.shape == (2, 14, 2, 2)


@pytest.mark.parametrize("method", METHODS)
def test_a_transformer_is_refused_in_a_sentence(method: Callable[..., AnomalyNetwork]) -> None:
    with pytest.raises(InputError, match="mirrors or trains a backbone of convolutions.*found dinov2_vits14"):
        method(2, 1, "dinov2_vits14", "none")


def test_strides_that_do_not_double_are_refused() -> None:
    with pytest.raises(ValueError, match="each stride must be twice the one before it"):
        TapBottleneck(2, [3, 5], [4, 16], 8)
