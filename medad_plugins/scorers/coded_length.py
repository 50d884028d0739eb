"""How long a lossless code of a scan is: its complexity."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["coded_length", "gaussian_code_length"]


def coded_length(image: Tensor) -> Tensor:
    """Entropy of what a lossless coder leaves of each scan, in nats for each value: low of plain scans.

    Values are rounded to 256 levels; each is predicted from those left, above and above left, along the last two axes,
    by the edge detector of JPEG-LS: median of left, above, and left plus above less above left; 0 beyond the border.
    The code's length is the entropy of the differences over the scan.

    Args:
        image: ``(B, C, *spatial)``, 0..1.

    Returns:
        ``(B,)``, float32, 0 to about 6.2.
    """
    levels = (image.float().clamp(0, 1) * 255).round()
    left, above = nn.functional.pad(levels, [1, 0])[..., :-1], _row_above(levels)
    corner = nn.functional.pad(above, [1, 0])[..., :-1]
    plane = left + above - corner
    predicted = torch.maximum(torch.minimum(left, above), torch.minimum(torch.maximum(left, above), plane))
    where = (levels - predicted + 255).long().flatten(1)
    counts = torch.zeros(image.shape[0], 511, device=image.device)
    counts = counts.scatter_add(1, where, torch.ones_like(where, dtype=counts.dtype))
    shares = counts / where.shape[1]
    return -(shares * shares.clamp_min(1e-12).log()).sum(1)


def _row_above(levels: Tensor) -> Tensor:
    first = torch.zeros_like(levels[..., :1, :])
    return torch.cat([first, levels[..., :-1, :]], -2)


def gaussian_code_length(squares: Tensor) -> Tensor:
    """Nats for each value of coding residuals, rounded to 256 levels, by the Gaussian that fits them best.

    Args:
        squares: each scan's mean squared residual ``(B,)``, on 0..1.
    """
    # no finer than the rounding
    variance = squares.clamp_min(1 / (12 * 255**2))
    return 0.5 * (2 * math.pi * math.e * variance).log() + math.log(255)
