"""A latent of which few values are on: held to it by a penalty, or by letting winners alone through."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["SPARSITIES", "SparseLatent", "lifetime_winners", "spatial_winners"]

SPARSITIES = ("l1", "kl", "winners")


def spatial_winners(code: Tensor) -> Tensor:
    """Of every map of ``(B, C, *edges)`` its highest value, the first of several; the others become 0."""
    flat = code.flatten(2)
    highest, where = flat.max(2, keepdim=True)
    return torch.zeros_like(flat).scatter(2, where, highest).reshape(code.shape)


def lifetime_winners(code: Tensor, share: float) -> Tensor:
    """Of every unit of ``(B, C)`` or map of ``(B, C, *edges)`` the cases of a batch in which it is highest.

    Args:
        code: not negative.
        share: of the batch, rounded up; the unit is 0 in all other cases.
    """
    strength = code.flatten(2).amax(2) if code.dim() > 2 else code
    count = max(1, math.ceil(share * code.shape[0]))
    kept = torch.zeros_like(strength).scatter(0, torch.topk(strength, count, dim=0).indices, 1.0)
    return code * kept.reshape(list(kept.shape) + [1] * (code.dim() - 2))


class SparseLatent(nn.Module):
    """A bottleneck's latent with few of its values on.

    Args:
        inner: the bottleneck.
        kind: ``"l1"``: values 0..1 by a sigmoid, their mean is the penalty; ``"kl"``: likewise, and the penalty is how
            far each unit's mean over the batch is from ``share``, as the divergence of two coins; ``"winners"``:
            rectified, without a penalty: of a spatial latent the highest value of every map is let through, and in
            training every unit or map in ``share`` of the batch alone.
        share: of the batch, or of a unit's range.

    Shape:
        features ``(B, *grid)`` to latents ``(B, L)`` or ``(B, L, *edges)``, not negative.

    References:
        Makhzani and Frey, "Winner-take-all autoencoders", NeurIPS 2015; Tran and Hogg, "Anomaly detection using a
        convolutional winner-take-all autoencoder", BMVC 2017; Ng, "Sparse autoencoder", 2011.
    """

    def __init__(self, inner: nn.Module, kind: str, share: float) -> None:
        super().__init__()
        if kind not in SPARSITIES or not 0 < share < 1:
            raise ValueError(f"kind must be one of {SPARSITIES} and share lie between 0 and 1, got {kind!r}, {share}.")
        self.inner, self.kind, self.share = inner, kind, share

    def forward(self, features: Tensor) -> Tensor:
        code: Tensor = self.inner(features)
        if self.kind != "winners":
            return torch.sigmoid(code)
        code = torch.relu(code)
        if code.dim() > 2:
            code = spatial_winners(code)
        return lifetime_winners(code, self.share) if self.training else code

    def penalised(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The latents, and of a kind that has one the term ``latent``."""
        code = self(features)
        if self.kind == "winners":
            return code, {}
        if self.kind == "l1":
            return code, {"latent": code.float().mean()}
        mean = code.float().transpose(0, 1).flatten(1).mean(1).clamp(1e-6, 1 - 1e-6)
        on, off = self.share * (self.share / mean).log(), (1 - self.share) * ((1 - self.share) / (1 - mean)).log()
        return code, {"latent": (on + off).sum()}
