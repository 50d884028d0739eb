"""Likelihood of a flow beside a reconstruction."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.losses import bits_per_dimension

__all__ = ["FlowReconstructionLoss"]


class FlowReconstructionLoss(nn.Module):
    """Weighted sum of a flow's bits per dimension and the mean squared error of a reconstruction.

    Args:
        flow_weight: weight of the flow's part, 0..1; the rest is the reconstruction's.

    Shape:
        ``(z, log_det, reconstruction, image)``, see `medad_plugins.methods.ae_flow.AEFlow`, to a scalar.

    Reference:
        Zhao et al., ICLR 2023.
    """

    def __init__(self, flow_weight: float = 0.5) -> None:
        super().__init__()
        self.flow_weight = flow_weight

    def forward(self, output: tuple[Tensor, Tensor, Tensor, Tensor], target: Tensor | None = None) -> Tensor:
        """Loss of the network's output; ``target`` is there for engines that pass one and is not used."""
        z, log_det, reconstruction, image = output
        error = torch.mean((reconstruction.to(image.dtype) - image) ** 2)
        return self.flow_weight * bits_per_dimension(z, log_det).mean() + (1 - self.flow_weight) * error
