"""Similarity of the edges of a scan and its reconstruction."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.scorers.median import MedianSmoothing

__all__ = ["EdgeDissimilarity", "gradient_magnitude"]

# keeps places without edges from being divided by zero; for intensities 0..1
_FLAT = 0.0026


def gradient_magnitude(image: Tensor) -> Tensor:
    """Length of Prewitt's gradient at every place of each channel, borders repeated.

    Differences are over two pixels along an axis, means over three across.

    Args:
        image: ``(B, C, *spatial)``.

    Returns:
        ``(B, C, *spatial)``, not negative; of intensities 0..1 at most 1 along each axis.
    """
    spatial_dims = image.dim() - 2
    padded = functional.pad(image, [1] * (2 * spatial_dims), mode="replicate")
    squares = torch.zeros_like(image)
    for along in range(spatial_dims):
        part = padded
        for axis in range(spatial_dims):
            size = int(image.shape[2 + axis])
            before, here = part.narrow(2 + axis, 0, size), part.narrow(2 + axis, 1, size)
            after = part.narrow(2 + axis, 2, size)
            part = after - before if axis == along else (before + here + after) / 3
        # Prewitt's of an image has the sum across divided by 3, too
        squares = squares + part * part
    return torch.sqrt(squares + 1e-12)


class EdgeDissimilarity(nn.Module):
    """One minus the similarity of gradient magnitudes (MSGMS), at several scales, brought to the scan's grid.

    Gradients are Prewitt's, of the channels' mean after a median filter. Each scale halves the one before, as long as
    both halves of every edge have three pixels.

    Args:
        spatial_dims: 2 or 3.
        scales: how many at the most.

    Shape:
        reconstruction and image ``(B, C, *spatial)``, intensities 0..1, to ``(B, 1, *spatial)``, 0..1.

    References:
        Xue et al., "Gradient magnitude similarity deviation", IEEE TIP 2014; at several scales: Zavrtanik et al.,
        "Reconstruction by inpainting for visual anomaly detection", Pattern Recognition 2021.

    Example:
        >>> image = torch.rand(1, 1, 16, 16)
        >>> float(EdgeDissimilarity(2)(image, image).abs().max())
        0.0
    """

    def __init__(self, spatial_dims: int, scales: int = 4) -> None:
        super().__init__()
        if scales < 1:
            raise ValueError(f"scales must be positive, got {scales}.")
        self.spatial_dims, self.scales, self.flat = spatial_dims, scales, _FLAT
        self.median = MedianSmoothing(spatial_dims, 3)

    def forward(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        one, other = reconstruction.mean(1, keepdim=True), image.mean(1, keepdim=True)
        size = [int(edge) for edge in image.shape[2:]]
        mode = "bilinear" if self.spatial_dims == 2 else "trilinear"
        found: list[Tensor] = []
        for _ in range(self.scales):
            slope, slope_other = gradient_magnitude(self.median(one)), gradient_magnitude(self.median(other))
            similar = (2 * slope * slope_other + self.flat) / (slope * slope + slope_other * slope_other + self.flat)
            found.append(functional.interpolate(1 - similar, size, mode=mode, align_corners=False))
            if min([int(edge) for edge in one.shape[2:]]) < 6:
                break
            if self.spatial_dims == 2:
                one, other = functional.avg_pool2d(one, 2), functional.avg_pool2d(other, 2)
            else:
                one, other = functional.avg_pool3d(one, 2), functional.avg_pool3d(other, 2)
        return torch.stack(found).mean(0)
