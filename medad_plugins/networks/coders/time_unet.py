"""U-Net conditioned on the noise level of its input."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from medad_plugins.networks.coders.attention_unet import AttentionUNet

__all__ = ["TimeUNet", "time_embedding"]


def time_embedding(timesteps: Tensor, length: int) -> Tensor:
    """Cosines and sines of times at frequencies from 1 to 1/10000, ``(B, length)``; an odd length ends with a zero.

    Reference:
        Vaswani et al., "Attention is all you need", NeurIPS 2017.
    """
    half = length // 2
    places = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    angles = timesteps.float()[:, None] * torch.exp(-math.log(10000) / max(half, 1) * places)
    return torch.cat([torch.cos(angles), torch.sin(angles), torch.zeros_like(angles[:, : length % 2])], 1)


class TimeUNet(nn.Module):
    """An `AttentionUNet` with the time of a diffusion as the embedding, for MONAI's diffusion inferers and schedulers.

    MONAI's own needs a package that this project does without.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the image; so many are returned.
        width: channels of the finest grid; the time is embedded in four times as many values.
        multipliers: see `AttentionUNet`.
        blocks: see `AttentionUNet`.
        attention_levels: see `AttentionUNet`.
        condition: length of a vector that is told with the time, through two layers of its own; 0 for none.

    Shape:
        ``(B, in_channels, *spatial)``, times ``(B,)`` and, with ``condition``, a ``context`` ``(B, condition)`` to
        ``(B, in_channels, *spatial)``.

    Reference:
        Ho et al., "Denoising diffusion probabilistic models", NeurIPS 2020.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 4),
        blocks: int = 2,
        attention_levels: Collection[int] = (2,),
        condition: int = 0,
    ) -> None:
        super().__init__()
        self.width, self.condition = width, condition
        self.embed = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.embed_condition: nn.Module = nn.Identity()
        if condition:
            layers = nn.Linear(condition, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width)
            self.embed_condition = nn.Sequential(*layers)
        self.unet = AttentionUNet(
            spatial_dims,
            in_channels,
            in_channels,
            width,
            multipliers=multipliers,
            blocks=blocks,
            attention_levels=attention_levels,
            embedding=(8 if condition else 4) * width,
        )

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None) -> Tensor:
        """What the network makes of noisy images, told the time and, if it is conditioned, the ``context``."""
        if context is not None and not self.condition:
            raise ValueError("this network takes no context.")
        if context is None and self.condition:
            raise ValueError(f"this network wants a context of {self.condition} values.")
        embedding = self.embed(time_embedding(timesteps, self.width).to(x.dtype))
        if context is not None:
            embedding = torch.cat([embedding, self.embed_condition(context.to(x.dtype))], 1)
        out: Tensor = self.unet(x, embedding)
        return out
