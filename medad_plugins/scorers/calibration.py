"""Decisions with a stated false-positive rate, from held-out normal cases alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medad_plugins.scorers.fitted import FittedModule

__all__ = ["PIXEL_ALPHAS", "Calibration"]

# From 1 to 1e-4, evenly in the logarithm, with every power of ten and 0.05 met closely.
PIXEL_ALPHAS = torch.logspace(0, -4, 801, dtype=torch.float64)


class Calibration(FittedModule):
    """What the held-out normal cases score, kept in the network so that one file holds all that a decision needs.

    A case gets the conformal p-value ``(1 + #{reference >= score}) / (n + 1)`` and is flagged at ``p <= alpha``: for
    exchangeable scans this flags at most a share ``alpha`` of the normal ones (Vovk et al., 2005). A pixel is marked
    where the map exceeds the ``1 - alpha`` quantile of the pixels of all held-out normal maps; pixels of one scan are
    no independent draws, so this is a matching scale and not a promise.

    Buffers (empty until fitted, their size comes with the checkpoint):
        reference_scores: ``(n,)`` ascending anomaly scores of the held-out normal cases.
        pixel_quantiles: ``(801,)`` quantiles of the pixels of their anomaly maps, at `PIXEL_ALPHAS`.

    Example:
        >>> calibration = Calibration()
        >>> calibration.fit(scores=torch.arange(19.0), pixels=torch.linspace(0, 1, 1001))
        >>> calibration.p_value(18.5), calibration.p_value(4.5), calibration.smallest_alpha
        (0.05, 0.75, 0.05)
        >>> round(calibration.pixel_threshold(0.1), 3)
        0.9
    """

    # read by Python hosts only; TorchScript would try to compile them
    __jit_unused_properties__ = ["is_fitted", "smallest_alpha"]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.reference_scores: Tensor = nn.Buffer(torch.empty(0))
        self.pixel_quantiles: Tensor = nn.Buffer(torch.empty(0))

    def fit(self, scores: Tensor, pixels: Tensor) -> None:
        """Store the scores ``(n,)`` of the held-out normal cases and the pixels ``(m,)`` of their maps.

        Raises:
            ValueError: if there is no case or pixel, or a value is not finite.
        """
        if scores.numel() == 0 or pixels.numel() == 0:
            raise ValueError("there is no held-out normal case to calibrate on.")
        if not (torch.isfinite(scores).all() and torch.isfinite(pixels).all()):
            raise ValueError("the scores of the held-out normal cases are not all finite: did the training diverge?")
        device = self.reference_scores.device
        self.reference_scores = scores.detach().float().sort().values.to(device)
        ranked = pixels.detach().float().flatten().sort().values
        ranks = ((1 - PIXEL_ALPHAS) * (ranked.numel() - 1)).round().long()
        self.pixel_quantiles = ranked[ranks.to(ranked.device)].to(device)

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The calibration on the held-out cases of several sites, from those that each made of the same network.

        The reference scores are those of all, exactly as if all cases had been at one place. The pixel quantiles come
        from the sites' quantiles, each weighted by its number of cases (maps are equally large): a share of pixels
        between ``alpha`` and 1.025 ``alpha`` exceeds the threshold of ``alpha``.
        """
        fitted = [state for state in states if state["reference_scores"].numel()]
        if not fitted:
            return {}
        cases = [state["reference_scores"].numel() for state in fitted]
        return {
            "reference_scores": torch.cat([state["reference_scores"] for state in fitted]).sort().values,
            "pixel_quantiles": _merged_quantiles([state["pixel_quantiles"] for state in fitted], cases),
        }

    @property
    def is_fitted(self) -> bool:
        """Whether held-out normal cases have been seen."""
        return self.reference_scores.numel() > 0

    @property
    def smallest_alpha(self) -> float:
        """The lowest alpha at which anything can be flagged, ``1 / (n + 1)``."""
        return 1.0 / (self.reference_scores.numel() + 1)

    @staticmethod
    def cases_needed(alpha: float) -> int:
        """How many held-out normal cases are enough to flag any at this alpha."""
        return math.ceil(1 / alpha - 1e-9) - 1

    def can_flag(self, alpha: float) -> bool:
        """Whether enough cases were held out for any scan to be flagged at this alpha."""
        return self.is_fitted and alpha >= self.smallest_alpha

    def p_value(self, score: float) -> float:
        """Conformal p-value of an anomaly score, in (0, 1]."""
        self._require_fit()
        not_lower = int((self.reference_scores >= score).sum())
        return (1 + not_lower) / (self.reference_scores.numel() + 1)

    def pixel_threshold(self, alpha: float) -> float:
        """Map value that a share ``alpha`` of the pixels of normal maps exceed; below 1e-4, that of 1e-4."""
        self._require_fit()
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, got {alpha}.")
        return float(self.pixel_quantiles[int((alpha - 1e-12 <= PIXEL_ALPHAS).sum()) - 1])

    def _require_fit(self) -> None:
        if not self.is_fitted:
            raise RuntimeError("the network is not calibrated: no held-out normal case has been scored yet.")


def _merged_quantiles(quantiles: Sequence[Tensor], weights: Sequence[int]) -> Tensor:
    """Quantiles ``(801,)`` of the mixture of distributions of which the quantiles are known."""
    # each distribution as points: a quantile stands for the pixels from it up to the next one
    shares = PIXEL_ALPHAS - torch.cat([PIXEL_ALPHAS[1:], torch.zeros(1, dtype=torch.float64)])
    values = torch.cat(list(quantiles)).cpu()
    masses = torch.cat([shares * weight / sum(weights) for weight in weights])
    order = values.sort(stable=True).indices
    # share of the pixels that are not below each point, falling from 1
    tails = masses[order].flip(0).cumsum(0).flip(0)
    # the highest point that so many pixels reach; the tolerance is for sums of rounded shares
    places = (tails.unsqueeze(0) >= PIXEL_ALPHAS.unsqueeze(1) * (1 - 1e-9)).sum(1) - 1
    return values[order][places.clamp(min=0)].to(quantiles[0].device)
