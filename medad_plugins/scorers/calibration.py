"""Decisions with a stated false-positive rate, from held-out normal cases alone."""

from __future__ import annotations

import math
import torch
from torch import Tensor, nn

from medad_plugins.scorers.fitted import FittedModule

__all__ = ["Calibration"]


class Calibration(FittedModule):
    """What the held-out normal cases score, kept in the network so that one file holds all that a decision needs.

    A case gets the conformal p-value ``(1 + #{reference >= score}) / (n + 1)`` and is flagged at ``p <= alpha``: for
    exchangeable scans this flags at most a share ``alpha`` of the normal ones (Vovk et al., 2005). A pixel is flagged
    where the map exceeds the value that at most a share ``alpha`` of normal cases exceed anywhere, by the same rank.

    Buffers (empty until fitted, their size comes with the checkpoint):
        reference_scores: ``(n,)`` ascending anomaly scores of the held-out normal cases.
        reference_maxima: ``(n,)`` ascending maxima of their anomaly maps.
    """

    # read by Python hosts only; TorchScript would try to compile them
    __jit_unused_properties__ = ["is_fitted", "smallest_alpha"]

    def __init__(self) -> None:
        super().__init__()
        self.reference_scores: Tensor = nn.Buffer(torch.empty(0))
        self.reference_maxima: Tensor = nn.Buffer(torch.empty(0))

    def fit(self, scores: Tensor, maxima: Tensor) -> None:
        """Take over the scores ``(n,)`` and map maxima ``(n,)`` of the held-out normal cases.

        Raises:
            ValueError: if there is no case, or a value is not finite.
        """
        if scores.numel() == 0 or scores.shape != maxima.shape:
            raise ValueError(f"expected one score and one maximum a case, got {scores.shape} and {maxima.shape}.")
        if not (torch.isfinite(scores).all() and torch.isfinite(maxima).all()):
            raise ValueError("the scores of the held-out normal cases are not all finite: did the training diverge?")
        device = self.reference_scores.device
        self.reference_scores = scores.detach().float().sort().values.to(device)
        self.reference_maxima = maxima.detach().float().sort().values.to(device)

    @property
    def is_fitted(self) -> bool:
        """Whether held-out normal cases have been seen."""
        return self.reference_scores.numel() > 0

    @property
    def smallest_alpha(self) -> float:
        """The lowest alpha at which anything can be flagged, ``1 / (n + 1)``."""
        return 1.0 / (self.reference_scores.numel() + 1)

    def p_value(self, score: float) -> float:
        """Conformal p-value of an anomaly score, in (0, 1]."""
        self._require_fit()
        not_lower = int((self.reference_scores >= score).sum())
        return (1 + not_lower) / (self.reference_scores.numel() + 1)

    def pixel_threshold(self, alpha: float) -> float:
        """Map value that at most a share ``alpha`` of normal cases exceed anywhere; infinite below `smallest_alpha`."""
        self._require_fit()
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, got {alpha}.")
        n = self.reference_maxima.numel()
        # the tiny slack keeps a product such as 20 * 0.95 from being rounded up a rank
        rank = math.ceil((n + 1) * (1 - alpha) - 1e-9)
        return float(self.reference_maxima[rank - 1]) if rank <= n else math.inf

    def _require_fit(self) -> None:
        if not self.is_fitted:
            raise RuntimeError("the network is not calibrated: no held-out normal case has been scored yet.")
