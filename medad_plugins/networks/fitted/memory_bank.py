"""A bounded memory of normal feature vectors and the distance to the nearest of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.coreset import distances_to_random, k_centre_greedy, random_projection
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["MemoryBank"]

logger = logging.getLogger(__name__)

_MIB = 2**20
# of a full stream at least so many candidates go on: what a bank of 1 % of 400,000 vectors is
_KEPT = 4096


class MemoryBank(FittedModule):
    """Representatives of normal feature vectors, chosen greedily, and the exact distance to the nearest one.

    While all collected vectors fit into the budget, the bank is the greedy coreset of all of them. Beyond it the fit is
    a stream: full candidates are reduced to a coreset of their own, larger than what will be kept, and room is made for
    more. So the memory of a fit does not grow with the scans.

    Args:
        coreset: share (a float up to 1) or number (an int) of the collected vectors that the bank keeps.
        memory_budget: MiB that candidates and the work of selecting among them may take while fitting.
        projection: random directions in which distances are compared while selecting; the bank keeps whole vectors.
        starting_points: how many random vectors the first picks are far from.
        seed: of the projection and the starting points.

    Buffers:
        seen: how many vectors were collected. candidates ``(n, D)``: while collecting, empty after `fit`. bank
        ``(M, D)``, float32, in the order of selection.
    """

    # fitting is never exported
    __jit_unused_properties__ = ["target"]  # noqa: RUF012

    def __init__(
        self,
        coreset: float = 0.01,
        memory_budget: float = 1024,
        projection: int = 128,
        starting_points: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if coreset <= 0 or (isinstance(coreset, float) and coreset > 1) or memory_budget <= 0:
            raise ValueError(
                "coreset must be a share in (0, 1] or a number of vectors and memory_budget positive, "
                f"got {coreset!r} and {memory_budget!r}."
            )
        self.coreset, self.memory_budget = coreset, memory_budget
        self.projection, self.starting_points, self.seed = projection, starting_points, seed
        self.at_once = 1024  # vectors of the bank that queries are compared with together
        self.seen: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.candidates: Tensor = nn.Buffer(torch.empty(0))
        self.bank: Tensor = nn.Buffer(torch.empty(0))

    def capacity(self, dimensions: int) -> int:
        """How many candidates of so many values the budget holds."""
        # vectors, a second time while more are joined to them or some are taken, projections, those about their mean,
        # and bounds, norms and counts
        return max(4, int(self.memory_budget * _MIB) // (4 * (2 * dimensions + 2 * self.projection + 8)))

    @property
    def target(self) -> int:
        """How many of the vectors seen so far the bank is to keep."""
        seen = int(self.seen)
        return max(1, round(self.coreset * seen)) if isinstance(self.coreset, float) else self.coreset

    def collect(self, vectors: Tensor) -> None:
        """Add vectors ``(n, D)`` to the candidates.

        Raises:
            InputError: the bank that they call for takes more than half of the budget.
        """
        if self.candidates.numel() == 0:
            self.seen = torch.zeros_like(self.seen)
            self.candidates = vectors.new_empty(0, vectors.shape[1], dtype=torch.float32)
        capacity = self.capacity(vectors.shape[1])
        self.seen += len(vectors)
        self._require_room(capacity)
        vectors = vectors.detach().float()
        while len(vectors):
            if len(self.candidates) == capacity:
                self._reduce(capacity)
            room = capacity - len(self.candidates)
            self.candidates = torch.cat([self.candidates, vectors[:room]])
            vectors = vectors[room:]

    def fit(self) -> None:
        """Choose the bank from the candidates, and drop them; without candidates, from a bank that has grown.

        Raises:
            InputError: nothing was collected.
        """
        source = self.candidates if self.candidates.numel() else self.bank
        if source.numel() == 0:
            raise InputError("there is no normal scan to fit the memory bank on", todo="list scans to train on")
        self.bank = self._selected(source, self.target)
        self.candidates = self.candidates.new_empty(0)
        logger.info("the memory bank keeps %d of %d vectors.", len(self.bank), int(self.seen))

    def united_buffers(self) -> tuple[str, ...]:
        return ("candidates", "bank")

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The banks of several sites laid together, and how many vectors were seen at all of them."""
        seen = torch.stack([state["seen"] for state in states]).sum(0)
        return {**super().merge_buffers(states), "seen": seen}

    def after_merge(self) -> None:
        """Select again from what has become too large."""
        if self.candidates.numel():
            capacity = self.capacity(self.candidates.shape[1])
            self._require_room(capacity)
            if len(self.candidates) > capacity:
                self._reduce(capacity)
        elif self.bank.numel() and len(self.bank) > self.target:
            self.bank = self._selected(self.bank, self.target)

    def _require_room(self, capacity: int) -> None:
        if self.target > capacity // 2:
            share = f" ({self.coreset:g} of {int(self.seen)} patches)" if isinstance(self.coreset, float) else ""
            raise InputError(
                "the memory bank is larger than its budget",
                where=f"--memory_budget {self.memory_budget:g}",
                expected=f"at most {capacity // 2} vectors, half of what the MiB hold",
                found=f"{self.target}{share}",
                todo="raise --memory_budget or lower --coreset, a share or a number of vectors",
            )

    def _reduce(self, capacity: int) -> None:
        """Make room: somewhat more are kept than the bank needs so far; selecting takes time with their square."""
        keep = min(max(_KEPT, 3 * self.target // 2), capacity // 2)
        self.candidates = self._selected(self.candidates, keep)

    def _selected(self, vectors: Tensor, count: int) -> Tensor:
        if count >= len(vectors):
            return vectors.clone()
        points = random_projection(vectors, self.projection, self.seed)
        start = distances_to_random(points, self.starting_points, self.seed)
        return vectors[k_centre_greedy(points, count, start)[0]]

    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Euclidean distance ``(n,)`` of vectors ``(n, D)`` to the nearest of the bank, and its place ``(n,)``."""
        if self.bank.numel() == 0:
            raise RuntimeError("the memory bank has not been fitted.")
        queries = queries.float()
        # about the mean the products are small, and with them what rounding takes from them
        centre = self.bank.mean(0)
        centred = queries - centre
        least = torch.full_like(queries[:, 0], float("inf"))
        places = torch.zeros_like(least, dtype=torch.long)
        start = 0
        for part in self.bank.split(self.at_once):
            part = part - centre
            # all of the squared distance that differs between the bank's vectors
            values, found = torch.addmm(part.square().sum(1), centred, part.t(), alpha=-2).min(1)
            places = torch.where(values < least, found + start, places)
            least = torch.minimum(values, least)
            start += part.shape[0]
        # the product of matrices says which is nearest; how near is computed from the differences, which is exact
        return torch.linalg.vector_norm(queries - self.bank[places], dim=1), places

    def novelty(self, queries: Tensor, places: Tensor, neighbours: int) -> Tensor:
        """PatchCore's weight ``(n,)`` in (0, 1) of the distances of queries ``(n, D)`` to their nearest vectors.

        One minus the softmax, over the nearest vector's own neighbours in the bank, of their distances to the query: a
        query near a vector that is rare itself is more abnormal than one near a common one.

        Args:
            queries: feature vectors.
            places: of their nearest in the bank.
            neighbours: how many of its neighbours are taken, itself among them.
        """
        nearest = self.bank[places]
        bank = self.bank - self.bank.mean(0)
        among = torch.addmm(bank.square().sum(1), bank[places], bank.t(), alpha=-2)
        around = torch.topk(among, min(neighbours, self.bank.shape[0]), dim=1, largest=False).indices
        distances = torch.linalg.vector_norm(queries.unsqueeze(1) - self.bank[around], dim=2)
        own = torch.linalg.vector_norm(queries - nearest, dim=1)
        return 1 - torch.exp(own - torch.logsumexp(distances, dim=1))

    def forward(self, queries: Tensor) -> Tensor:
        """Distance ``(n,)`` of vectors ``(n, D)`` to the nearest of the bank."""
        return self.nearest(queries)[0]
