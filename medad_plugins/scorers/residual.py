"""Residual between an image and its reconstruction, as a map; its mean is the training loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["RESIDUALS", "ResidualMap", "gaussian_mean", "local_mean", "residual_map"]

RESIDUALS = ("l1", "l2", "ssim", "ssim_ensemble")


def local_mean(image: Tensor, window: int) -> Tensor:
    """Mean of ``(B, C, *spatial)`` in a window of so many pixels, odd, around every place, borders repeated."""
    spatial_dims = image.dim() - 2
    padded = functional.pad(image, [window // 2] * (2 * spatial_dims), mode="replicate")
    if spatial_dims == 2:
        return functional.avg_pool2d(padded, window, stride=1)
    return functional.avg_pool3d(padded, window, stride=1)


def gaussian_mean(image: Tensor, sigma: float) -> Tensor:
    """Mean of ``(B, C, *spatial)`` with Gaussian weights, cut at 3.5 deviations of so many pixels, borders repeated."""
    radius = int(3.5 * sigma + 0.5)
    spatial_dims = image.dim() - 2
    weights = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(-radius, radius + 1)]
    total = sum(weights)
    smoothed = functional.pad(image, [radius] * (2 * spatial_dims), mode="replicate")
    for axis in range(2, image.dim()):
        size = int(image.shape[axis])
        summed = torch.zeros_like(smoothed.narrow(axis, 0, size))
        for start, weight in enumerate(weights):
            summed = summed + (weight / total) * smoothed.narrow(axis, start, size)
        smoothed = summed
    return smoothed


def _mean_around(image: Tensor, window: int, sigma: float) -> Tensor:
    return gaussian_mean(image, sigma) if sigma > 0 else local_mean(image, window)


def _similarity(reconstruction: Tensor, image: Tensor, window: int, sigma: float) -> Tensor:
    """SSIM at every location for intensities 0..1 (Wang et al., IEEE TIP 2004), in a uniform or a Gaussian window."""
    mean_r, mean_i = _mean_around(reconstruction, window, sigma), _mean_around(image, window, sigma)
    variance_r = _mean_around(reconstruction * reconstruction, window, sigma) - mean_r * mean_r
    variance_i = _mean_around(image * image, window, sigma) - mean_i * mean_i
    covariance = _mean_around(reconstruction * image, window, sigma) - mean_r * mean_i
    luminance = (2 * mean_r * mean_i + 0.01**2) / (mean_r * mean_r + mean_i * mean_i + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variance_r.clamp_min(0) + variance_i.clamp_min(0) + 0.03**2)
    return luminance * structure


def _ensemble_similarity(reconstruction: Tensor, image: Tensor) -> Tensor:
    """SSIM in eight Gaussian windows, at every location weighted for the window that finds least of it."""
    sigmas = [0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7]  # the authors', in pixels
    found = torch.stack([_similarity(reconstruction, image, 0, sigma) for sigma in sigmas])
    return (torch.softmax(-found, 0) * found).sum(0)


def residual_map(reconstruction: Tensor, image: Tensor, residual: str = "l2", window: int = 11) -> Tensor:
    """How far the reconstruction is from the image at every location, averaged over channels.

    Args:
        reconstruction: ``(B, C, *spatial)``.
        image: ``(B, C, *spatial)``, intensities 0..1.
        residual: ``"l1"`` absolute difference, ``"l2"`` squared difference, ``"ssim"`` one minus the structural
            similarity in a window of ``window`` pixels, ``"ssim_ensemble"`` the same in eight Gaussian windows at once,
            weighted at every location by the softmax of what is missing, so that no one size must be chosen.
        window: edge of the window of ``"ssim"``, odd.

    Returns:
        ``(B, 1, *spatial)``, not negative for l1 and l2, 0..2 for the similarities.

    Raises:
        ValueError: for an unknown residual.

    Reference:
        ``"ssim_ensemble"``: Behrendt et al., "Diffusion Models with Ensembled Structure-Based Anomaly Scoring for
        Unsupervised Anomaly Detection", ISBI 2024.

    Example:
        >>> residual_map(torch.full((1, 2, 4, 4), 0.75), torch.full((1, 2, 4, 4), 0.25), "l1").unique()
        tensor([0.5000])
    """
    if residual == "l1":
        difference = torch.abs(reconstruction - image)
    elif residual == "l2":
        difference = (reconstruction - image) ** 2
    elif residual == "ssim":
        difference = 1 - _similarity(reconstruction, image, window, 0.0)
    elif residual == "ssim_ensemble":
        difference = 1 - _ensemble_similarity(reconstruction, image)
    else:
        raise ValueError("residual must be 'l1', 'l2', 'ssim' or 'ssim_ensemble', got " + residual)
    return difference.mean(1, keepdim=True)


class ResidualMap(nn.Module):
    """`residual_map` as a module, beside others that compare a reconstruction with its scan.

    Args:
        residual: see `residual_map`.

    Shape:
        reconstruction and image ``(B, C, *spatial)`` to ``(B, 1, *spatial)``.
    """

    def __init__(self, residual: str = "l2") -> None:
        super().__init__()
        if residual not in RESIDUALS:
            raise ValueError(f"residual must be one of {RESIDUALS}, got {residual!r}.")
        self.residual = residual

    def forward(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        return residual_map(reconstruction, image, self.residual)
