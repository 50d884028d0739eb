"""UniNet by its paper: selection, loss, bottleneck, the weighted decision, what learns, and the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_resnet import vary_norms
from short_trainings import alike_scans, standing_out, weights_of_varied_taps
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.methods.uninet import PlaceContrastLoss, UniNet
from medad_plugins.methods.uninet.bottleneck import TwoKernelBottleneck
from medad_plugins.methods.uninet.decision import WeightedDecision

Maps = list[Tensor]


def _uninet(spatial_dims: int = 2, **others: Any) -> UniNet:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"backbone": "resnet10", "weights": "none", "sigma": 0.0} | others
    network = UniNet(spatial_dims, 1, **settings)
    vary_norms(network)
    vary_norms(network.encoder, seed=1)
    return network.eval()


def _scan(*size: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(0))


def _maps(*sizes: tuple[int, ...]) -> Maps:
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(2, *size, generator=generator) - 0.3 for size in sizes]


def _crossed(network: UniNet, image: Tensor) -> tuple[Maps, Maps]:
    """Both directions, each passed through the network by itself: the frozen one's maps are rebuilt first."""
    trained, frozen = network.encoder(image), network.teacher(image)
    sizes = [list(tap.shape[2:]) for tap in trained]
    rebuilt = [network.decoder(network.bottleneck(given), sizes) for given in (trained, frozen)]
    return rebuilt[0] + rebuilt[1], frozen + trained


def test_in_training_rebuilt_features_are_weighted_to_where_the_true_ones_are_large() -> None:
    network, image = _uninet(), _scan(64, 48)
    network.selection.middle.data = torch.linspace(-3, 3, 128)
    with torch.no_grad():
        selected, true = network.training_output(image)
        rebuilt, expected_true = _crossed(network, image)
        for number, (found, own, prior) in enumerate(zip(selected, rebuilt, expected_true, strict=True)):
            torch.testing.assert_close(true[number], prior, rtol=1e-4, atol=1e-5)
            least = torch.ones(own.shape[1])
            if number in (1, 4):
                least = (1 / (1 + torch.exp(-torch.linspace(-3, 3, 128))) + 0.5).clamp(max=1)
            exponents = (prior - prior.amax((2, 3), keepdim=True)).exp()
            share = exponents / exponents.sum((2, 3), keepdim=True)
            weight = share * (least[None, :, None, None] + prior.mean((2, 3), keepdim=True))
            torch.testing.assert_close(found, own * weight, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("margin", [1.0, 0.2])
def test_the_loss_written_out(margin: float) -> None:
    rebuilt, true = _maps((6, 3, 4), (5, 2, 2)), _maps((6, 3, 4), (5, 2, 2))
    true = [one + 0.4 * torch.randn(one.shape, generator=torch.Generator().manual_seed(5)) for one in true]
    expected = 0.0
    for own, other in zip(rebuilt, true, strict=True):
        terms = []
        for case in range(2):
            a, b = own[case].flatten(1).numpy().T, other[case].flatten(1).numpy().T
            a, b = a / np.linalg.norm(a, axis=1)[:, None], b / np.linalg.norm(b, axis=1)[:, None]
            chances = np.exp(a @ b.T / 0.5)
            right = np.diag(chances) / chances.sum(1)
            terms.append(0.6 * (1 - (a * b).sum(1)) - 0.4 * np.log(right) + np.maximum(margin - right, 0))
        expected += float(np.mean(terms))
    loss = PlaceContrastLoss(temperature=0.5, balance=0.6, margin=margin)((rebuilt, true))
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_of_large_maps_every_nth_place_is_told_apart() -> None:
    rebuilt, true = _maps((4, 6, 6)), [one.flip(2) for one in _maps((4, 6, 6))]
    thinned = PlaceContrastLoss(balance=0.0, most_places=9)((rebuilt, true))
    few = PlaceContrastLoss(balance=0.0)(([rebuilt[0][:, :, ::2, ::2]], [true[0][:, :, ::2, ::2]]))
    torch.testing.assert_close(thinned, few)
    whole = PlaceContrastLoss(balance=1.0, margin=0.0, most_places=9)((rebuilt, true))
    cosine = functional.cosine_similarity(rebuilt[0], true[0], dim=1)
    assert float(whole) == pytest.approx(1 - float(cosine.mean()), rel=1e-4)


def test_what_is_to_be_rebuilt_learns_only_where_it_is_told_to() -> None:
    true = [one.requires_grad_() for one in _maps((4, 3, 3))]
    assert not PlaceContrastLoss()(([one.detach().flip(1) for one in true], true)).requires_grad
    PlaceContrastLoss(stop_gradient=False)(([one.detach().flip(1) for one in true], true)).backward()
    assert true[0].grad is not None and bool(true[0].grad.any())


def test_the_bottleneck_s_halves_go_through_kernels_of_their_own() -> None:
    torch.manual_seed(0)
    bottleneck = TwoKernelBottleneck("resnet10", 2, (3, 7)).eval()
    vary_norms(bottleneck)
    block: Any = bottleneck.embed[0]
    x = _maps((768, 4, 5))[0]
    with torch.no_grad():
        halves = []
        for part, branch, pad in ((x[:, :384], block.first, 1), (x[:, 384:], block.second, 3)):
            assert branch[0].weight.shape[-1] == 2 * pad + 1
            first = branch[1](functional.conv2d(part, branch[0].weight, stride=2, padding=pad)).relu()
            halves.append(branch[4](functional.conv2d(first, branch[3].weight, padding=pad)))
        joined = block.join[1](functional.conv2d(torch.cat(halves, 1), block.join[0].weight))
        shortcut = block.shortcut[1](functional.conv2d(x, block.shortcut[0].weight, stride=2))
        torch.testing.assert_close(block(x), (joined + shortcut).relu(), rtol=1e-4, atol=1e-4)
        assert block(x).shape == (2, 512, 2, 3)


def test_the_weighted_decision_written_out() -> None:
    rebuilt, true = (
        _maps((6, 8, 8), (5, 4, 4), (7, 2, 2)),
        [one.flip(2) ** 2 for one in _maps((6, 8, 8), (5, 4, 4), (7, 2, 2))],
    )
    anomaly_map = torch.rand(2, 1, 16, 16)
    for scale_weights, counted in ((None, (0, 1, 2)), ([0, 1, 1], (1, 2))):
        found = WeightedDecision(alpha=0.1, least_share=0.003, scale_weights=scale_weights)(rebuilt, true, anomaly_map)
        for case in range(2):
            largest = []
            for scale in counted:
                own, other = rebuilt[scale][case], true[scale][case]
                largest.append(float((1 - functional.cosine_similarity(own, other, dim=0)).max()))
            chances = np.exp(largest) / np.exp(largest).sum()
            large = [value for value, chance in zip(largest, chances, strict=True) if chance >= chances.mean()]
            count = max(1, int(256 * max(0.1 * float(np.mean(large)), 0.003)))
            expected = anomaly_map[case].flatten().sort(descending=True).values[:count].mean()
            assert count > 5 and float(found[case]) == pytest.approx(float(expected), rel=1e-5)
    same = [torch.ones(1, 2, 2, 2)] * 3
    assert float(WeightedDecision()(same, same, torch.tensor([[[[3.0, 1.0]]]]))) == 3.0


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (40, 36, 33)])
def test_map_is_the_sum_of_six_and_pools_to_the_score(size: tuple[int, ...]) -> None:
    network, image = _uninet(len(size), score="pooled", reduction=0.1), _scan(*size)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    with torch.no_grad():
        rebuilt, true = _crossed(network, image)
        expected = torch.zeros(2, 1, *size)
        for own, other in zip(rebuilt, true, strict=True):
            distance = 1 - functional.cosine_similarity(own, other)[:, None]
            expected += functional.interpolate(distance, size, mode=mode, align_corners=True)
        torch.testing.assert_close(network(image), expected, rtol=1e-3, atol=1e-4)
        network.weighted = True
        weighted = network(image)
        score = network.decision(rebuilt, true, expected)
        torch.testing.assert_close(network.pool(weighted), score, rtol=1e-3, atol=1e-4)
        ratio = weighted / expected
        assert float(ratio[0].std() / ratio[0].mean()) < 1e-2
        torch.testing.assert_close(network(image[1:]), weighted[1:], rtol=1e-3, atol=1e-4)


