"""RealNet by its paper: what is rebuilt, what is ranked, the map and the score."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plain_resnet import vary_norms
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.methods.realnet import ChannelSelection, RankedResiduals, RealNet


def _realnet(spatial_dims: int = 2, layers: tuple[int, ...] = (1, 2), **arguments: Any) -> RealNet:
    torch.manual_seed(0)
    channels = [8] * len(layers)
    network = RealNet(spatial_dims, 1, "resnet10", "none", layers, channels, 5, **{"window": 4, **arguments})
    for rebuilder in network.rebuilders:  # which start by giving zeros
        for parameter in rebuilder.parameters():
            if not bool(parameter.any()):
                torch.nn.init.normal_(parameter, 0, 0.1)
    vary_norms(network.judge)
    return network


def _scan(*size: int, channels: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_ranks_are_those_of_normalised_residuals_and_values_are_not(spatial_dims: int) -> None:
    ranking = RankedResiduals([3, 4], spatial_dims, 2).eval()
    generator = torch.Generator().manual_seed(0)
    ranking.norm.running_mean = torch.rand(7, generator=generator)
    ranking.norm.running_var = torch.rand(7, generator=generator) + 0.5
    fine = torch.rand(2, 3, *[6] * spatial_dims, generator=generator)
    coarse = 3 * torch.rand(2, 4, *[3] * spatial_dims, generator=generator)
    found = ranking([fine, coarse])
    mode = "bilinear" if spatial_dims == 2 else "trilinear"
    for case in range(2):
        enlarged = functional.interpolate(coarse[case : case + 1], [6] * spatial_dims, mode=mode)[0]
        planes = [*fine[case], *enlarged]
        scaled = [
            (plane - mean) / torch.sqrt(variance + 1e-5)
            for plane, mean, variance in zip(planes, ranking.norm.running_mean, ranking.norm.running_var, strict=True)
        ]
        by_highest = sorted(range(7), key=lambda k: -float(scaled[k].max()))[:2]
        by_mean = sorted(range(7), key=lambda k: -float(scaled[k].mean()))[:2]
        torch.testing.assert_close(found[case], torch.stack([planes[k] for k in [*by_highest, *by_mean]]))


def test_ranking_follows_the_last_batches_and_takes_no_more_than_there_is() -> None:
    ranking = RankedResiduals([3], 2, 100)
    assert ranking.out_channels == 6 and ranking.norm.momentum == 0.9
    assert list(ranking.norm.parameters()) == []
    with pytest.raises(ValueError, match="ranked must be positive"):
        RankedResiduals([3], 2, 0)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_in_training_features_with_the_anomaly_are_rebuilt_and_clean_ones_the_target(spatial_dims: int) -> None:
    network = _realnet(spatial_dims)
    anomalous, clean = _scan(*[32] * spatial_dims), _scan(*[32] * spatial_dims, seed=1)
    seen: list[list[Tensor]] = []
    network.ranking.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    logits, rebuilt, target = network(torch.cat([anomalous, clean], 1))
    assert logits.shape == (2, 2, *[32] * spatial_dims)
    with torch.no_grad():
        for index in range(2):
            of_anomalous, of_clean = (
                network.selections[index](network.features(image)[index]) for image in (anomalous, clean)
            )
            torch.testing.assert_close(target[index], of_clean, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(rebuilt[index], network.rebuilders[index](of_anomalous), rtol=1e-3, atol=1e-4)
            expected = (of_anomalous - rebuilt[index]) ** 2
            torch.testing.assert_close(seen[0][index], expected, rtol=1e-3, atol=1e-4)
    logits.sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in network.features.parameters())
    assert network.rebuilders[0].first.weight.grad is not None, "the segmentation loss also trains the reconstruction"  # type: ignore[union-attr]


@torch.no_grad()
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_rebuilders_that_add_begin_with_what_they_are_given(spatial_dims: int) -> None:
    """From zero on, residuals would show how strong features are, long before they show what was put in."""
    torch.manual_seed(0)
    network = RealNet(spatial_dims, 1, "resnet10", "none", (1, 2), (8, 8), 5, 4, rebuilt_from="seen")
    anomalous, clean = _scan(*[32] * spatial_dims), _scan(*[32] * spatial_dims, seed=1)
    residuals: list[list[Tensor]] = []
    network.ranking.register_forward_pre_hook(lambda module, inputs: residuals.append(inputs[0]))
    _, rebuilt, _ = network(torch.cat([anomalous, clean], 1))
    network.eval()(anomalous)
    for index, tap in enumerate(network.features(anomalous)):
        torch.testing.assert_close(rebuilt[index], network.selections[index](tap), rtol=1e-4, atol=1e-5)
    assert all(float(residual.max()) < 1e-8 for found in residuals for residual in found)
    weight = network.rebuilders[1].last[-1].weight  # type: ignore[union-attr, index]
    torch.nn.init.normal_(weight, 0, 0.1)
    network(anomalous)
    added = network.rebuilders[1](network.selections[1](network.features(anomalous)[1]))
    torch.testing.assert_close(residuals[-1][1], added**2, rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_score_is_the_highest_window_mean_of_the_probability(spatial_dims: int) -> None:
    network, image = _realnet(spatial_dims).eval(), _scan(*[32] * spatial_dims)
    residuals = []
    for index in range(2):
        features = network.selections[index](network.features(image)[index])
        residuals.append((features - network.rebuilders[index](features)) ** 2)
    logits = network.judge(network.ranking(residuals), list(image.shape[2:]))
    probability = logits[:, 1:].exp() / logits.exp().sum(1, keepdim=True)
    pool = functional.avg_pool2d if spatial_dims == 2 else functional.avg_pool3d
    anomaly_map = network(image)
    expected = pool(probability, 4, stride=1).flatten(1).amax(1)
    torch.testing.assert_close(network.pool(anomaly_map), expected)
    ratio = (anomaly_map / probability).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_channels_are_chosen_by_what_was_observed_and_travel_in_the_state(spatial_dims: int) -> None:
    network = _realnet(spatial_dims, layers=(2,))
    assert not network.is_chosen
    clean = _scan(*[32] * spatial_dims)
    mask = torch.zeros_like(clean)
    mask[(slice(None), slice(None), *[slice(4, 18)] * spatial_dims)] = 1
    anomalous = torch.where(mask > 0, 1 - clean, clean)
    network.observe(torch.cat([anomalous, clean], 1), mask)
    network.choose()
    selection: ChannelSelection = network.selections[0]  # type: ignore[assignment]
    expected = ChannelSelection(128, 8)
    expected.observe(network.features(anomalous)[0], network.features(clean)[0], mask)
    torch.testing.assert_close(selection.losses, expected.losses, rtol=1e-3, atol=1e-4)
    assert network.is_chosen and selection.chosen.tolist() == sorted(selection.losses.argsort()[:8].tolist())
    other = _realnet(spatial_dims, layers=(2,))
    other.load_state_dict(network.state_dict())
    assert other.is_chosen and torch.equal(other.eval()(clean), network.eval()(clean))


@torch.no_grad()
def test_four_layers_work_where_the_deepest_grid_is_one_location() -> None:
    torch.manual_seed(0)
    network = RealNet(2, 3, "resnet18", "none", (1, 2, 3, 4), (8, 8, 1000, 8), 16, 2).eval()
    image = _scan(32, 32, channels=3)
    assert network(image).shape == (2, 1, 32, 32)
    assert [s.kept for s in network.selections] == [8, 8, 256, 8]
    assert torch.allclose(torch.jit.script(network)(image), network(image), atol=1e-6)


@torch.no_grad()
def test_map_is_float32_in_half_precision() -> None:
    network, image = _realnet().eval(), _scan(32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(image)
    assert found.dtype == torch.float32 and bool(torch.isfinite(found).all())


def test_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match=r"no such layers: layers .*found \[3, 5\]"):
        RealNet(2, 1, "resnet10", "none", (3, 5), (4, 4))
    with pytest.raises(ValueError, match="channels must be 2 numbers, one for each layer"):
        RealNet(2, 1, "resnet10", "none", (1, 2), (4, 4, 4))
    with pytest.raises(InputError, match=r"cannot be rebuilt so: rebuilt_from .*found all"):
        RealNet(2, 1, "resnet10", "none", (1,), (4,), rebuilt_from="all")
