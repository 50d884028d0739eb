"""Normal feature vectors, and a detector that is fitted to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.one_class_head import OneClassHead
from medad_plugins.networks.fitted.vector_preparation import VectorPreparation
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["VectorDetector"]


class VectorDetector(FittedModule):
    """Collects vectors of normal scans, and fits what prepares and what judges vectors to them.

    The vectors stay in the state, as kernels and neighbours need them anyway: those of several sites are laid together
    and everything is fitted again, which gives what fitting at one place gives.

    Args:
        preparation: of the vectors.
        head: the detector.
        most: vectors that are kept, drawn evenly from all that are collected where there are more.
        seed: of the drawing.

    Buffers:
        seen: how many vectors were collected. vectors ``(n, D)``, float32. lots ``(n,)``: random numbers, of which the
        vectors that are kept have the lowest.

    Shape:
        ``(n, D)`` to scores ``(n,)``, float32, not negative.
    """

    def __init__(self, preparation: VectorPreparation, head: OneClassHead, most: int = 5000, seed: int = 0) -> None:
        super().__init__()
        if most < 2:
            raise ValueError(f"most must be at least 2, got {most}.")
        self.preparation, self.head = preparation, head
        self.most, self.seed = most, seed
        self.seen: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.vectors: Tensor = nn.Buffer(torch.empty(0))
        self.lots: Tensor = nn.Buffer(torch.empty(0, dtype=torch.float64))
        self.collecting = False

    def collect(self, vectors: Tensor) -> None:
        """Add vectors ``(n, D)``; the first ones after a fit begin anew."""
        vectors = vectors.detach().float()
        if not self.collecting:
            self.collecting = True
            self.seen = torch.zeros_like(self.seen)
            self.vectors, self.lots = vectors[:0], self.lots[:0]
        generator = torch.Generator().manual_seed(self.seed + int(self.seen))
        lots = torch.rand(len(vectors), dtype=torch.float64, generator=generator).to(self.lots.device)
        self.seen += len(vectors)
        self.vectors, self.lots = torch.cat([self.vectors, vectors]), torch.cat([self.lots, lots])
        self._draw()

    def _draw(self) -> None:
        if len(self.lots) > self.most:
            # in the order in which they came
            kept = torch.topk(self.lots, self.most, largest=False, sorted=False).indices.sort().values
            self.vectors, self.lots = self.vectors[kept], self.lots[kept]

    def fit(self) -> None:
        """Fit to what was collected.

        Raises:
            InputError: there are fewer than two vectors, they are all alike, or what preparation and head refuse.
        """
        self.collecting = False
        if len(self.vectors) < 2:
            todo = "list more normal scans to train on"
            raise InputError("a detector needs at least two normal scans", found=len(self.vectors), todo=todo)
        if bool((self.vectors == self.vectors[0]).all()):
            found = f"{len(self.vectors)} scans"
            raise InputError("the normal scans have the same features", found=found, todo="list different scans")
        self.preparation.fit(self.vectors)
        self.head.fit(self.preparation(self.vectors))

    def united_buffers(self) -> tuple[str, ...]:
        return ("vectors", "lots")

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The vectors of several sites laid together, and how many were seen at all of them."""
        seen = torch.stack([state["seen"] for state in states]).sum(0)
        return {**super().merge_buffers(states), "seen": seen}

    def after_merge(self) -> None:
        """Draw from what has become too much, and fit again."""
        self._draw()
        self.fit()

    def forward(self, vectors: Tensor) -> Tensor:
        scores: Tensor = self.head(self.preparation(vectors))
        return scores
