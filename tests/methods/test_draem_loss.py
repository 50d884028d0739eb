"""DRAEM's loss: similarity with padded borders, focal loss with its two smoothings, and their sum."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from monai.losses.ssim_loss import SSIMLoss
from torch import Tensor
from torch.nn import functional

from medad_plugins.losses import gaussian_ssim, softmax_focal
from medad_plugins.methods.draem import DRAEMLoss

SIZES: dict[int, tuple[int, ...]] = {2: (14, 17), 3: (9, 12, 13)}


def _pair(spatial_dims: int, channels: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(2, channels, *SIZES[spatial_dims], generator=generator)
    return first, (first + 0.3 * torch.rand(first.shape, generator=generator)).clamp(0, 1)


def _plain_ssim(
    one: np.ndarray,
    other: np.ndarray,
    window: int = 11,
    sigma: float = 1.5,
    border: Literal["constant", "reflect"] = "constant",
) -> np.ndarray:
    """Place by place in an image ``(*spatial)``: weighted moments in a window, beyond the border NumPy's padding."""
    half = window // 2
    axes = np.meshgrid(*[np.arange(-half, half + 1)] * one.ndim, indexing="ij")
    weights = np.exp(-sum(axis**2 for axis in axes) / (2 * sigma**2))
    weights /= weights.sum()
    x, y, out = np.pad(one, half, border), np.pad(other, half, border), np.empty_like(one)
    for place in np.ndindex(*one.shape):
        box = tuple(slice(p, p + window) for p in place)
        a, b = x[box], y[box]
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * a * a).sum() - mean_a**2, (weights * b * b).sum() - mean_b**2
        covariance = (weights * a * b).sum() - mean_a * mean_b
        out[place] = ((2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)) / (
            (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
        )
    return out


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_similarity_is_that_of_windows_with_zeros_beyond_the_border(spatial_dims: int) -> None:
    one, other = _pair(spatial_dims, channels=2)
    found = gaussian_ssim(one.double(), other.double())
    for case, channel in ((0, 0), (1, 1)):
        expected = _plain_ssim(one[case, channel].double().numpy(), other[case, channel].double().numpy())
        np.testing.assert_allclose(found[case, channel].numpy(), expected, atol=1e-9)
    assert bool((gaussian_ssim(one, one) > 1 - 1e-5).all())


@pytest.mark.parametrize("size", [(14, 9), (4, 3), (1, 6), (5, 4, 7)])
def test_similarity_with_the_image_mirrored_at_its_border_however_wide_the_window(size: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.rand(2, 1, 1, *size, generator=generator, dtype=torch.float64)
    expected = _plain_ssim(one[0, 0].numpy(), other[0, 0].numpy(), border="reflect")
    np.testing.assert_allclose(gaussian_ssim(one, other, mirrored=True)[0, 0].numpy(), expected, atol=1e-9)


def test_away_from_the_border_it_is_monais() -> None:
    one, other = _pair(2)
    inner = gaussian_ssim(one, other)[..., 5:-5, 5:-5]
    expected = 1 - SSIMLoss(2, win_size=11, kernel_sigma=1.5)(one, other)
    assert float(inner.mean()) == pytest.approx(float(expected), abs=1e-4)


def test_focal_loss_smooths_the_target_and_the_probability() -> None:
    logits = torch.randn(2, 2, 6, 5, generator=torch.Generator().manual_seed(1)) * 3
    mask = (torch.rand(2, 1, 6, 5, generator=torch.Generator().manual_seed(2)) > 0.7).float()
    total = 0.0
    for place in np.ndindex(2, 6, 5):
        a, b = (float(logits[(place[0], k, *place[1:])]) for k in (0, 1))
        p = [np.exp(a) / (np.exp(a) + np.exp(b)), np.exp(b) / (np.exp(a) + np.exp(b))]
        label = int(mask[(place[0], 0, *place[1:])])
        right = (1 - 1e-5) * p[label] + 1e-5 * p[1 - label] + 1e-5
        total -= (1 - right) ** 2 * np.log(right)
    assert float(softmax_focal(logits, mask)) == pytest.approx(total / 60, rel=1e-5)
    # without focus and smoothing it is the cross entropy
    usual = functional.cross_entropy(logits, mask[:, 0].long())
    assert float(softmax_focal(logits, mask, gamma=0, smooth=1e-12)) == pytest.approx(float(usual), rel=1e-4)


def test_a_sure_mistake_has_a_finite_gradient() -> None:
    logits = torch.tensor([[60.0, -60.0]]).reshape(1, 2, 1, 1).requires_grad_()
    loss = softmax_focal(logits, torch.ones(1, 1, 1, 1))
    assert float(loss.detach()) == pytest.approx(-np.log(2e-5), rel=1e-3)
    loss.backward()
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_loss_is_the_sum_of_the_three(spatial_dims: int) -> None:
    repaired, clean = _pair(spatial_dims)
    logits = torch.randn(2, 2, *clean.shape[2:], generator=torch.Generator().manual_seed(3))
    mask = (clean > 0.8).float()
    terms = (
        float(functional.mse_loss(repaired, clean)),
        1 - float(gaussian_ssim(repaired, clean).mean()),
        float(softmax_focal(logits, mask)),
    )
    assert float(DRAEMLoss()((repaired, logits), (clean, mask))) == pytest.approx(sum(terms), rel=1e-5)
    weighted = DRAEMLoss(0.5, 2.0)((repaired, logits), (clean, mask))
    assert float(weighted) == pytest.approx(terms[0] + 0.5 * terms[1] + 2 * terms[2], rel=1e-5)
    half = DRAEMLoss()((repaired.bfloat16(), logits.bfloat16()), (clean, mask))
    assert half.dtype == torch.float32
