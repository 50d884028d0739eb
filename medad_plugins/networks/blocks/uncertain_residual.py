"""Squared residuals in the variance that a decoder says each pixel has."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["UncertainResidual"]

_BOUND = 10.0  # of the logarithm: air that never changes would have no variance at all


class UncertainResidual(nn.Module):
    """Squared residual over its predicted variance; in train mode the Gaussian likelihood that teaches the variance.

    Edges, of which normal scans differ most, then count less than what is always the same.

    Shape:
        mean and, along the channels behind it, logarithm of the variance ``(B, 2 * C, *spatial)``, and the scan
        ``(B, C, *spatial)``, intensities 0..1, to ``(B, 1, *spatial)``, float32: in eval mode not negative.

    Reference:
        Mao et al., "Abnormality detection in chest X-ray images using uncertainty prediction autoencoders", MICCAI
        2020; Kendall and Gal, "What uncertainties do we need in Bayesian deep learning for computer vision?", NeurIPS
        2017.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bound = _BOUND  # TorchScript sees no constants of a module

    def forward(self, both: Tensor, image: Tensor) -> Tensor:
        channels = image.shape[1]
        mean, log_variance = both[:, :channels].float(), both[:, channels:].float().clamp(-self.bound, self.bound)
        values = torch.exp(-log_variance) * (2 * (mean - image.float())).square()
        if self.training:
            values = values + log_variance
        return values.mean(1, keepdim=True)
