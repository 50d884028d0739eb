"""Tokens of normal scans by the place they come from, and how far a scan's tokens are from the nearest of them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.coreset import k_centre_by_place
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["PlaceBank"]

logger = logging.getLogger(__name__)

STORAGES = {"float16": torch.float16, "float32": torch.float32}
# normal scans whose left-out distances the unit is taken from: a deviation needs no more
_MEASURED = 128


def even_rows(count: int, most: int) -> Tensor:
    """At most so many of ``count`` rows, evenly spread, the first among them."""
    kept = min(count, most)
    return torch.arange(kept) * count // max(kept, 1)


def places_around(grid: Sequence[int], window: int) -> Tensor:
    """Row-major places ``(P, window ** dims)`` in the window about each place of a grid; -1 beyond its border."""
    reach = range(-(window // 2), window // 2 + 1)
    edges = torch.tensor(list(grid))
    coordinates = torch.cartesian_prod(*[torch.arange(edge) for edge in grid]).reshape(-1, len(grid))
    columns = []
    for offset in itertools.product(reach, repeat=len(grid)):
        moved = coordinates + torch.tensor(offset)
        flat = torch.zeros(len(moved), dtype=torch.long)
        for axis, edge in enumerate(grid):
            flat = flat * edge + moved[:, axis]
        inside = ((moved >= 0) & (moved < edges)).all(1)
        columns.append(torch.where(inside, flat, -1))
    return torch.stack(columns, 1)


class PlaceBank(FittedModule):
    """Tokens of normal scans at every place of a grid, and the distance to the nearest one at the same place.

    The distance of two tokens is half their squared Euclidean distance, which of vectors of unit length is one minus
    their cosine. What normal scans have is measured by leaving each out: the distances of its tokens to those of all
    other scans. So the unit of the distances needs no scans beside those fitted on. Of a single scan it is taken from
    the distances of its tokens to the others of its own.

    Args:
        window: edge of the window of places, odd, in which the nearest token is looked for; 1 for the same place only,
            0 for anywhere.
        references: how many scans are kept, evenly spread over those collected; 0 for all. While collecting, never
            more than twice as many are held.
        storage: ``"float16"``, which rounds tokens of unit length by less than 1e-4, or ``"float32"``.
        coreset: share (a float up to 1) or number (an int) of the tokens kept of each place, such that none of the others
            lies far from all of them; 1.0 for all. A row of the bank then is no scan: at every place it holds another's.
        measures: whether `fit` leaves scans out to measure the unit, which takes time with their number.

    Buffers:
        seen: scans collected. step: every how many of them one became a candidate. candidates ``(n, V, P, D)``: of each
        scan, of each of its views, the tokens at all places, while collecting; empty after `fit`. bank
        ``(M, V, P, D)``. centre ``(D,)``: its mean. halves ``(M, V, P)``: half the squared distances of its tokens to
        that. around ``(P, K)``: the places in the window about each place, -1 beyond the border. unit: standard
        deviation of the tokens' distances in scans left out.

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
        super().__init__()
        if coreset <= 0 or (isinstance(coreset, float) and coreset > 1):
            raise ValueError(f"coreset must be a share in (0, 1] or a number of tokens, got {coreset!r}.")
        if window < 0 or (window > 0 and window % 2 == 0):
            raise ValueError(f"window must be odd, or 0 for anywhere, got {window}.")
        if references < 0 or storage not in STORAGES:
            raise ValueError(
                f"references must not be negative and storage one of {sorted(STORAGES)}, "
                f"got {references} and {storage!r}."
            )
        self.window, self.references, self.coreset, self.measures = window, references, coreset, measures
        self.seen: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.step: Tensor = nn.Buffer(torch.ones((), dtype=torch.long))
        self.candidates: Tensor = nn.Buffer(torch.empty(0, dtype=STORAGES[storage]))
        self.bank: Tensor = nn.Buffer(torch.empty(0, dtype=STORAGES[storage]))
        self.centre: Tensor = nn.Buffer(torch.empty(0))
        self.halves: Tensor = nn.Buffer(torch.empty(0))
        self.around: Tensor = nn.Buffer(torch.empty(0, 0, dtype=torch.long))
        self.unit: Tensor = nn.Buffer(torch.ones(()))

    def collect(self, tokens: Tensor, grid: Sequence[int]) -> None:
        """Add the tokens ``(B, V, P, D)`` of normal scans, of one or more views of each, on a grid of P places.

        Raises:
            InputError: the scans before had another grid.
        """
        if self.candidates.numel() == 0:
            self.seen, self.step = torch.zeros_like(self.seen), torch.ones_like(self.step)
            self.candidates = self.candidates.new_empty(0, *tokens.shape[1:])
            self.around = places_around(grid, max(self.window, 1)).to(tokens.device)
        if tokens.shape[1:] != self.candidates.shape[1:]:
            todo = "give all scans one --image_size"
            raise InputError("scans have tokens on other grids", found=tuple(tokens.shape[1:]), todo=todo)
        step, before = int(self.step), int(self.seen)
        self.seen += len(tokens)
        tokens = tokens.detach()[-before % step :: step]
        with torch.autocast(tokens.device.type, enabled=False):  # which joins no float16 on processors
            self.candidates = torch.cat([self.candidates, tokens.to(self.candidates.dtype)])
        while self.references and len(self.candidates) > 2 * self.references:
            self.candidates, self.step = self.candidates[::2], 2 * self.step

    def fit(self) -> Tensor:
        """Choose the bank from the candidates, and drop them; without candidates, from a bank that has grown.

        Returns:
            distances ``(n, P)`` of scans, each left out of the bank, at most 128 of them, and none without measuring; of
            a single scan ``(1, P)``, of its tokens to the others of its own.

        Raises:
            InputError: nothing was collected.
        """
        source = self.candidates if self.candidates.numel() else self.bank
        if source.numel() == 0:
            raise InputError("there is no normal scan to fit the memory bank on", todo="list scans to train on")
        rows = even_rows(len(source), self.references or len(source))
        self.bank = source if len(rows) == len(source) else source[rows.to(source.device)]
        self.candidates = self.candidates.new_empty(0)
        self._prepare()
        left_out = self._left_out() if self.measures else self.halves.new_empty(0, self.bank.shape[2])
        if self.measures:
            deviation = float(left_out.double().std(correction=0))
            # tokens that are all alike have no unit of their own
            self.unit = torch.full_like(self.unit, deviation if deviation > 1e-6 else 1.0)
        views = self.bank.shape[0] * self.bank.shape[1]
        kept = self._kept(views)
        if kept < views:
            self.bank = k_centre_by_place(self.bank.flatten(0, 1), kept).unsqueeze(1)
            self._prepare()
            logger.info(
                "the memory bank keeps %d of %d tokens of each place.", kept, int(self.seen) * views // len(rows)
            )
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
        merged["seen"] = torch.stack([state["seen"] for state in states]).sum(0)
        merged["step"] = torch.stack([state["step"] for state in states]).amax(0)
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
            if self.coreset == 1.0 and isinstance(self.coreset, float):
                self.fit()
            else:
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
