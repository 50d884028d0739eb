"""Residual between an image and its reconstruction, as a map; its mean is the training loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["RESIDUALS", "ResidualMap", "local_mean", "residual_map"]

RESIDUALS = ("l1", "l2", "ssim")


def local_mean(image: Tensor, window: int) -> Tensor:
    """Mean of ``(B, C, *spatial)`` in a window of so many pixels, odd, around every place, borders repeated."""
    spatial_dims = image.dim() - 2
    padded = functional.pad(image, [window // 2] * (2 * spatial_dims), mode="replicate")
    if spatial_dims == 2:
        return functional.avg_pool2d(padded, window, stride=1)
    return functional.avg_pool3d(padded, window, stride=1)


def _dissimilarity(reconstruction: Tensor, image: Tensor, window: int) -> Tensor:
    """``1 - SSIM`` at every location for intensities 0..1 (Wang et al., IEEE TIP 2004), uniform window."""
    mean_r, mean_i = local_mean(reconstruction, window), local_mean(image, window)
    variance_r = local_mean(reconstruction * reconstruction, window) - mean_r * mean_r
    variance_i = local_mean(image * image, window) - mean_i * mean_i
    covariance = local_mean(reconstruction * image, window) - mean_r * mean_i
    luminance = (2 * mean_r * mean_i + 0.01**2) / (mean_r * mean_r + mean_i * mean_i + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variance_r.clamp_min(0) + variance_i.clamp_min(0) + 0.03**2)
    return 1 - luminance * structure


def residual_map(reconstruction: Tensor, image: Tensor, residual: str = "l2", window: int = 11) -> Tensor:
    """How far the reconstruction is from the image at every location, averaged over channels.

    Args:
        reconstruction: ``(B, C, *spatial)``.
        image: ``(B, C, *spatial)``, intensities 0..1.
        residual: ``"l1"`` absolute difference, ``"l2"`` squared difference, ``"ssim"`` one minus the structural
            similarity in a window of ``window`` pixels.
        window: edge of the window of ``"ssim"``, odd.

    Returns:
        ``(B, 1, *spatial)``, not negative for l1 and l2, 0..2 for ssim.

    Raises:
        ValueError: for an unknown residual.

    Example:
        >>> residual_map(torch.full((1, 2, 4, 4), 0.75), torch.full((1, 2, 4, 4), 0.25), "l1").unique()
        tensor([0.5000])
    """
    if residual == "l1":
        difference = torch.abs(reconstruction - image)
    elif residual == "l2":
        difference = (reconstruction - image) ** 2
    elif residual == "ssim":
        difference = _dissimilarity(reconstruction, image, window)
    else:
        raise ValueError("residual must be 'l1', 'l2' or 'ssim', got " + residual)
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
