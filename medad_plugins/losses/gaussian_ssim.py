"""Structural similarity with a Gaussian window, also at the border."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gaussian_ssim"]


def _smoothed(images: Tensor, window: int, sigma: float, mirrored: bool) -> Tensor:
    """Images ``(N, *spatial)`` filtered along each axis; zeros beyond the border, or what is before it mirrored.

    By a matrix for each axis: many times faster than convolutions of one channel.
    """
    weights = torch.exp(-0.5 * ((torch.arange(window, dtype=images.dtype) - window // 2) / sigma) ** 2)
    for axis in range(1, images.dim()):
        size = int(images.shape[axis])
        places = torch.arange(size, device=images.device)
        if mirrored:
            # a window may be wider than the image, which is then mirrored over and over
            period = max(1, 2 * (size - 1))
            seen = (places[:, None] + torch.arange(window, device=images.device) - window // 2) % period
            seen = torch.minimum(seen, (period - seen) % period) if size > 2 else seen % size
            matrix = ((seen == places[:, None, None]).to(images.dtype) * weights).sum(2) / weights.sum()
        else:
            offsets = places[:, None] - places
            matrix = torch.exp(-0.5 * (offsets / sigma) ** 2) * (offsets.abs() <= window // 2) / weights.sum()
        images = torch.matmul(images.movedim(axis, -1), matrix.to(images.dtype)).movedim(-1, axis)
    return images


def _smoothed_all(images: list[Tensor], window: int, sigma: float, mirrored: bool) -> list[Tensor]:
    """Images of one shape ``(B, C, *spatial)``, filtered together."""
    joined = torch.stack(images)
    return list(_smoothed(joined.flatten(0, 2), window, sigma, mirrored).reshape(joined.shape).unbind())


def gaussian_ssim(one: Tensor, other: Tensor, window: int = 11, sigma: float = 1.5, mirrored: bool = False) -> Tensor:
    """Structural similarity at every location, for intensities 0..1.

    MONAI's has no padding and no value at the border.

    Args:
        one: ``(B, C, *spatial)`` with two or three spatial axes.
        other: the same.
        window: edge of the window, odd; beyond the border images count as zero.
        sigma: standard deviation of its Gaussian weights, in pixels.
        mirrored: beyond the border images are mirrored at their last pixel, and are not zero.

    Returns:
        ``(B, C, *spatial)``, up to 1.

    Reference:
        Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 13, 2004.
    """
    # apart, so that nothing is differentiated for an image that is fixed
    mean_one, square_one, product = _smoothed_all([one, one * one, one * other], window, sigma, mirrored)
    mean_other, square_other = _smoothed_all([other, other * other], window, sigma, mirrored)
    variances = square_one + square_other - mean_one**2 - mean_other**2
    covariance = product - mean_one * mean_other
    luminance = (2 * mean_one * mean_other + 0.01**2) / (mean_one**2 + mean_other**2 + 0.01**2)
    return luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2)
