"""Choosing, of many feature channels, those that show synthetic anomalies best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.scorers.fitted import FittedModule

__all__ = ["ChannelSelection"]


class ChannelSelection(FittedModule):
    """Some channels of a feature map: those that change where an anomaly was placed and nowhere else.

    Of every channel, the squared difference between the features with and without the anomaly is scaled to 0..1 over
    the locations of a case and compared with the mask at that grid by the mean squared error. `observe` adds this up,
    `choose` keeps the channels with the smallest. Before, the first channels are taken.

    Args:
        channels: of the feature map.
        kept: how many are kept; all where there are no more.

    Shape:
        ``(B, channels, *grid)`` to ``(B, kept, *grid)``, in the order of the map.

    Reference:
        Zhang et al., "RealNet", CVPR 2024, where it is called anomaly-aware features selection.
    """

    # read by Python hosts only; TorchScript would try to compile it
    __jit_unused_properties__ = ["is_fitted"]  # noqa: RUF012

    def __init__(self, channels: int, kept: int) -> None:
        super().__init__()
        if kept < 1:
            raise ValueError(f"kept must be positive, got {kept}.")
        self.channels, self.kept = channels, min(kept, channels)
        self.chosen: Tensor = torch.nn.Buffer(torch.arange(self.kept))
        self.losses: Tensor = torch.nn.Buffer(torch.zeros(0))  # (channels,), once something was observed

    @property
    def is_fitted(self) -> bool:
        """Whether something was observed, by this network or the one it was loaded from."""
        return self.losses.numel() > 0

    def forward(self, features: Tensor) -> Tensor:
        return features.index_select(1, self.chosen)

    @torch.no_grad()
    def observe(self, features: Tensor, clean: Tensor, mask: Tensor) -> None:
        """Take cases into account.

        Args:
            features: of scans with synthetic anomalies, ``(B, channels, *grid)``.
            clean: of the same scans without, as they are.
            mask: where the anomalies are, ``(B, 1, *spatial)``, 0 or 1; cases without one do not count.
        """
        spatial_dims = features.dim() - 2
        resize: Any = functional.adaptive_avg_pool2d if spatial_dims == 2 else functional.adaptive_avg_pool3d
        expected = resize(mask.float(), list(features.shape[2:])).flatten(2)
        difference = ((features.float() - clean.float()) ** 2).flatten(2)
        low, high = difference.amin(2, keepdim=True), difference.amax(2, keepdim=True)
        scaled = (difference - low) / (high - low).clamp_min(1e-12)
        losses = ((scaled - expected) ** 2).mean(2)[mask.flatten(1).amax(1) > 0].sum(0)
        self.losses = losses if not self.is_fitted else self.losses + losses

    def choose(self) -> None:
        """Keep the channels with the smallest losses of all that was observed."""
        if self.is_fitted:
            self.chosen = self._smallest(self.losses)

    def _smallest(self, losses: Tensor) -> Tensor:
        return torch.sort(losses, stable=True).indices[: self.kept].sort().values

    def additive_buffers(self) -> tuple[str, ...]:
        return ("losses",)

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        merged = super().merge_buffers(states)
        merged["chosen"] = self._smallest(merged["losses"]) if merged["losses"].numel() else states[0]["chosen"]
        return merged
