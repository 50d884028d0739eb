"""Scans judged by each other: how far each token is from its like in every other scan, none of them known as normal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.scan_bank import ScanBank
from medad_plugins.networks.fitted.token_places import places_around, require_window

__all__ = ["MutualBank"]

logger = logging.getLogger(__name__)

# scans of the bank that are compared with the bank together
_AT_ONCE = 32


class MutualBank(ScanBank):
    """Tokens of a folder's scans; a token's distance is the mean over the scans that have the nearest ones to it.

    What is usual has its like in many scans, what is not has none. A scan that is in the bank, or a copy of one that
    is, is left out of its own comparison: it is known by tokens that are the same at every place but for rounding.

    Args:
        window: edge of the window of places, odd, in which the nearest token of a scan is looked for; 0 for anywhere.
        share: of the other scans, those with the nearest tokens, over which the distance is averaged; at least one.
        same: mean distance, one minus the cosine, of the tokens at the same places below which two scans are the same.
        references, storage: see `ScanBank`.

    Buffers:
        Those of `ScanBank`, their views being kinds of tokens, e.g. of several layers. bank ``(M, V, P, D)``. around
        ``(P, K)``: places in the window. features ``(M, V * D)``: of each scan, its mean tokens, of unit length. own
        ``(M, P)``: the distances of the bank's scans to each other.

    Shape:
        tokens ``(B, V, P, D)``, of unit length, to distances ``(B, P)``, 0 to 2: the mean of the kinds' Euclidean ones.

    Reference:
        Li, Huang, Xue and Zhou, "MuSc: zero-shot industrial anomaly classification and segmentation with mutual scoring
        of the unlabeled images", ICLR 2024.
    """

    def __init__(
        self, window: int = 3, share: float = 0.3, same: float = 1e-3, references: int = 0, storage: str = "float16"
    ) -> None:
        super().__init__(references, storage)
        require_window(window)
        if not 0 < share <= 1 or same < 0:
            raise ValueError(f"share must lie in (0, 1] and same not be negative, got {share} and {same}.")
        self.window, self.share, self.same = window, share, same
        self.bank: Tensor = nn.Buffer(self.candidates.new_empty(0))
        self.around: Tensor = nn.Buffer(torch.empty(0, 0, dtype=torch.long))
        self.features: Tensor = nn.Buffer(torch.empty(0))
        self.own: Tensor = nn.Buffer(torch.empty(0))

    def begin(self, grid: Sequence[int]) -> None:
        self.around = places_around(grid, max(self.window, 1)).to(self.candidates.device)

    @torch.no_grad()
    def fit(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Keep the candidates and compare them with each other; without candidates, a bank that has grown.

        Args:
            progress: called with how many scans were compared, and with how many there are.

        Raises:
            InputError: there are fewer than two scans.
        """
        self.bank = self.chosen(self.candidates if self.candidates.numel() else self.bank)
        self.candidates = self.candidates.new_empty(0)
        if len(self.bank) < 2:
            raise InputError("scans are compared with each other", expected="two at least", found=1, todo="list more")
        parts = self.bank.split(_AT_ONCE)
        self.features = torch.cat([self.described(part.float()) for part in parts])
        own: list[Tensor] = []
        for part in parts:
            own.append(self.distances(part.float()))
            if progress is not None:
                progress(sum(map(len, own)), len(self.bank))
        self.own = torch.cat(own)
        logger.info("%d of %d scans were compared with each other.", len(self.bank), int(self.seen))

    def united_buffers(self) -> tuple[str, ...]:
        return ("candidates", "bank")

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The banks of several sites laid together."""
        merged = super().merge_buffers(states)
        merged["around"] = max((state["around"] for state in states), key=torch.Tensor.numel)
        # computed again in `after_merge`
        merged.update({name: states[0][name] for name in ("features", "own")})
        return merged

    def after_merge(self) -> None:
        """Compare the scans of a bank that has grown."""
        if self.bank.numel() and not self.candidates.numel():
            self.fit()

    def described(self, tokens: Tensor) -> Tensor:
        """The scans' features ``(B, V * D)`` of their tokens ``(B, V, P, D)``."""
        return functional.normalize(tokens.mean(2).flatten(1), dim=1)

    def copies(self, tokens: Tensor) -> Tensor:
        """Which scans of the bank are those of the tokens ``(B, V, P, D)``: ``(B, M)``."""
        asked = tokens[:, 0].flatten(1)
        cosines: list[Tensor] = []
        for part in self.bank[:, 0].split(64):
            cosines.append(asked @ part.flatten(1).float().t())
        return 1 - torch.cat(cosines, 1) / tokens.shape[2] < self.same

    def distances(self, tokens: Tensor) -> Tensor:
        if self.bank.numel() == 0:
            raise RuntimeError("the memory bank has not been fitted.")
        if tokens.shape[1:] != self.bank.shape[1:]:
            raise RuntimeError("the memory bank was fitted on another image size.")
        left_out = self.copies(tokens).unsqueeze(1)
        count = max(1, int(self.share * (self.bank.shape[0] - 1)))
        total = torch.zeros_like(tokens[:, 0, :, 0])
        for kind in range(tokens.shape[1]):
            apart = self.to_scans(tokens[:, kind], kind).masked_fill(left_out, float("inf"))
            nearest = torch.topk(apart, count, dim=2, largest=False, sorted=False).values
            finite = nearest < 10
            # of a scan that has nothing but copies nothing can be said
            total = total + (nearest.masked_fill(~finite, 0.0).sum(2) / finite.sum(2).clamp_min(1))
        return total / tokens.shape[1]

    def to_scans(self, tokens: Tensor, kind: int) -> Tensor:
        """Euclidean distances ``(B, P, M)`` of tokens ``(B, P, D)`` of a kind to the nearest of each scan."""
        cases, places, size = tokens.shape[0], tokens.shape[1], tokens.shape[2]
        count = places if self.window == 0 else self.around.shape[1]
        at_once = max(1, 524288 // (count * places))
        parts: list[Tensor] = []
        if self.window == 0:
            queries = tokens.reshape(-1, size)
            for part in self.bank[:, kind].split(at_once):
                products = queries @ part.reshape(-1, size).float().t()
                parts.append(products.reshape(cases, places, part.shape[0], places).amax(3))
        else:
            # a place of the bank is asked by all places around it at once, so that the bank is read once and in order
            inside = self.around.clamp_min(0)
            queries = tokens.transpose(0, 1).index_select(0, inside.flatten()).reshape(places, count * cases, size)
            # of a place and its k-th neighbour, the neighbour's k-th from the end is the place
            mirror = torch.arange(count - 1, -1, -1, device=inside.device)
            answers = (inside * count + mirror).flatten()
            beyond = (self.around < 0).reshape(places, count, 1, 1)
            for part in self.bank[:, kind].split(at_once):
                keys = part.permute(1, 2, 0).float()
                # two steps, for one would be a guess at the batch when it is exported
                products = torch.bmm(queries, keys).reshape(places, count, cases, keys.shape[2])
                products = products.flatten(0, 1).index_select(0, answers)
                products = products.reshape(places, count, cases, keys.shape[2]).masked_fill(beyond, -1.0)
                parts.append(products.amax(1).transpose(0, 1))
        closeness = torch.cat(parts, 2)
        return (2 - 2 * closeness).clamp_min(0).sqrt()
