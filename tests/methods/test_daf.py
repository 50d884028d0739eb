"""DAF by its public code: discrepancies, the segmentation of them, the loss and the map."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plain_resnet import vary_norms
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from medad_plugins.methods.daf import DAF, DAFLoss
from medad_plugins.methods.daf.network import discrepancy


def _daf(spatial_dims: int = 2, **others: Any) -> DAF:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"backbone": "resnet10", "weights": "none", "width": 8, "sigma": 0.0} | others
    network = DAF(spatial_dims, 1, **settings)
    vary_norms(network)
    return network


def _scan(*size: int, channels: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(seed))


def _moments(values: Tensor) -> Tensor:
    """Gaussian means of a channel ``(*grid)``, mirrored at the border, in a window of 11."""
    smoothed = gaussian_filter(values.numpy(), 1.5, mode="mirror", truncate=5 / 1.5)
    return torch.as_tensor(smoothed)


@pytest.mark.parametrize("grid", [(9, 12), (4, 4), (5, 6, 7)])
def test_discrepancy_is_of_structure_and_direction_and_not_of_strength(grid: tuple[int, ...]) -> None:
    one, other = (_scan(*grid, channels=3, seed=seed).double() for seed in (0, 1))
    found = discrepancy(one, other)
    cosine = (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
    for case in range(2):
        for channel in range(3):
            a, b = (x[case, channel] / x[case, channel].max() for x in (one, other))
            mean_a, mean_b = _moments(a), _moments(b)
            within = _moments(a * a) + _moments(b * b) - mean_a**2 - mean_b**2
            shared = _moments(a * b) - mean_a * mean_b
            similarity = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4) * (2 * shared + 9e-4)
            expected = 1 - similarity / (within + 9e-4) + 1 - cosine[case]
            torch.testing.assert_close(found[case, channel].double(), expected, rtol=1e-3, atol=2e-4)
    assert float(discrepancy(one, 7 * one).abs().max()) < 1e-4
    torch.testing.assert_close(discrepancy(3 * one, other), found, rtol=1e-3, atol=1e-4)


def test_the_loss_written_out() -> None:
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, :, 4:8, 0:8] = 1
    differences = [_scan(4, 4, seed=2), _scan(2, 2, seed=3)]
    logits = [4 * _scan(16, 16, seed=4) - 2, 4 * _scan(4, 4, seed=5) - 2]
    expected = 0.0
    normal = torch.ones(2, 1, 4, 4)
    normal[0, :, 1, 0:2] = 0
    expected += float((differences[0] * normal).sum() / 30)
    normal = torch.ones(2, 1, 2, 2)  # the nearest pixels are those of rows and columns 0 and 8
    expected += float((differences[1] * normal).sum() / 8)
    for found in logits:
        p = torch.sigmoid(functional.interpolate(found, (16, 16), mode="bilinear", align_corners=False))
        inside = (-p[mask > 0].log()).tolist()
        outside = sorted((-(1 - p[mask == 0]).log()).tolist(), reverse=True)[: 3 * 32]
        expected += sum(inside + outside) / (4 * 32)
    assert float(DAFLoss()((differences, logits), mask)) == pytest.approx(expected, rel=1e-5)


def test_without_an_anomaly_the_teacher_is_all_there_is_to_learn_from() -> None:
    differences, logits = [_scan(4, 4)], [_scan(16, 16, seed=1)]
    loss = DAFLoss()((differences, logits), torch.zeros(2, 1, 16, 16))
    assert float(loss) == pytest.approx(float(differences[0].mean()), rel=1e-6)


def test_the_teacher_sees_the_clean_scan_and_all_but_the_teacher_learns() -> None:
    network, changed, clean = _daf(), _scan(48, 48), _scan(48, 48, seed=1)
    network.train()
    network.student.eval()
    differences, logits = network(torch.cat([changed, clean], 1))
    assert [tuple(each.shape) for each in differences] == [(2, 1, 12, 12), (2, 1, 6, 6), (2, 1, 3, 3)]
    assert [tuple(each.shape[2:]) for each in logits] == [(48, 48), (12, 12), (6, 6), (3, 3)]
    for own, true, found in zip(network.student(changed), network.teacher(clean), differences, strict=True):
        torch.testing.assert_close(found, discrepancy(own, true).mean(1, keepdim=True), rtol=1e-4, atol=1e-5)
    network.train()
    DAFLoss()(network(torch.cat([changed, clean], 1)), (_scan(48, 48, seed=2) > 0.8).float()).backward()
    learnt = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learnt == {"student", "segmentation", "guides"}
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (33, 36, 40)])
def test_map_is_the_mean_discrepancies_and_three_times_the_segmentation(size: tuple[int, ...]) -> None:
    network, image = _daf(len(size)).eval(), _scan(*size)
    mode = "bilinear" if len(size) == 2 else "trilinear"

    def to(features: Tensor, grid: Any) -> Tensor:
        return functional.interpolate(features, list(grid), mode=mode, align_corners=False)

    with torch.no_grad():
        student, teacher = network.student(image), network.teacher(image)
        found = [discrepancy(own, true) for own, true in zip(student, teacher, strict=True)]
        grids = [each.shape[2:] for each in found]
        ones = [1] * len(size)
        fused = found[0].repeat(1, 4, *ones) + to(found[1], grids[0]).repeat(1, 2, *ones) + to(found[2], grids[0])
        part = network.segmentation
        x = part.coarse(to(torch.cat([to(part.fuse(fused), grids[2]), student[2]], 1), grids[1]))
        x = part.grown(to(part.grow(torch.cat([x, student[1]], 1)), grids[0]))
        # as in the public code: first enlarged, then the convolution
        x = part.refined(part.fine(to(torch.cat([x, student[0]], 1), [(edge + 1) // 2 for edge in size])))
        expected = 3 * torch.sigmoid(part.last(to(x, size)))
        for each in found:
            expected = expected + to(each.mean(1, keepdim=True), size)
        torch.testing.assert_close(network(image), expected, rtol=1e-3, atol=1e-4)
        network.scale_weights = [0.0, 1.0, 0.5]
        left_out = to(found[0].mean(1, keepdim=True), size) + 0.5 * to(found[2].mean(1, keepdim=True), size)
        torch.testing.assert_close(network(image), expected - left_out, rtol=1e-3, atol=1e-4)


def test_an_efficientnet_and_a_width_that_cannot_be_halved() -> None:
    network = _daf(backbone="efficientnet_lite0").eval()
    with torch.no_grad():
        assert network(_scan(64, 64)).shape == (2, 1, 64, 64)
    with pytest.raises(ValueError, match="width"):
        _daf(width=6)
    with pytest.raises(ValueError, match="scale_weights"):
        _daf(scale_weights=[1, 1])


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _daf(sigma=1.0).eval(), _scan(64, 60)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-5)
