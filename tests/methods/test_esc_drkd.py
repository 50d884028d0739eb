"""ESC-DRKD: convolutions without a centre, what projections and student are given, what learns, and the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_resnet import vary_norms
from short_trainings import alike_scans, standing_out, weights_of_varied_taps
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses import LocalCosineLoss
from medad_plugins.methods.esc_drkd import ESCDRKD, CentreMaskedConvolution
from medad_plugins.synthesis.published import pasted_squares


def _esc(spatial_dims: int = 2, **others: Any) -> ESCDRKD:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"backbone": "resnet10", "weights": "none", "sigma": 0.0} | others
    network = ESCDRKD(spatial_dims, 1, **settings)
    vary_norms(network)
    return network.eval()


def _scan(*size: int, batch: int = 2, channels: int = 1) -> Tensor:
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(7, 9), (5, 7, 6)])
def test_a_place_is_predicted_from_its_neighbours(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    conv = CentreMaskedConvolution(len(size), 4, 3)
    x = torch.rand(1, 4, *size)
    changed, inside = x.clone(), x[0, 0].numel() // 2
    changed.flatten(2)[..., inside] += 1
    difference = (conv(changed) - conv(x)).detach().abs().sum(1).flatten()
    assert float(difference[inside]) == 0 and int((difference > 0).sum()) == 3 ** len(size) - 1
    plain = nn.Conv2d if len(size) == 2 else nn.Conv3d
    assert isinstance(conv.conv, plain), "the rest is a plain convolution"


def test_projections_see_the_changed_scan_and_the_student_s_start_the_clean_one() -> None:
    network, both = _esc(), _scan(64, 80, channels=2)
    with torch.no_grad():
        changed, clean = network.teacher(both[:, :1]), network.teacher(both[:, 1:])
        skips = [network.coarse(changed[2]), network.middle(changed[1])]
        coarse, middle, fine = network.student.stages
        third = coarse(clean[3], list(clean[2].shape[2:]))
        second = middle(third + skips[0], list(clean[1].shape[2:]))
        first = fine(second + skips[1], list(clean[0].shape[2:]))
        found, targets = network.training_output(both)
    expected = [first, second, third, *skips]
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)
    for own, other in zip(targets, [*clean[:3], clean[2], clean[1]], strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)


def test_student_and_projections_learn() -> None:
    network = _esc().train()
    LocalCosineLoss()(network(_scan(64, 64, channels=2))).backward()
    learning = {id(p) for p in network.parameters() if p.grad is not None}
    groups = [*network.student_parameters(), *network.projection_parameters()]
    assert learning == {id(p) for p in groups} == {id(p) for p in network.parameters() if p.requires_grad}


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (40, 36, 33)])
def test_map_is_the_mean_of_the_distances(size: tuple[int, ...]) -> None:
    network, image = _esc(len(size)), _scan(*size)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    with torch.no_grad():
        taps, expected = network.teacher(image), torch.zeros(2, 1, *size)
        for own, true in zip(network.rebuild(taps), taps[:3], strict=True):
            distance = 1 - functional.cosine_similarity(own, true)[:, None]
            expected += functional.interpolate(distance, size, mode=mode, align_corners=True) / 3
        torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-5)


def test_squares_are_of_three_kinds() -> None:
    assert len(pasted_squares()) == 3 and len({recipe.name for recipe in pasted_squares()}) == 3


def test_an_efficientnet() -> None:
    with torch.no_grad():
        assert _esc(backbone="efficientnet_lite0")(_scan(64, 64)).shape == (2, 1, 64, 64)


@pytest.mark.costly
def test_it_learns_normal_features(tmp_path: Path) -> None:
    path = weights_of_varied_taps(tmp_path)
    torch.manual_seed(0)
    network, normal = ESCDRKD(2, 1, "resnet10", path, sigma=0.0, reduction=0.05), alike_scans()
    changed = normal[8:].clone()
    changed[:, :, 8:40, 24:56] = torch.rand(2, 1, 32, 32)

    before = standing_out(network, changed, normal[8:])
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 2e-3)
    network.train()
    for _ in range(40):
        pasted = normal[:8].clone()
        row, column = (int(place) for place in torch.randint(0, 40, (2,)))
        pasted[:, :, row : row + 20, column : column + 20] = normal[:8, :, 10:30, 10:30]
        optimizer.zero_grad()
        LocalCosineLoss()(network(torch.cat([pasted, normal[:8]], 1))).backward()
        optimizer.step()
    after = standing_out(network, changed, normal[8:])
    assert after > max(1.2, 1.2 * before), (before, after)


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _esc(), _scan(64, 60)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-6)
