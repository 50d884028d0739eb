"""Scores and map values as ranks among those of held-out normal scans."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.scorers.calibration import Calibration

__all__ = ["NormalRanks"]

_STEP = 25  # of the pixel quantiles: 33 of them are kept apart, eight a power of ten
_DECADES = 4.0  # down to the share 1e-4
_SAME = 1e-5  # of the highest score: what rounding makes of one and the same


class NormalRanks(nn.Module):
    """Brings any detector to one scale: how rare is this among normal scans?

    Scores become p-values ``(1 + #{reference > score}) / (n + 1)``. Beyond the highest reference a p-value goes on
    falling, as ``1 / (1 + excess)`` with the excess over the next lower reference in units of how far the upper half of
    the references lies above their median, so that what is far beyond is told from what is just beyond. Map values
    become ``-log10`` of the share of normal pixels above them (0 where all are, 1 where a tenth is), which goes on
    rising slowly beyond the highest.

    A reference case meets the others here: it is not among those that exceed it. Hence scores that are calibrated again
    on the very cases that are the references stay valid, see `medad_plugins.methods.ensemble.Ensemble`.

    Buffers:
        localizes: 1, or 0 where the maps of the held-out scans are constant.
        the references are those of ``calibration``.

    Shape:
        `p_values`: scores ``(B,)`` to ``(B,)``; ``forward``: maps ``(B, 1, *spatial)`` to the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calibration = Calibration()
        self.localizes: Tensor = nn.Buffer(torch.ones(()))
        # TorchScript knows no module's constants
        self.step, self.decades, self.same = _STEP, _DECADES, _SAME

    @torch.jit.unused
    def fit(self, scores: Tensor, pixels: Tensor, localizes: bool = True) -> None:
        """Keep the scores ``(n,)`` of held-out normal scans and pixels ``(m,)`` of their maps.

        Raises:
            ValueError: see `Calibration`.
        """
        self.calibration.fit(scores, pixels)
        self.localizes = torch.full_like(self.localizes, float(localizes))

    def _spread(self) -> Tensor:
        """How far the upper half of the references lies above their median, ``()``, more than 0."""
        reference = self.calibration.reference_scores
        middle = reference[reference.shape[0] // 2]
        return (reference - middle).clamp_min(0).mean() * 2 + 1e-6 * reference.abs().max() + 1e-12

    def p_values(self, scores: Tensor) -> Tensor:
        """How rare scores are; smaller is rarer."""
        reference = self.calibration.reference_scores
        margin = self.same * reference.abs().max()
        above = (reference[None] > scores[:, None] + margin).to(scores.dtype).sum(1)
        below = torch.where(reference[None] < scores[:, None] - margin, reference[None], reference[0]).amax(1)
        excess = (scores - below).clamp_min(0) / self._spread()
        p_value = (1 + above) / (reference.shape[0] + 1)
        return torch.where(above == 0, p_value / (1 + excess), p_value)

    def places(self, scores: Tensor) -> Tensor:
        """Where scores lie about the median of the references, 0 to 1, smooth and rising, to tell equal ranks apart."""
        reference = self.calibration.reference_scores
        away = (scores - reference[reference.shape[0] // 2]) / self._spread()
        return 0.5 + 0.5 * away / (1 + away.abs())

    def forward(self, anomaly_map: Tensor) -> Tensor:
        quantiles = self.calibration.pixel_quantiles[:: self.step]
        last = quantiles.shape[0] - 1
        least = 1e-5 * (quantiles[last] - quantiles[0]) + 1e-12  # ties of normal pixels make no step
        rarity = torch.zeros_like(anomaly_map)
        for i in range(last):
            width = torch.maximum(quantiles[i + 1] - quantiles[i], least)
            rarity = rarity + ((anomaly_map - quantiles[i]) / width).clamp(0, 1)
        # from 1e-3 to 1e-4 of the normal pixels
        tail = torch.maximum(quantiles[last] - quantiles[last - 8], least)
        beyond = (anomaly_map - quantiles[last]).clamp_min(0) / tail
        return rarity * (self.decades / last) + torch.log10(1 + beyond)
