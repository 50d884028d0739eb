"""What judges tokens of a scan, and is fitted to those of normal scans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medad_plugins.scorers.fitted import FittedModule

__all__ = ["TokenHead"]


class TokenHead(FittedModule):
    """Base of what `medad_plugins.networks.TokenNetwork` fits: ``collect`` of every batch, ``fit``, then distances.

    Shape:
        tokens ``(B, P, D)`` of scans at the P places of a grid to distances ``(B, P)``, float32, not negative, higher
        is more abnormal; those of one scan do not depend on the others.

    Attributes:
        knows_places: whether distances depend on where in the grid a token lies.
    """

    knows_places = False

    def collect(self, tokens: Tensor, grid: Sequence[int]) -> None:
        """Add the tokens ``(B, V, P, D)`` of normal scans, of one or more views of each, on a grid of P places."""
        raise NotImplementedError

    def fit(self) -> Any:
        """Solve for what was collected."""
        raise NotImplementedError

    def distances(self, tokens: Tensor) -> Tensor:
        """Distances of tokens in float32, called without autocast."""
        raise NotImplementedError

    def forward(self, tokens: Tensor) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if torch.is_autocast_enabled(tokens.device.type):
                # distances are differences: rounded to bfloat16, near tokens would be the same
                with torch.autocast(tokens.device.type, enabled=False):
                    return self.distances(tokens.float())
        return self.distances(tokens.float())
