"""Map values measured by two quantiles of those of normal scans."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["QuantileRange"]


class QuantileRange(FittedModule):
    """A linear scale on which two quantiles of the values of normal scans become 0 and 0.1, fitted in one pass.

    So maps of different units can be added up.

    Args:
        low, high: the quantiles, 0..1, the first below the second.
        kept: values of each scan that are kept until the fit, evenly spread over its sorted ones, at most.

    Buffers:
        values: ``(n,)``, what was collected. start, span: 0 and 1 until they are fitted.

    Shape:
        any to the same: ``0.1 * (value - start) / span``.

    Reference:
        Batzner et al., "EfficientAD", WACV 2024.
    """

    def __init__(self, low: float = 0.9, high: float = 0.995, kept: int = 1000) -> None:
        super().__init__()
        if not 0 <= low < high <= 1:
            raise ValueError(f"low and high must be quantiles, the first below the second, got {low} and {high}.")
        self.low, self.high, self.kept = low, high, kept
        self.values: Tensor = nn.Buffer(torch.zeros(0))
        self.start: Tensor = nn.Buffer(torch.zeros(()))
        self.span: Tensor = nn.Buffer(torch.ones(()))

    def united_buffers(self) -> tuple[str, ...]:
        return ("values",)

    def collect(self, values: Tensor) -> None:
        """Add the map values ``(B, ...)`` of normal scans."""
        ordered = values.detach().float().flatten(1).sort(1).values
        count = ordered.shape[1]
        if count > self.kept:
            ordered = ordered[:, torch.linspace(0, count - 1, self.kept, device=ordered.device).round().long()]
        self.values = torch.cat([self.values, ordered.flatten()])

    def fit(self) -> None:
        """Find the quantiles of what was collected, and begin anew.

        Raises:
            InputError: nothing was collected, or the quantiles are alike.
        """
        ordered = self.values.double().sort().values
        if len(ordered) < 2:
            raise InputError("quantiles need values of normal scans", found=len(ordered), todo="list normal scans")
        # not torch.quantile, which takes 16 million values at most
        low, high = (ordered[round(share * (len(ordered) - 1))] for share in (self.low, self.high))
        if not high > low:
            todo = "list different scans, or train longer"
            raise InputError("the maps of the normal scans are all alike", found=f"{len(ordered)} values", todo=todo)
        self.start, self.span = low.to(self.start.dtype), (high - low).to(self.span.dtype)
        self.values = self.values[:0].clone()

    def forward(self, values: Tensor) -> Tensor:
        return 0.1 * (values - self.start) / self.span
