"""A latent that is a linear projection, held to a robustly recovered subspace of the encoder's features (RSR layer)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SubspaceLatent"]


class SubspaceLatent(nn.Module):
    """Features projected on a few axes, of length one: a bottleneck that scans outside the subspace hardly move.

    Its penalty measures features outside the subspace by their length rather than by its square, so that the few
    abnormal scans among the training scans do not turn the axes.

    Args:
        grid: ``[channels, *edges]`` of the features.
        latent_size: how many axes.

    Shape:
        ``(B, *grid)`` to ``(B, latent_size)``, vectors of length one.

    Reference:
        Lai et al., "Robust subspace recovery layer for unsupervised anomaly detection", ICLR 2020 (RSRAE).
    """

    def __init__(self, grid: Sequence[int], latent_size: int) -> None:
        super().__init__()
        self.axes = nn.Parameter(nn.init.orthogonal_(torch.empty(math.prod(grid), latent_size)))

    def forward(self, features: Tensor) -> Tensor:
        return functional.normalize(features.flatten(1) @ self.axes, dim=1)

    def penalised(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The latents, and the term ``latent``: how far features lie outside, and axes from orthonormal.

        The former is the root of the mean square of what each scan's features lose, averaged over scans, the latter the
        mean square of what the axes' products differ from the identity by.
        """
        flat = features.flatten(1)
        inside = flat @ self.axes
        lost = (flat - inside @ self.axes.t()).float().square().mean(1)
        identity = torch.eye(self.axes.shape[1], device=flat.device)
        skewed = (self.axes.t() @ self.axes - identity).float().square().mean()
        # the small number keeps the root's gradient finite
        return functional.normalize(inside, dim=1), {"latent": (lost + 1e-12).sqrt().mean() + skewed}
