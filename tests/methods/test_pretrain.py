"""Pretraining: each objective against plain sums, who learns, and the file that others start from."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.handlers import SaveBackbone
from medad_plugins.methods.pretrain import (
    OBJECTIVES,
    MomentumCopy,
    Pretrain,
    exchanged_halves,
    overlapping_patches,
    pretrain_terms,
)
from medad_plugins.networks import make_taps


def _network(objective: str, dims: int = 2, **others: Any) -> Pretrain:
    torch.manual_seed(0)
    keys: dict[str, Any] = {"hidden": 16, "dimensions": 8, "queue": 10, "temperature": 0.3, **others}
    return Pretrain(dims, 1, "resnet10", stages=3, objective=objective, **keys)


def _scans(dims: int = 2, count: int = 6, seed: int = 1) -> Tensor:
    return torch.rand((count, 1, *[32] * dims), generator=torch.Generator().manual_seed(seed))


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def _pooled(encoder: Any, scans: Tensor) -> Tensor:
    pooled: Tensor = encoder(scans)[-1].flatten(2).mean(2)
    return pooled


def _term(network: Pretrain, scans: Tensor) -> float:
    with torch.no_grad():
        (term,) = pretrain_terms(network, {"image": scans}).values()
    return float(term)


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_simclr_finds_the_other_view_among_all(dims: int) -> None:
    network, scans = _network("simclr", dims).train(), _scans(dims)
    vectors = _unit(network.objective.head(_pooled(network.encoder, scans)))  # type: ignore[operator]
    expected = 0.0
    for own in range(6):
        other = own + 1 if own % 2 == 0 else own - 1
        powers = {o: math.exp(float(vectors[own] @ vectors[o]) / 0.3) for o in range(6) if o != own}
        expected -= math.log(powers[other] / sum(powers.values())) / 6
    assert _term(network, scans) == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_moco_finds_the_other_views_key_among_those_of_the_past() -> None:
    network, scans = _network("moco").train(), _scans()
    objective: Any = network.objective
    queries = _unit(objective.head(_pooled(network.encoder, scans)))
    # the copy is as the encoder was made, and judges by kept statistics
    keys = _unit(objective.head(_pooled(copy.deepcopy(objective.target.module).eval(), scans)))
    past, expected = objective.queue.clone(), 0.0
    for own, other in enumerate([1, 0, 3, 2, 5, 4]):
        found = math.exp(float(queries[own] @ keys[other]) / 0.3)
        wrong = sum(math.exp(float(queries[own] @ key) / 0.3) for key in past)
        expected -= math.log(found / (found + wrong)) / 6
    assert _term(network, scans) == pytest.approx(expected, rel=1e-4)
    network.follow()
    torch.testing.assert_close(objective.queue, torch.cat([keys, past[6:]]))
    _term(network, scans)
    network.follow()
    assert int(objective.place) == 2, "the oldest are written over, round and round"
    assert not torch.equal(objective.queue[:2], keys[:2]) and torch.equal(objective.queue[2:6], keys[2:])


@torch.no_grad()
def test_byol_predicts_what_the_copy_sees() -> None:
    network, scans = _network("byol").train(), _scans()
    objective: Any = network.objective
    predicted = _unit(objective.predictor(objective.head(_pooled(network.encoder, scans))))
    kept = copy.deepcopy(objective.head).eval()
    kept.load_state_dict(objective.target_head.module.state_dict())
    targets = _unit(kept(_pooled(objective.target.module, scans)))
    expected = sum(float((predicted[own] - targets[own ^ 1]).square().sum()) for own in range(6)) / 6
    assert _term(network, scans) == pytest.approx(expected, rel=1e-4)


def test_simsiam_stops_the_gradient_of_what_is_predicted() -> None:
    network, scans = _network("simsiam").train(), _scans()
    objective: Any = network.objective
    vectors = objective.head(_pooled(network.encoder, scans))
    targets = _unit(vectors)[[1, 0, 3, 2, 5, 4]].detach()
    expected = (_unit(objective.predictor(vectors)) - targets).square().sum(1).mean()
    expected.backward()
    wanted = [parameter.grad.clone() for parameter in network.encoder.parameters()]
    network.zero_grad()
    (term,) = network.train()(scans).values()
    assert float(term.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    term.backward()
    for parameter, gradient in zip(network.encoder.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_dim_tells_own_locations_from_those_of_other_scans(dims: int) -> None:
    network, scans = _network("dim", dims).train(), _scans(dims)
    objective: Any = network.objective
    maps = network.encoder(scans)
    whole, parts = objective.head(_pooled(network.encoder, scans)), objective.local_head(maps[-2]).flatten(2)
    positive: list[float] = []
    negative: list[float] = []
    for one in range(6):
        for other in range(one % 2, 6, 2):  # scans of the same view
            for place in range(parts.shape[2]):
                fit = float(whole[one] @ parts[other, :, place]) / 8**0.5
                (positive if one == other else negative).append(math.log1p(math.exp(-fit if one == other else fit)))
    expected = sum(positive) / len(positive) + sum(negative) / len(negative)
    assert _term(network, scans) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("size", [(8, 12), (8, 12, 16)])
def test_patches_lie_every_half_patch(size: tuple[int, ...]) -> None:
    image = torch.rand(2, 3, *size)
    patches = overlapping_patches(image, 3)
    steps = [edge // 4 for edge in size]
    assert patches.shape == (2, 3 ** len(size), 3, *[2 * step for step in steps])
    # in row order: the last axis moves first
    second = image[:, :, : 2 * steps[0]]
    if len(size) == 3:
        second = second[:, :, :, : 2 * steps[1]]
    assert torch.equal(patches[:, 1], second[..., steps[-1] : 3 * steps[-1]])
    last = image
    for axis, step in enumerate(steps, 2):
        last = last.narrow(axis, 2 * step, 2 * step)
    assert torch.equal(patches[:, -1], last)


@pytest.mark.parametrize("dims", [2, 3])
def test_cpc_predicts_from_above_alone(dims: int) -> None:
    network = _network("cpc", dims, patches=4).eval()
    objective: Any = network.objective
    features = torch.randn(2, network.encoder.channels[-1], *[4] * dims, requires_grad=True)
    context = objective._summed_up(features)
    assert context.shape == (2, 8, *[4] * dims)
    context[:, :, 1].sum().backward()
    assert features.grad is not None
    reached = features.grad.abs().sum(1).flatten(2).sum((0, 2))  # by rows
    assert bool((reached[:2] > 0).all()) and not bool(reached[2:].any())


@torch.no_grad()
def test_cpc_finds_patches_two_rows_below_among_those_of_its_view() -> None:
    network, scans = _network("cpc").train(), _scans(count=4)
    objective: Any = network.objective
    vectors = _pooled(network.encoder, overlapping_patches(scans, 3).flatten(0, 1)).unflatten(0, (4, 3, 3))
    context = objective._summed_up(vectors.permute(0, 3, 1, 2))
    predicted = objective.predictors[0](context[:, :, :1]).permute(0, 2, 3, 1)
    expected = 0.0
    for view in (0, 1):
        guesses, truth = _unit(predicted[view::2].flatten(0, 2)), _unit(vectors[view::2, 2:].flatten(0, 2))
        logits = guesses @ truth.t() / 0.3
        expected -= float(logits.log_softmax(1).diagonal().mean()) / 2
    assert _term(network, scans) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_droc_tells_a_view_from_turned_scans_in_one_direction(dims: int) -> None:
    network, scans = _network("droc", dims, head_layers=2).train(), _scans(dims, 4)
    objective: Any = network.objective
    assert len([layer for layer in objective.head if isinstance(layer, nn.Linear)]) == 3
    turned = torch.cat([torch.rot90(scans, turn, (2, 3)) for turn in range(4)])  # (turn, scan, view)
    vectors = _unit(objective.head(_pooled(network.encoder, turned)))
    first, second = vectors[0::2], vectors[1::2]
    expected = -float((first @ second.t() / 0.3).log_softmax(1).diagonal().mean())
    assert _term(network, scans) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_ccd_contrasts_and_names_exchanged_halves(dims: int) -> None:
    network, scans = _network("ccd", dims).train(), _scans(dims, 4)
    objective: Any = network.objective
    versions = exchanged_halves(scans)
    assert versions.shape == (4, 2**dims, 1, *[32] * dims) and torch.equal(versions[:, 0], scans)
    assert torch.equal(versions[:, 1], torch.cat([scans[:, :, 16:], scans[:, :, :16]], 2))
    assert torch.equal(versions[:, -1], scans.roll([16] * dims, list(range(2, 2 + dims))))
    features = _pooled(network.encoder, versions.flatten(0, 1))
    vectors = _unit(objective.head(features))
    names = [(scan // 2, kind) for scan in range(4) for kind in range(2**dims)]
    contrast, classes = 0.0, 0.0
    for own, name in enumerate(names):
        logits = vectors @ vectors[own] / 0.3
        logits[own] = -torch.inf
        (fellow,) = [other for other, same in enumerate(names) if same == name and other != own]
        contrast -= float(logits.log_softmax(0)[fellow]) / len(names)
        classes -= float(objective.classifier(features[own]).log_softmax(0)[name[1]]) / len(names)
    terms = {name: float(term) for name, term in pretrain_terms(network, {"image": scans}).items()}
    assert terms == pytest.approx({"contrast": contrast, "classes": classes}, rel=1e-3)


def _fitted_by_gaussian(dims: int) -> Pretrain:
    network = _network("simclr", dims).eval()
    network.collect(_scans(dims, 8))
    network.fit()
    return network


@pytest.mark.parametrize("dims", [2, 3])
def test_score_and_map_by_density(dims: int) -> None:
    network, normal, scans = (
        _network("droc", dims, detector="kde", sigma=0.0).eval(),
        _scans(dims, 8),
        _scans(dims, 3, 4),
    )
    network.collect(normal[:5])
    network.collect(normal[5:])
    network.fit()
    with torch.no_grad():
        known, own = (_unit(_pooled(network.encoder, each).double()) for each in (normal, scans))
        gamma = 10 / (known.shape[1] * float(known.var(correction=0)))
        squares = (own[:, None] - known).square().sum(2)
        expected = math.log(8) - torch.logsumexp(-gamma * squares, 1)
        found = network(scans)
    torch.testing.assert_close(network.pool(found).double(), expected, rtol=1e-3, atol=1e-3)
    assert bool((found.flatten(1).std(1) > 0).all())
    for each in (network, _fitted_by_gaussian(dims)):
        torch.testing.assert_close(torch.jit.script(each)(scans), each(scans), rtol=1e-3, atol=1e-4)
    # the map is by the direction in which the score grows
    vectors = own.float().requires_grad_()
    score, direction = network.judged(vectors)
    (gradient,) = torch.autograd.grad(score.sum(), vectors)
    torch.testing.assert_close(direction, gradient, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_everything_that_is_trained_is_reached(objective: str) -> None:
    network = _network(objective).train()
    torch.stack(list(pretrain_terms(network, {"image": _scans()}).values())).sum().backward()
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == reached and any(name.startswith("encoder") for name in reached)
    assert not any("target" in name for name in learning), "copies follow and do not learn"
    slow, fast = network.pretrained_parameters(), network.fresh_parameters()
    assert {id(parameter) for parameter in [*slow, *fast]} == {
        id(parameter) for name, parameter in network.named_parameters() if name in learning
    }


def test_a_copy_follows_slowly_with_its_statistics() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    follower = MomentumCopy(module, 0.5).train()
    assert not follower.module.training
    before = copy.deepcopy(follower.module.state_dict())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    module.train()(torch.randn(8, 2) + 3)
    follower.follow(module)
    for name, value in follower.module.state_dict().items():
        now = module.state_dict()[name]
        expected = now if not value.is_floating_point() else torch.lerp(before[name], now, 0.9)
        torch.testing.assert_close(value, expected)
    for _ in range(8):
        follower.follow(module)
    before_last = follower.module.state_dict()["0.weight"].clone()
    with torch.no_grad():
        module.state_dict()["0.weight"].add_(1)
    follower.follow(module)
    expected = torch.lerp(before_last, module.state_dict()["0.weight"], 0.5)
    torch.testing.assert_close(follower.module.state_dict()["0.weight"], expected)


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_others_start_from_the_file(dims: int, tmp_path: Path) -> None:
    network = _network("simclr", dims).train()
    network(_scans(dims))  # norms follow
    path = tmp_path / "encoder.pth"
    SaveBackbone(path, network.encoder)(None)  # type: ignore[arg-type]
    taps = make_taps("resnet10", dims, 1, [1, 2, 3], str(path))
    scans = _scans(dims, seed=5)
    for one, other in zip(taps(scans), network.eval().encoder(scans), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert not taps.folded, "its norms have statistics of their own"
    if dims == 2:
        inflated = make_taps("resnet10", 3, 1, [3], str(path))
        assert inflated(_scans(3))[0].shape[1] == 256
    else:
        with pytest.raises(InputError, match="another shape"):
            make_taps("resnet10", 2, 1, [3], str(path))


@pytest.mark.parametrize(
    "objective", ["simclr", *(pytest.param(name, marks=pytest.mark.slow) for name in ("byol", "dim", "cpc"))]
)
def test_a_short_training_lowers_the_loss(objective: str) -> None:
    network = _network(objective).train()
    optimizer = torch.optim.AdamW([*network.pretrained_parameters(), *network.fresh_parameters()], lr=2e-3)
    generator = torch.Generator().manual_seed(3)
    base = nn.functional.interpolate(torch.rand(8, 1, 4, 4, generator=generator), (32, 32), mode="bilinear")
    losses = []
    for _ in range(25):
        scans = base.repeat_interleave(2, 0) + 0.05 * torch.randn(16, 1, 32, 32, generator=generator)
        (term,) = pretrain_terms(network, {"image": scans}).values()
        optimizer.zero_grad()
        term.backward()
        optimizer.step()
        network.follow()
        losses.append(float(term.detach()))
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_what_there_is_not() -> None:
    with pytest.raises(InputError, match="simclr, moco"):
        _network("barlow")
    with pytest.raises(ValueError, match="three patches"):
        _network("cpc", patches=2)
    with pytest.raises(ValueError, match="decay"):
        _network("moco", decay=1.0)
    with pytest.raises(ValueError, match="at least two"):
        _network("dim").train()(_scans(count=2))
