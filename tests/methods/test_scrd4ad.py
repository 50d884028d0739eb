"""SCRD4AD: weights of the scales, the ratio of distances that is its loss, what learns, and the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_resnet import vary_norms
from short_trainings import alike_scans, standing_out, weights_of_varied_taps
from torch import Tensor
from torch.nn import functional

from medad_plugins.methods.scrd4ad import SCRD4AD, ContrastiveDistillationLoss


def _scrd4ad(spatial_dims: int = 2, **others: Any) -> SCRD4AD:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"backbone": "resnet10", "weights": "none", "sigma": 0.0} | others
    network = SCRD4AD(spatial_dims, 1, **settings)
    vary_norms(network)
    network.weighing.weight.data = 0.5 * torch.randn_like(network.weighing.weight)
    return network.eval()


def _scan(*size: int, batch: int = 2, channels: int = 1) -> Tensor:
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(0))


def test_scales_begin_alike_and_are_weighed_case_by_case() -> None:
    torch.manual_seed(0)
    fresh = SCRD4AD(2, 1, "resnet10", "none").eval()
    with torch.no_grad():
        torch.testing.assert_close(fresh.weighed(fresh.teacher(_scan(64, 64)))[1], torch.ones(2, 3))
        network, image = _scrd4ad(), _scan(64, 64)
        taps = network.teacher(image)
        _, weights = network.weighed(taps)
        logits = network.weighing(network.bottleneck(taps).amax((2, 3)))
        torch.testing.assert_close(weights, 3 * logits.softmax(1))
        assert float((weights[0] - weights[1]).abs().max()) > 1e-3


def test_the_loss_written_out() -> None:
    network, both = _scrd4ad(), _scan(64, 48, channels=2)
    with torch.no_grad():
        output = network.training_output(both)
        rebuilt, clean, noisy, weights = output
        for own, expected in zip(clean, network.teacher(both[:, :1]), strict=True):
            torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)
        sums = []
        for targets in (clean, noisy):
            total = 0.0
            for case in range(2):
                for scale in range(3):
                    own, true = rebuilt[scale][case].flatten(), targets[scale][case].flatten()
                    cosine = own @ true / own.norm() / true.norm()
                    total += float(weights[case, scale] * (1 - cosine)) / 2
            sums.append(total)
        assert float(ContrastiveDistillationLoss()(output)) == pytest.approx(sums[0] / sums[1], rel=1e-4)
        assert float(ContrastiveDistillationLoss(False)(output)) == pytest.approx(sums[0], rel=1e-4)


def test_all_but_the_teacher_learns_and_the_weights_do_too() -> None:
    network = _scrd4ad().train()
    ContrastiveDistillationLoss()(network(_scan(64, 64, channels=2))).backward()
    learning = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert learning == {"bottleneck", "student", "weighing"} and not network.teacher.training
    assert {id(p) for p in network.student_parameters()} == {id(p) for p in network.parameters() if p.requires_grad}


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (40, 36, 33)])
def test_map_is_the_weighed_sum_of_the_distances(size: tuple[int, ...]) -> None:
    network, image = _scrd4ad(len(size)), _scan(*size)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    with torch.no_grad():
        taps, expected = network.teacher(image), torch.zeros(2, 1, *size)
        rebuilt, weights = network.weighed(taps)
        for scale, (own, true) in enumerate(zip(rebuilt, taps, strict=True)):
            distance = 1 - functional.cosine_similarity(own, true)[:, None]
            shown = functional.interpolate(distance, size, mode=mode, align_corners=True)
            expected += shown * weights[:, scale].reshape(2, *[1] * (len(size) + 1))
        torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network(image[1:]), network(image)[1:], rtol=1e-4, atol=1e-5)


def test_an_efficientnet() -> None:
    with torch.no_grad():
        assert _scrd4ad(backbone="efficientnet_lite0")(_scan(64, 64)).shape == (2, 1, 64, 64)


@pytest.mark.costly
def test_it_learns_normal_features(tmp_path: Path) -> None:
    path = weights_of_varied_taps(tmp_path)
    torch.manual_seed(0)
    network, normal = SCRD4AD(2, 1, "resnet10", path, sigma=0.0, reduction=0.05), alike_scans()
    changed = normal[8:].clone()
    changed[:, :, 8:40, 24:56] = torch.rand(2, 1, 32, 32)

    before = standing_out(network, changed, normal[8:])
    optimizer = torch.optim.Adam(network.student_parameters(), 1e-3)
    loss = ContrastiveDistillationLoss()
    network.train()
    for _ in range(40):
        noisy = normal[:8] + 0.2 * torch.randn_like(normal[:8])
        optimizer.zero_grad()
        loss(network(torch.cat([normal[:8], noisy], 1))).backward()
        optimizer.step()
    after = standing_out(network, changed, normal[8:])
    assert after > max(1.2, 1.2 * before), (before, after)


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _scrd4ad(), _scan(64, 60)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-6)