def test_the_map_compares_selected_features_on_request_and_never_selects_otherwise() -> None:
    image = _scan(64, 64)
    maps = {}
    with torch.no_grad():
        for selection in ("training", "always", "never"):
            network = _uninet(score="pooled", selection=selection, scale_weights=[0, 0, 1])
            maps[selection] = network(image)
            selected, true = network.training_output(image)
        torch.testing.assert_close(selected, network.crossed(image)[0])
        torch.testing.assert_close(maps["never"], maps["training"])
        selected, true = _uninet().training_output(image)
        expected = sum(1 - functional.cosine_similarity(selected[place], true[place])[:, None] for place in (2, 5))
        assert isinstance(expected, Tensor)
        expected = functional.interpolate(expected, (64, 64), mode="bilinear", align_corners=True)
        torch.testing.assert_close(maps["always"], expected, rtol=1e-3, atol=1e-4)
        assert float((maps["always"] - maps["training"]).abs().mean()) > 1e-3


def test_all_but_the_frozen_encoder_learns() -> None:
    network = _uninet().train()
    PlaceContrastLoss()(network(_scan(64, 64))).backward()
    learning = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert learning == {"encoder", "bottleneck", "decoder", "selection"} and not network.teacher.training
    slow = {id(parameter) for parameter in network.pretrained_parameters()}
    assert slow == {id(parameter) for parameter in network.encoder.parameters()}


def test_an_efficientnet_and_what_is_refused() -> None:
    with torch.no_grad():
        assert _uninet(backbone="efficientnet_lite0")(_scan(64, 64)).shape == (2, 1, 64, 64)
    for wrong in ({"score": "best"}, {"selection": "test"}, {"kernels": [3, 4]}, {"kernels": [3]}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            _uninet(**wrong)


@pytest.mark.costly
def test_it_learns_normal_features(tmp_path: Path) -> None:
    path = weights_of_varied_taps(tmp_path)
    torch.manual_seed(0)
    network, normal = UniNet(2, 1, "resnet10", path, sigma=0.0, reduction=0.05, score="pooled"), alike_scans()
    changed = normal[8:].clone()
    changed[:, :, 8:40, 24:56] = torch.rand(2, 1, 32, 32)

    before = standing_out(network, changed, normal[8:])
    optimizer = torch.optim.Adam(network.fresh_parameters(), 2e-3)
    loss = PlaceContrastLoss(temperature=0.2)
    network.train()
    for _ in range(30):
        optimizer.zero_grad()
        loss(network(normal[:8])).backward()
        optimizer.step()
    after = standing_out(network, changed, normal[8:])
    assert after > max(1.2, 1.2 * before), (before, after)


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _uninet(), _scan(64, 60)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-6)
