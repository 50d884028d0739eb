"""Noise on tokens in training, as large as each token allows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.networks.batch_noise import batch_normal

__all__ = ["FeatureJitter"]


class FeatureJitter(nn.Module):
    """Adds to every token, in training, normal noise of a deviation of ``scale`` times its length over its channels.

    Args:
        scale: 0 for none.
        probability: with which a batch is changed.

    Shape:
        tokens ``(B, P, C)`` to the same; in eval mode as they are.

    Reference:
        You et al., "A Unified Model for Multi-class Anomaly Detection", NeurIPS 2022.
    """

    def __init__(self, scale: float = 20.0, probability: float = 1.0) -> None:
        super().__init__()
        if scale < 0 or not 0 <= probability <= 1:
            raise ValueError(
                f"jitter must not be negative and its probability lie in 0..1, got {scale} and {probability}."
            )
        self.scale, self.probability = scale, probability

    def forward(self, tokens: Tensor) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if self.training and self.scale > 0:
                return self._jittered(tokens)
        return tokens

    def _jittered(self, tokens: Tensor) -> Tensor:
        # drawn for every batch, so that the processes of one training agree
        if float(torch.rand(())) >= self.probability:
            return tokens
        deviation = tokens.norm(dim=2, keepdim=True) * (self.scale / tokens.shape[2])
        return tokens + deviation * batch_normal(tokens.shape, tokens)
