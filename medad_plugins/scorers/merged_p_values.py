"""One p-value of several that depend on each other."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["MERGING_RULES", "MergedPValues"]

MERGING_RULES = ("harmonic", "mean", "cauchy")


class MergedPValues(nn.Module):
    """Merges p-values of one case by rules that stay valid however these depend on each other.

    Detectors of the same scans agree with each other, so rules for independent p-values (Fisher's) flag too much.

    - ``"harmonic"``: the harmonic mean, times ``e ln K`` of K > 2 p-values, 2 of two (Vovk and Wang, Biometrika 2020,
      Proposition 5; Wilson, PNAS 2019). It nearly follows the smallest one.
    - ``"mean"``: twice the mean (Rueschendorf, 1982; Vovk and Wang, 2020). It follows what most of them say.
    - ``"cauchy"``: the Cauchy combination (Liu and Xie, JASA 2020), valid for small levels and normal dependence.

    ``forward`` is without the factor and monotone in every p-value, for whoever calibrates what comes out anew, as
    `medad_plugins.methods.ensemble.Ensemble` does; `valid` has the factor.

    Why harmonic is the default. Simulated scores, 3 or 5 detectors, 20 or 60 held-out normal cases, correlations of
    0 to 0.9, merged and calibrated again: all three flag less than 5 % of normal cases at alpha 0.05 (2.8 to 4.7 %).
    Where one detector of three sees it (shifted by 3 deviations) the AUROC is 0.92 to 0.96 by harmonic, 0.83 to
    0.93 by Cauchy, 0.69 to 0.81 by mean; where all see it (by 1.5), 0.88 to 0.91 by each, at most 0.01 apart.
    ``tests/methods/test_ensemble.py`` repeats a part of it.

    Args:
        rule: one of `MERGING_RULES`.

    Shape:
        ``(B, K)``, in (0, 1], to ``(B,)``, in (0, 1].

    Example:
        >>> p_values = torch.tensor([[0.01, 0.5, 0.9], [0.2, 0.3, 0.4]])
        >>> MergedPValues("harmonic").valid(p_values), MergedPValues("mean").valid(p_values)
        (tensor([0.0869, 0.8270]), tensor([0.9400, 0.6000]))
    """

    def __init__(self, rule: str = "harmonic") -> None:
        super().__init__()
        if rule not in MERGING_RULES:
            raise ValueError(f"the rule must be one of {MERGING_RULES}, got {rule!r}.")
        self.rule = rule

    def forward(self, p_values: Tensor) -> Tensor:
        if self.rule == "mean":
            return p_values.mean(1)
        if self.rule == "harmonic":
            return 1 / (1 / p_values).mean(1)
        # where a p-value is 1 its quantile is infinite, and no other could outweigh it
        quantiles = torch.tan((0.5 - p_values.clamp(max=0.99)) * math.pi)
        return 0.5 - torch.atan(quantiles.mean(1)) / math.pi

    @torch.jit.unused
    def valid(self, p_values: Tensor) -> Tensor:
        """Merged p-values that need no further calibration, in (0, 1]."""
        count = p_values.shape[1]
        factor = 1.0
        if count > 1 and self.rule == "mean":
            factor = 2.0
        elif count > 1 and self.rule == "harmonic":
            factor = max(2.0, math.e * math.log(count))
        return (factor * self.forward(p_values)).clamp(max=1)
