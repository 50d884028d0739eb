"""A critic of latents: where a latent comes from, from an encoder or from the prior."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

__all__ = ["LatentCritic"]


class LatentCritic(nn.Module):
    """Linear layers with leaky ReLU and one logit, without any norm, so that its gradient may be penalised.

    Args:
        latent_size: values of a latent, all its locations taken together.
        widths: of the hidden layers.
        slope: of the leaky ReLU.

    Shape:
        ``(B, latent_size)`` or ``(B, channels, *edges)`` to logits ``(B,)``, without a sigmoid.
    """

    def __init__(self, latent_size: int, widths: Sequence[int] = (200, 400), slope: float = 0.2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((latent_size, *widths)):
            layers += [nn.Linear(before, after), nn.LeakyReLU(slope)]
        self.layers = nn.Sequential(nn.Flatten(), *layers, nn.Linear((latent_size, *widths)[-1], 1), nn.Flatten(0))

    def forward(self, latent: Tensor) -> Tensor:
        logit: Tensor = self.layers(latent)
        return logit
