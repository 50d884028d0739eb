"""Skip-TS: what its student is given, the loss of errors that are alike, what learns, and the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plain_resnet import vary_norms
from short_trainings import alike_scans, standing_out, train_for_seconds, weights_of_varied_taps
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.methods.skip_ts import SkipTS, SkipTSLoss


def _skip_ts(spatial_dims: int = 2, **others: Any) -> SkipTS:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"backbone": "resnet10", "weights": "none", "sigma": 0.0} | others
    network = SkipTS(spatial_dims, 1, **settings)
    vary_norms(network)
    return network.eval()


def _scan(*size: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("skips", [0, 1, 2])
def test_the_teacher_s_maps_are_added_to_what_the_next_stage_takes(skips: int) -> None:
    network, image = _skip_ts(skips=skips), _scan(64, 80)
    with torch.no_grad():
        taps = network.teacher(image)
        assert [tap.shape[1] for tap in taps] == [64, 128, 256, 512]
        coarse, middle, fine = network.student.stages
        third = coarse(taps[3], list(taps[2].shape[2:]))
        second = middle(torch.relu(third + taps[2]) if skips > 0 else third, list(taps[1].shape[2:]))
        first = fine(torch.relu(second + taps[1]) if skips > 1 else second, list(taps[0].shape[2:]))
        found = network.rebuild(taps)
    for own, expected in zip(found, (first, second, third), strict=True):
        torch.testing.assert_close(own, expected)


def test_the_loss_written_out() -> None:
    torch.manual_seed(0)
    rebuilt, teacher = ([torch.rand(2, 3 * 2**k, 16 // 2**k, 8 // 2**k) for k in range(3)] for _ in range(2))

    def up(features: Tensor, level: int) -> Tensor:
        return functional.interpolate(features, rebuilt[level].shape[2:], mode="bilinear", align_corners=True)

    def error(own: Tensor, true: Tensor) -> float:
        return float((own - true).square().mean())

    one, two = (error(rebuilt[k], teacher[k]) for k in (0, 1))
    expected = abs(error(up(rebuilt[2], 1), up(teacher[2], 1)) - two)
    expected += abs(error(up(rebuilt[1], 0), up(teacher[1], 0)) - one)
    expected += abs(error(up(up(rebuilt[2], 1), 0), up(up(teacher[2], 1), 0)) - one)
    cosine = 0.0
    for own, true in zip(rebuilt, teacher, strict=True):
        cosine += float(1 - functional.cosine_similarity(own.flatten(1), true.flatten(1)).mean())
    assert float(SkipTSLoss(0.0)((rebuilt, teacher))) == pytest.approx(cosine, rel=1e-5)
    assert float(SkipTSLoss(2.0)((rebuilt, teacher))) == pytest.approx(cosine + 2 * expected, rel=1e-4)
    volumes = [torch.rand(1, 2, 4, 4, 4), torch.rand(1, 2, 2, 2, 2), torch.rand(1, 2, 1, 1, 1)]
    assert float(SkipTSLoss()((volumes, volumes))) == pytest.approx(0, abs=1e-6)


def test_the_student_alone_learns() -> None:
    network = _skip_ts().train()
    SkipTSLoss()(network(_scan(64, 64))).backward()
    assert {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None} == {"student"}
    assert not network.teacher.training


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (40, 36, 33)])
def test_map_is_the_sum_of_the_distances(size: tuple[int, ...]) -> None:
    network, image = _skip_ts(len(size)), _scan(*size)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    with torch.no_grad():
        taps, expected = network.teacher(image), torch.zeros(2, 1, *size)
        for own, true in zip(network.rebuild(taps), taps[:3], strict=True):
            distance = 1 - functional.cosine_similarity(own, true)[:, None]
            expected += functional.interpolate(distance, size, mode=mode, align_corners=True)
        torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-5)


def test_weights_without_the_last_stage_and_an_efficientnet(tmp_path: Path) -> None:
    network = _skip_ts(weights=weights_of_varied_taps(tmp_path))
    assert not any(parameter.requires_grad for parameter in network.teacher.parameters())
    with torch.no_grad():
        assert _skip_ts(backbone="efficientnet_lite0")(_scan(64, 64)).shape == (2, 1, 64, 64)
    with pytest.raises(InputError, match="no such skips"):
        _skip_ts(skips=3)


@pytest.mark.costly
def test_it_learns_normal_features(tmp_path: Path) -> None:
    path = weights_of_varied_taps(tmp_path)
    torch.manual_seed(0)
    network, normal = SkipTS(2, 1, "resnet10", path, sigma=0.0, reduction=0.05), alike_scans()
    changed = normal[8:].clone()
    changed[:, :, 8:40, 24:56] = torch.rand(2, 1, 32, 32)

    before = standing_out(network, changed, normal[8:])
    train_for_seconds(network, network.student_parameters(), SkipTSLoss(), normal[:8], 5e-3)
    after = standing_out(network, changed, normal[8:])
    assert after > max(1.3, 1.3 * before), (before, after)


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _skip_ts(), _scan(64, 60)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-6)
