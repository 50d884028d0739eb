"""Decisions with a stated false-positive rate, from held-out normal cases alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medad_plugins.scorers.fitted import FittedModule

__all__ = ["MASK_RULE", "PIXEL_ALPHAS", "Calibration"]

# From 1 to 1e-4, evenly in the logarithm, with every power of ten and 0.05 met closely.
PIXEL_ALPHAS = torch.logspace(0, -4, 801, dtype=torch.float64)

# Share of the normal pixels that may lie above a mask's lowest threshold, and share of the case's own peak that its
# mask must reach; chosen on validation cases, see docs/masks.md.
MASK_RULE = (0.002, 0.5)
# added after the first releases: a file without them is of a model that had none
_ADDED = ("mask_rule", "reference_inputs", "reference_groups", "group_names")


class Calibration(FittedModule):
    """What the held-out normal cases score, kept in the network so that one file holds all that a decision needs.

    A case gets the conformal p-value ``(1 + #{reference >= score}) / (n + 1)`` and is flagged at ``p <= alpha``: for
    exchangeable scans this flags at most a share ``alpha`` of the normal ones (Vovk et al., 2005). Where the references
    are of groups (scanners, sexes, bands of age), a case may be compared with those of its own group alone, and the
    promise then holds in every group (Mondrian conformal prediction, Vovk et al., 2003).

    The mask begins where the map exceeds both the ``1 - pixel_alpha`` quantile of the pixels of all held-out normal
    maps and half the way from their median to the case's own peak, as half of the maximum bounds lesions in PET. Pixels
    of one scan are no independent draws, so the quantile is a matching scale and not a promise.

    Buffers (empty until fitted, their size comes with the checkpoint; the last four may be empty):
        reference_scores: ``(n,)`` ascending anomaly scores of the held-out normal cases.
        pixel_quantiles: ``(801,)`` quantiles of the pixels of their anomaly maps, at `PIXEL_ALPHAS`.
        mask_rule: ``(2,)`` pixel_alpha and the share of the peak, see `MASK_RULE`; a model without it marks what
            exceeds the quantile of alpha, as it did when it was made.
        reference_inputs: ``(n, 2)`` mean and standard deviation of the scans behind the scores.
        reference_groups: ``(n,)`` number of each score's group.
        group_names: ``(b,)`` the list's column and its values as bytes of JSON, for a state dict holds tensors only.

    Example:
        >>> calibration = Calibration()
        >>> calibration.fit(scores=torch.arange(19.0), pixels=torch.linspace(0, 1, 1001))
        >>> calibration.p_value(18.5), calibration.p_value(4.5), calibration.smallest_alpha
        (0.05, 0.75, 0.05)
        >>> round(calibration.pixel_threshold(0.1), 3), round(calibration.mask_threshold(peak=4.5, alpha=0.05), 3)
        (0.9, 2.5)
    """

    # read by Python hosts only; TorchScript would try to compile them
    __jit_unused_properties__ = ["group_column", "groups", "is_fitted", "smallest_alpha"]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.reference_scores: Tensor = nn.Buffer(torch.empty(0))
        self.pixel_quantiles: Tensor = nn.Buffer(torch.empty(0))
        self.mask_rule: Tensor = nn.Buffer(torch.empty(0))
        self.reference_inputs: Tensor = nn.Buffer(torch.empty(0, 2))
        self.reference_groups: Tensor = nn.Buffer(torch.empty(0, dtype=torch.int64))
        self.group_names: Tensor = nn.Buffer(torch.empty(0, dtype=torch.uint8))

    def fit(
        self,
        scores: Tensor,
        pixels: Tensor,
        inputs: Tensor | None = None,
        groups: Sequence[str] = (),
        column: str = "",
    ) -> None:
        """Store what the held-out normal cases give.

        Args:
            scores: ``(n,)``.
            pixels: ``(m,)`` of their maps.
            inputs: ``(n, 2)`` mean and standard deviation of each scan, as the network sees it.
            groups: each case's value in the list's column, e.g. of its scanner; none is one group.
            column: the list's column.

        Raises:
            ValueError: if there is no case or pixel, or a value is not finite.
        """
        if scores.numel() == 0 or pixels.numel() == 0:
            raise ValueError("there is no held-out normal case to calibrate on.")
        if not (torch.isfinite(scores).all() and torch.isfinite(pixels).all()):
            raise ValueError("the scores of the held-out normal cases are not all finite: did the training diverge?")
        device = self.reference_scores.device
        ranked = pixels.detach().float().flatten().sort().values
        ranks = ((1 - PIXEL_ALPHAS) * (ranked.numel() - 1)).round().long()
        self.pixel_quantiles = ranked[ranks.to(ranked.device)].to(device)
        self.mask_rule = torch.tensor(MASK_RULE, device=device)
        self.keep_references(scores, inputs, groups, column)

    def keep_references(
        self, scores: Tensor, inputs: Tensor | None = None, groups: Sequence[str] = (), column: str = ""
    ) -> None:
        """Store scores, and what belongs to each; arguments as in `fit`."""
        device, (values, order) = self.reference_scores.device, scores.detach().float().cpu().sort(stable=True)
        self.reference_scores = values.to(device)
        known = inputs is not None and inputs.shape == (values.numel(), 2)
        self.reference_inputs = (inputs.float().cpu()[order] if known else torch.empty(0, 2)).to(device)  # type: ignore[union-attr]
        names = sorted(set(groups))
        numbers = [names.index(group) for group in groups]
        self.reference_groups = torch.tensor(numbers, dtype=torch.int64)[order if names else slice(0)].to(device)
        text = json.dumps([column, *names]).encode() if names else b""
        self.group_names = torch.tensor(list(text), dtype=torch.uint8, device=device)

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
        merged = Calibration()
        groups = [_group_of_each(state) for state in fitted]
        merged.keep_references(
            torch.cat([state["reference_scores"] for state in fitted]),
            torch.cat([state["reference_inputs"] for state in fitted]),
            [name for own in groups for name in own] if all(groups) else (),
            _names(fitted[0])[0],
        )
        merged.pixel_quantiles = _merged_quantiles([state["pixel_quantiles"] for state in fitted], cases)
        merged.mask_rule = fitted[0]["mask_rule"]
        return dict(merged.named_buffers())

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, metadata: Any, strict: bool, missing: list[str], *lists: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, *lists)
        fresh = Calibration()
        for name in _ADDED:
            if prefix + name in missing:
                missing.remove(prefix + name)
                setattr(self, name, getattr(fresh, name).to(self.reference_scores.device))

    @property
    def group_column(self) -> str:
        """The list's column that the groups are of, empty where there are none."""
        return _names(dict(self.named_buffers()))[0]

    @property
    def groups(self) -> list[str]:
        """The group of each reference score, empty where there are none."""
        return _group_of_each(dict(self.named_buffers()))

    def group_size(self, group: str) -> int:
        """How many reference scores are of a group."""
        return self._scores_of(group).numel()

    def _scores_of(self, group: str) -> Tensor:
        names = _names(dict(self.named_buffers()))[1]
        return self.reference_scores[self.reference_groups == names.index(group)] if group in names else torch.empty(0)

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

    def p_value(self, score: float, group: str | None = None) -> float:
        """Conformal p-value of an anomaly score, in (0, 1], among all references or those of a group alone."""
        self._require_fit()
        references = self.reference_scores if group is None else self._scores_of(group)
        return (1 + int((references >= score).sum())) / (references.numel() + 1)

    def mask_threshold(self, peak: float, alpha: float, pixel_alpha: float | None = None) -> float:
        """Map value above which the mask of a case begins whose map has this highest value.

        Args:
            peak: highest value of the case's map.
            alpha: share of normal scans that may be flagged, which a model without a rule of its own marks pixels by.
            pixel_alpha: share of normal pixels that may lie above the lowest threshold; None is the model's own.
        """
        if not self.mask_rule.numel() and pixel_alpha is None:
            return self.pixel_threshold(alpha)
        own, share = self.mask_rule.tolist() or MASK_RULE
        pixel_alpha = own if pixel_alpha is None else pixel_alpha
        middle = self.pixel_threshold(0.5)
        return max(self.pixel_threshold(pixel_alpha), middle + share * (peak - middle))

    def pixel_threshold(self, alpha: float) -> float:
        """Map value that a share ``alpha`` of the pixels of normal maps exceed; below 1e-4, that of 1e-4."""
        self._require_fit()
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, got {alpha}.")
        return float(self.pixel_quantiles[int((alpha - 1e-12 <= PIXEL_ALPHAS).sum()) - 1])

    def _require_fit(self) -> None:
        if not self.is_fitted:
            raise RuntimeError("the network is not calibrated: no held-out normal case has been scored yet.")


def _names(state: Mapping[str, Tensor]) -> tuple[str, list[str]]:
    """Column and names of the groups."""
    column, *names = json.loads(bytes(state["group_names"].tolist()) or '[""]')
    return column, names


def _group_of_each(state: Mapping[str, Tensor]) -> list[str]:
    names = _names(state)[1]
    return [names[number] for number in state["reference_groups"].tolist()]


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
