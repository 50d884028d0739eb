"""MS-NF by its parts: attention and places in sub-networks, what the loss takes, the map of unlikely features."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_resnet import vary_norms
from short_trainings import alike_scans, train_for_seconds, weights_of_varied_taps
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.losses import FlowLikelihoodLoss
from medad_plugins.methods.ms_nf import MSNF, AttentiveSubnet, PlaceSubnet
from medad_plugins.networks import CouplingFlow

KINDS = pytest.mark.parametrize("subnet", ["attention", "convolution", "place"])


def _ms_nf(spatial_dims: int = 2, **others: Any) -> MSNF:
    torch.manual_seed(0)
    network = MSNF(spatial_dims, 1, "resnet10", "none", steps=2, **others)
    vary_norms(network.features)
    for scale in network.scales:
        scale.get_buffer("running_mean").fill_(0.2)
        scale.get_buffer("running_var").fill_(0.25)
    for name, parameter in network.flows.named_parameters():
        if name.endswith("shift"):
            parameter.data += 0.5 * torch.randn(1)
    return network


def _scan(*size: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [AttentiveSubnet, PlaceSubnet])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_flows_with_these_subnets_count_their_volume_change(kind: Any, spatial_dims: int) -> None:
    torch.manual_seed(0)
    flow = CouplingFlow(5, spatial_dims, 2, kind).double().eval()
    for parameter in flow.parameters():
        parameter.data *= 2
    features = torch.randn(2, 5, *(3, 2, 2)[:spatial_dims], dtype=torch.float64)
    z, log_det = flow(features)
    torch.testing.assert_close(flow.inverse(z), features, rtol=0, atol=1e-8)
    same, local = flow.local(features)
    assert torch.equal(same, z) and local.shape == (2, 1, *features.shape[2:])
    torch.testing.assert_close(local.flatten(1).sum(1), log_det)
    jacobian = torch.autograd.functional.jacobian(lambda x: flow(x[None])[0][0], features[0])
    assert isinstance(jacobian, Tensor)
    count = features[0].numel()
    expected = torch.linalg.slogdet(jacobian.reshape(count, count)).logabsdet
    assert float(log_det[0].detach()) == pytest.approx(float(expected), abs=1e-7)


def test_attention_weighs_channels_then_places() -> None:
    torch.manual_seed(0)
    subnet, x = AttentiveSubnet(2, 6, 4), torch.randn(2, 6, 5, 7)
    hidden = functional.relu(subnet.before[0](x))
    of_channels = torch.sigmoid(subnet.of_channels(hidden.mean((2, 3))) + subnet.of_channels(hidden.amax((2, 3))))
    hidden = hidden * of_channels[:, :, None, None]
    of_places = torch.sigmoid(subnet.of_places(torch.stack([hidden.mean(1), hidden.amax(1)], 1)))
    torch.testing.assert_close(subnet(x), subnet.after(hidden * of_places))


def test_places_know_where_they_are_and_see_no_neighbour() -> None:
    torch.manual_seed(0)
    subnet, x = PlaceSubnet(2, 6, 4), torch.randn(1, 6, 1, 1).expand(1, 6, 5, 7).clone()
    out = subnet(x)
    assert float((out[..., 0, 0] - out[..., 4, 6]).detach().abs().max()) > 1e-3, "the same features elsewhere"
    x[..., 2, 3] += 1
    changed = (subnet(x) - out).detach().abs().amax((0, 1)) > 0
    assert changed.sum() == 1 and bool(changed[2, 3])


@KINDS
def test_only_the_flows_learn(subnet: str) -> None:
    network = _ms_nf(subnet=subnet).train()
    latents, log_dets = network(_scan(64, 48))
    assert [z.shape[1] for z in latents] == [64, 128, 256] and [det.shape for det in log_dets] == [(2,)] * 3
    loss = FlowLikelihoodLoss()((latents, log_dets))
    expected = 0.0
    for z, log_det in zip(latents, log_dets, strict=True):
        count = z[0].numel()
        log_p = -0.5 * z.square().flatten(1).sum(1) - 0.5 * count * math.log(2 * math.pi) + log_det
        expected += float(-log_p.detach().mean() / (count * math.log(2)))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == {"flows"} and not network.features.training


@pytest.mark.parametrize("score", ["latent", "likelihood"])
@pytest.mark.parametrize("size", [(64, 64), (50, 70), (32, 36, 33)])
def test_map_is_the_mean_improbability_of_the_scales(size: tuple[int, ...], score: str) -> None:
    network, image = _ms_nf(len(size), score=score).eval(), _scan(*size)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    with torch.no_grad():
        found, expected = network(image), torch.zeros(2, 1, *size)
        for tap, flow in zip(network.features(image), network.flows, strict=True):
            assert isinstance(flow, CouplingFlow)
            z, log_dets = flow.local((tap - 0.2) / math.sqrt(0.25 + 1e-5))
            energy = z.square().mean(1, keepdim=True) / 2
            unlike = 1 - torch.exp(-energy) if score == "latent" else energy - log_dets / z.shape[1]
            expected += functional.interpolate(unlike, size, mode=mode, align_corners=False) / 3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    if score == "latent":
        assert float(found.min()) >= 0 and float(found.max()) <= 1


def test_noise_is_of_training_alone() -> None:
    network, image = _ms_nf(noise=0.5), _scan(64, 64)
    network.train()
    with torch.no_grad():
        first, again = network(image)[0], network(image)[0]
        assert not torch.equal(first[0], again[0])
        network.eval()
        assert torch.equal(network(image), network(image))


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="no such sub-network"):
        _ms_nf(subnet="linear")
    with pytest.raises(InputError, match="no such sub-network"):
        _ms_nf(score="best")


@pytest.mark.costly
@KINDS
def test_it_learns_normal_features(subnet: str, tmp_path: Path) -> None:
    path = weights_of_varied_taps(tmp_path)
    torch.manual_seed(0)
    network = MSNF(2, 1, "resnet10", path, subnet=subnet, steps=2)
    normal = alike_scans()
    changed = normal[8:].clone()
    changed[:, :, 8:40, 24:56] = torch.rand(2, 1, 32, 32)
    network.train()
    with torch.no_grad():
        network(normal[:8])

    def apart() -> float:
        network.eval()
        with torch.no_grad():
            return float(network.pool(network(changed)).min() - network.pool(network(normal[8:])).max())

    before = apart()
    train_for_seconds(network, network.flow_parameters(), FlowLikelihoodLoss(), normal[:8], 3e-3)
    after = apart()
    assert after > max(0.05, 1.2 * before), (before, after)


@KINDS
def test_scripted_it_gives_the_same_map(subnet: str) -> None:
    network, image = _ms_nf(subnet=subnet).eval(), _scan(64, 60)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-6)
