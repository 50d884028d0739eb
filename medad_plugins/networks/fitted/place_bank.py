"""Tokens of normal scans by the place they come from, and how far a scan's tokens are from the nearest of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medad_plugins.networks.fitted.coreset import k_centre_by_place
from medad_plugins.networks.fitted.scan_bank import ScanBank, even_rows
from medad_plugins.networks.fitted.token_places import places_around, require_window

__all__ = ["PlaceBank"]

logger = logging.getLogger(__name__)

# normal scans whose left-out distances the unit is taken from: a deviation needs no more
_MEASURED = 128


class PlaceBank(ScanBank):
    """Tokens of normal scans at every place of a grid, and the distance to the nearest one at the same place.

    The distance of two tokens is half their squared Euclidean distance, which of vectors of unit length is one minus
    their cosine. What normal scans have is measured by leaving each out: the distances of its tokens to those of all
    other scans. So the unit of the distances needs no scans beside those fitted on. Of a single scan it is taken from
    the distances of its tokens to the others of its own.

    Args:
        window: edge of the window of places, odd, in which the nearest token is looked for; 1 for the same place only,
            0 for anywhere.
        references, storage: see `ScanBank`.
        coreset: share (a float up to 1) or number (an int) of the tokens kept of each place, such that none of the
            others lies far from all of them; 1.0 for all. A row of the bank then is no scan: at every place it holds
            another's.
        measures: whether `fit` leaves scans out to measure the unit, which takes time with their number.

    Buffers:
        Those of `ScanBank`. bank ``(M, V, P, D)``. centre ``(D,)``: its mean. halves ``(M, V, P)``: half the squared
        distances of its tokens to that. around ``(P, K)``: the places in the window about each place, -1 beyond the
        border. unit: standard deviation of the tokens' distances in scans left out.

    Shape:
        tokens ``(B, P, D)`` to distances ``(B, P)`` in units.
    """

    def __init__(
        self,
        window: int = 3,
        references: int = 0,
        storage: str = "float16",
        coreset: float = 1.0,
        measures: bool = True,
    ) -> None:
        super().__init__(references, storage)
        require_window(window)
        if coreset <= 0 or (isinstance(coreset, float) and coreset > 1):
            raise ValueError(f"coreset must be a share in (0, 1] or a number of tokens, got {coreset!r}.")
        self.window, self.coreset, self.measures = window, coreset, measures
        self.bank: Tensor = nn.Buffer(self.candidates.new_empty(0))
        self.centre: Tensor = nn.Buffer(torch.empty(0))
        self.halves: Tensor = nn.Buffer(torch.empty(0))
        self.around: Tensor = nn.Buffer(torch.empty(0, 0, dtype=torch.long))
        self.unit: Tensor = nn.Buffer(torch.ones(()))

    def begin(self, grid: Sequence[int]) -> None:
        self.around = places_around(grid, max(self.window, 1)).to(self.candidates.device)

    def fit(self) -> Tensor:
        """Choose the bank from the candidates, and drop them; without candidates, from a bank that has grown.

        Returns:
            distances ``(n, P)`` of scans, each left out of the bank, at most 128 of them, and none without measuring;
            of a single scan ``(1, P)``, of its tokens to the others of its own.

        Raises:
            InputError: nothing was collected.
        """
        source = self.candidates if self.candidates.numel() else self.bank
        self.bank = self.chosen(source)
        self.candidates = self.candidates.new_empty(0)
        self._prepare()
        left_out = self._left_out() if self.measures else self.halves.new_empty(0, self.bank.shape[2])
        if self.measures:
            deviation = float(left_out.double().std(correction=0))
            # tokens that are all alike have no unit of their own
            self.unit = torch.full_like(self.unit, deviation if deviation > 1e-6 else 1.0)
        views = self.bank.shape[0] * self.bank.shape[1]
        kept, collected = self._kept(views), int(self.seen) * self.bank.shape[1]
        if kept < views:
            self.bank = k_centre_by_place(self.bank.flatten(0, 1), kept).unsqueeze(1)
            self._prepare()
            logger.info("the memory bank keeps %d of %d tokens of each place.", kept, collected)
        else:
            logger.info("the memory bank keeps the tokens of %d of %d scans.", len(self.bank), int(self.seen))
        return left_out

    def _kept(self, tokens: int) -> int:
        """How many of so many tokens a place keeps."""
        if isinstance(self.coreset, float):
            return max(1, round(self.coreset * tokens))
        return min(self.coreset, tokens)

    def _prepare(self) -> None:
        """What distances to the bank take beside it."""
        self.centre = self.bank.flatten(0, 2).double().mean(0).float()
        self.halves = torch.cat([(some.float() - self.centre).square().sum(3) / 2 for some in self.bank.split(64)])

    def united_buffers(self) -> tuple[str, ...]:
        return ("candidates", "bank")

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The banks of several sites laid together."""
        merged = super().merge_buffers(states)
        merged["around"] = max((state["around"] for state in states), key=torch.Tensor.numel)
        # measured again in `after_merge`
        merged.update({name: states[0][name] for name in ("centre", "halves", "unit")})
        fitted = [state["unit"] for state in states if state["bank"].numel()]
        if fitted:
            merged["unit"] = torch.stack(fitted).mean(0)
        return merged

    def after_merge(self) -> None:
        """Choose again from a bank that has grown, and measure the unit on it; a coreset keeps that of the sites."""
        if self.bank.numel() and not self.candidates.numel():
            if isinstance(self.coreset, float) and self.coreset == 1.0:
                self.fit()
                return
            if not isinstance(self.coreset, float) and len(self.bank) > self.coreset:
                self.bank = k_centre_by_place(self.bank.flatten(0, 1), self.coreset).unsqueeze(1)
            self._prepare()

    @torch.no_grad()
    def _left_out(self) -> Tensor:
        """Distances of the bank's scans to each other, see `fit`."""
        if len(self.bank) > 1:
            rows = even_rows(len(self.bank), _MEASURED).to(self.bank.device)
            return torch.cat([self.distances(self.bank[some, 0].float(), some) for some in rows.split(16)])
        tokens = self.bank[0, 0].float()
        apart = torch.cdist(tokens, tokens).square() / 2
        nearest = apart.fill_diagonal_(float("inf")).amin(1) if len(tokens) > 1 else tokens.new_zeros(1)
        return nearest.unsqueeze(0)

    def distances(self, tokens: Tensor, own: Tensor | None = None) -> Tensor:
        """Distances ``(B, P)`` of tokens ``(B, P, D)`` to the nearest in the bank.

        Args:
            tokens: of a scan at all places.
            own: ``(B,)``, the row of the bank that holds the scan itself, which is left out.
        """
        if self.bank.numel() == 0:
            raise RuntimeError("the memory bank has not been fitted.")
        if tokens.shape[1] != self.bank.shape[2]:
            raise RuntimeError("the memory bank was fitted on another image size.")
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if torch.is_autocast_enabled(tokens.device.type):
                # rounded to bfloat16, products of tokens that are much alike would tie
                with torch.autocast(tokens.device.type, enabled=False):
                    return self._distances(tokens.float(), own)
        return self._distances(tokens.float(), own)

    def _distances(self, tokens: Tensor, own: Tensor | None) -> Tensor:
        places, size = self.bank.shape[2], self.bank.shape[3]
        # about the mean the products are small, and with them what rounding takes from them
        centred = (tokens - self.centre).transpose(0, 1)
        if self.window == 0:
            closeness = self._closeness(centred.reshape(1, -1, size), own, places).reshape(places, -1)
        else:
            # a place of the bank is asked by all places around it at once, so that the bank is read once and in order
            around, count = self.around, self.around.shape[1]
            inside = around.clamp_min(0)
            answered = self._closeness(centred[inside.flatten()].reshape(places, -1, size), own, count)
            # of a place and its k-th neighbour, the neighbour's k-th from the end is the place
            mirror = torch.arange(count - 1, -1, -1, device=around.device)
            answers = answered.reshape(places * count, -1)[(inside * count + mirror).flatten()]
            answers = answers.reshape(places, count, -1).masked_fill((around < 0).unsqueeze(2), -float("inf"))
            closeness = answers.amax(1)
        distances = centred.square().sum(2) / 2 + centred @ self.centre - closeness
        return distances.clamp_min(0).transpose(0, 1)

    def _closeness(self, queries: Tensor, own: Tensor | None, groups: int) -> Tensor:
        """Of the nearest tokens ``(G, Q)``, all of the distance that differs between the bank's, its sign turned.

        Args:
            queries: about the mean ``(G, Q, D)``, G being the places, or 1 for all of them as one; the cases last in Q.
            own: see `distances`.
            groups: how often each case asks in Q.
        """
        places, size = self.bank.shape[2], self.bank.shape[3]
        best = torch.full_like(queries[:, :, 0], -float("inf"))
        at_once = self._at_once(groups)
        first = 0
        for part, halves in zip(self.bank.split(at_once), self.halves.split(at_once)):
            scans = part.shape[0]
            if self.window == 0:
                keys, bias = part.float().reshape(1, -1, size), halves.reshape(1, 1, -1)
            else:
                keys = part.permute(2, 0, 1, 3).float().reshape(places, -1, size)
                bias = halves.permute(2, 0, 1).reshape(places, 1, -1)
            products = torch.baddbmm(bias, queries, keys.transpose(1, 2), beta=-1.0)
            if own is not None:
                itself = own.unsqueeze(1) == first + torch.arange(scans, device=own.device)
                shape = products.shape
                products = products.reshape(shape[0], groups, own.shape[0], scans, -1)
                products = products.masked_fill(itself.unsqueeze(2), -float("inf")).reshape(shape)
            best = torch.maximum(best, products.amax(2))
            first += scans
        return best

    def _at_once(self, groups: int) -> int:
        """How many scans of the bank are compared together: so many that a case takes some megabytes."""
        return max(1, 524288 // (groups * self.bank.shape[2] * self.bank.shape[1]))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.distances(tokens) / self.unit
