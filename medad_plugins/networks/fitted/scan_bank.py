"""Tokens of normal scans, kept scan by scan, at most so many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.token_head import TokenHead

__all__ = ["ScanBank", "even_rows"]

STORAGES = {"float16": torch.float16, "float32": torch.float32}


def even_rows(count: int, most: int) -> Tensor:
    """At most so many of ``count`` rows, evenly spread, the first among them."""
    kept = min(count, most)
    return torch.arange(kept) * count // max(kept, 1)


class ScanBank(TokenHead):
    """Base of what is fitted to all tokens of scans at once: while collecting, so many scans are kept, evenly spread.

    Args:
        references: how many scans are kept at the end, evenly spread over those collected; 0 for all. While collecting,
            never more than twice as many are held.
        storage: ``"float16"``, which rounds tokens of unit length by less than 1e-4, or ``"float32"``.

    Buffers:
        seen: scans collected. step: every how many of them one became a candidate. candidates ``(n, V, P, D)``: of each
        scan, of each of its views, the tokens at all places, while collecting; empty after `fit`.
    """

    def __init__(self, references: int = 0, storage: str = "float16") -> None:
        super().__init__()
        if references < 0 or storage not in STORAGES:
            raise ValueError(
                f"references must not be negative and storage one of {sorted(STORAGES)}, "
                f"got {references} and {storage!r}."
            )
        self.references = references
        self.seen: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.step: Tensor = nn.Buffer(torch.ones((), dtype=torch.long))
        self.candidates: Tensor = nn.Buffer(torch.empty(0, dtype=STORAGES[storage]))

    def begin(self, grid: Sequence[int]) -> None:
        """Called with the grid of the first scans that are collected."""

    def collect(self, tokens: Tensor, grid: Sequence[int]) -> None:
        """Add the tokens ``(B, V, P, D)`` of normal scans, of one or more views of each, on a grid of P places.

        Raises:
            InputError: the scans before had another grid.
        """
        if self.candidates.numel() == 0:
            self.seen, self.step = torch.zeros_like(self.seen), torch.ones_like(self.step)
            self.candidates = self.candidates.new_empty(0, *tokens.shape[1:])
            self.begin(grid)
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

    def chosen(self, source: Tensor) -> Tensor:
        """Of scans in rows, those that are kept.

        Raises:
            InputError: there is none.
        """
        if source.numel() == 0:
            raise InputError("there is no normal scan to fit the memory bank on", todo="list scans to train on")
        rows = even_rows(len(source), self.references or len(source))
        return source if len(rows) == len(source) else source[rows.to(source.device)]

    def united_buffers(self) -> tuple[str, ...]:
        return ("candidates",)

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The candidates of several sites laid together."""
        merged = super().merge_buffers(states)
        merged["seen"] = torch.stack([state["seen"] for state in states]).sum(0)
        merged["step"] = torch.stack([state["step"] for state in states]).amax(0)
        return merged
