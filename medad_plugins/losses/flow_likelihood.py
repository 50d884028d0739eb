"""Likelihood of what normalising flows make of features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["FlowLikelihoodLoss", "bits_per_dimension"]


def bits_per_dimension(z: Tensor, log_det: Tensor) -> Tensor:
    """Negative log-likelihood of each case in bits, divided by the number of its dimensions.

    Args:
        z: what the flow made of the cases, ``(B, C, *grid)``; its distribution is to become the standard normal.
        log_det: log-determinants ``(B,)`` of the flow's Jacobian.

    Returns:
        ``(B,)``, of any sign: a likelihood is a density.
    """
    values = z.flatten(1)
    dimensions = values.shape[1]
    log_p = -0.5 * (values.square().sum(1) + dimensions * math.log(2 * math.pi))
    return -(log_p + log_det) / (dimensions * math.log(2))


class FlowLikelihoodLoss(nn.Module):
    """Negative log-likelihood of flows in bits per dimension, averaged over the batch and summed over the flows.

    Shape:
        pair of lists, of what the flows made of the batch, ``(B, C_k, *grid_k)``, and of their log-determinants
        ``(B,)``, to a scalar of any sign.

    Reference:
        Yu et al., "FastFlow", arXiv 2111.07677, 2021, whose sum over dimensions weighs the flows by their sizes.
    """

    def forward(self, output: tuple[list[Tensor], list[Tensor]], target: Tensor | None = None) -> Tensor:
        """Loss of the network's output; ``target`` is there for engines that pass one and is not used."""
        latents, log_dets = output
        found = [bits_per_dimension(z, log_det).mean() for z, log_det in zip(latents, log_dets)]
        return torch.stack(found).sum()
