"""Residual maps, by loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses import SSIMLoss
from scipy.ndimage import gaussian_filter
from torch import Tensor

from medad_plugins.scorers import RESIDUALS, ResidualMap, residual_map


def _pair(*size: int, channels: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, channels, *size, generator=generator)
    return (image + 0.2 * torch.randn(image.shape, generator=generator)).clamp(0, 1), image


@pytest.mark.parametrize("size", [(5, 7), (4, 5, 6)])
def test_l1_and_l2_are_averaged_over_channels(size: tuple[int, ...]) -> None:
    reconstruction, image = _pair(*size)
    difference = (reconstruction - image).numpy()
    for residual, expected in (("l1", np.abs(difference)), ("l2", difference**2)):
        actual = residual_map(reconstruction, image, residual)
        assert actual.shape == (2, 1, *size)
        np.testing.assert_allclose(actual.numpy()[:, 0], expected.mean(1), rtol=1e-6)


def _ssim_by_loops(x: np.ndarray, y: np.ndarray, window: int) -> np.ndarray:
    """SSIM of one channel at every location; the border is repeated."""
    x, y = np.pad(x, window // 2, mode="edge"), np.pad(y, window // 2, mode="edge")
    out = np.zeros([edge - window + 1 for edge in x.shape])
    for place in np.ndindex(*out.shape):
        here = tuple(slice(start, start + window) for start in place)
        a, b = x[here].ravel(), y[here].ravel()
        (var_a, cov), (_, var_b) = np.cov(a, b, bias=True)
        c1, c2 = 0.01**2, 0.03**2
        out[place] = ((2 * a.mean() * b.mean() + c1) * (2 * cov + c2)) / (
            (a.mean() ** 2 + b.mean() ** 2 + c1) * (var_a + var_b + c2)
        )
    return out


@pytest.mark.parametrize(("size", "window"), [((9, 12), 5), ((13, 8), 11), ((5, 6, 7), 3)])
def test_ssim_is_that_of_the_loop(size: tuple[int, ...], window: int) -> None:
    reconstruction, image = _pair(*size)
    actual = residual_map(reconstruction.double(), image.double(), "ssim", window).numpy()
    for case in range(2):
        pairs = zip(reconstruction[case].double().numpy(), image[case].double().numpy(), strict=True)
        expected = 1 - np.mean([_ssim_by_loops(x, y, window) for x, y in pairs], axis=0)
        np.testing.assert_allclose(actual[case, 0], expected, atol=1e-9)


def _gaussian_ssim_by_scipy(x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    def mean(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, sigma, mode="nearest", radius=int(3.5 * sigma + 0.5))

    mean_x, mean_y = mean(x), mean(y)
    spread = mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2 + 0.03**2
    structure = (2 * (mean(x * y) - mean_x * mean_y) + 0.03**2) / spread
    return structure * (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)


@pytest.mark.parametrize("size", [(14, 17), (9, 8, 10)])
def test_ensemble_weighs_the_windows_by_what_they_miss(size: tuple[int, ...]) -> None:
    """Behrendt et al.: eight Gaussian windows, each with its share of the exponentials of minus the similarity."""
    reconstruction, image = (values.double() for values in _pair(*size))
    actual = residual_map(reconstruction, image, "ssim_ensemble").numpy()
    for case in range(2):
        channels = []
        for x, y in zip(reconstruction[case].numpy(), image[case].numpy(), strict=True):
            found = np.stack([_gaussian_ssim_by_scipy(x, y, 0.3 + 0.2 * step) for step in range(8)])
            weights = np.exp(-found) / np.exp(-found).sum(0)
            channels.append(1 - (weights * found).sum(0))
        np.testing.assert_allclose(actual[case, 0], np.mean(channels, 0), atol=1e-9)


def test_ensemble_sees_a_change_of_structure_that_the_difference_does_not() -> None:
    """A texture that is lost at unchanged brightness, and a brightness that changes: SSIM rates the former higher."""
    grid = torch.arange(32)
    image = 0.5 + 0.05 * torch.where((grid[:, None] + grid) % 2 == 0, 1.0, -1.0)[None, None]
    lost = torch.where(grid < 16, torch.full_like(image, 0.5), image + 0.06)
    for residual, structure_first in (("l1", False), ("ssim_ensemble", True)):
        values = residual_map(lost, image, residual)[0, 0, :, 8:24]
        assert (float(values[:, :4].mean()) > float(values[:, -4:].mean())) is structure_first


@pytest.mark.parametrize("residual", RESIDUALS)
def test_as_a_module_it_becomes_torchscript(residual: str) -> None:
    reconstruction, image = _pair(9, 12)
    module = ResidualMap(residual)
    expected = residual_map(reconstruction, image, residual)
    torch.testing.assert_close(torch.jit.script(module)(reconstruction, image), expected)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_ssim_is_monais_where_no_border_is_repeated(spatial_dims: int) -> None:
    reconstruction, image = _pair(*[11, 12, 13][:spatial_dims], channels=1)
    inside = (slice(None), slice(None), *[slice(3, -3)] * spatial_dims)
    ours = residual_map(reconstruction, image, "ssim", 7)[inside].mean((1, *range(2, 2 + spatial_dims)))
    monais = SSIMLoss(spatial_dims, kernel_type="uniform", win_size=7, reduction="none")(reconstruction, image)
    torch.testing.assert_close(ours, monais.flatten(), rtol=1e-3, atol=1e-4)


def test_flat_regions_do_not_divide_by_zero() -> None:
    image = torch.zeros(1, 1, 8, 8)
    assert float(residual_map(image, image, "ssim").abs().max()) < 1e-6
    assert bool(torch.isfinite(residual_map(image, torch.ones_like(image), "ssim")).all())


def test_ssim_lies_between_0_and_2() -> None:
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    worst = residual_map(1 - image, image, "ssim")
    assert 1.5 < float(worst.max()) <= 2 and float(residual_map(image, image, "ssim").min()) >= -1e-6


def test_unknown_residual() -> None:
    with pytest.raises(ValueError, match="residual must be 'l1', 'l2', 'ssim' or 'ssim_ensemble', got l0"):
        residual_map(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), "l0")
