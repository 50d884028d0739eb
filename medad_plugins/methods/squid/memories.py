"""Memories of normal feature patches, one for each position in the scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ignite.distributed as idist
import torch
from torch import Tensor, nn

from medad_plugins.networks.blocks.memory_addressing import look_up
from medad_plugins.networks.blocks.patch_grid import join_patches, split_patches
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["MemoryMatrices", "MemoryQueues"]


def _first_slots(positions: int, slots: int, dimensions: int, top_k: int) -> Tensor:
    if not 2 <= top_k <= slots:
        raise ValueError(f"top_k must lie between 2 and the {slots} slots, got {top_k}.")
    return torch.empty(positions, slots, dimensions).uniform_(-1, 1) * dimensions**-0.5


class MemoryQueues(FittedModule):
    """The latest vectors that training saw at each position; they are written and read, never trained by gradient.

    Args:
        positions: how many queues.
        slots: vectors that each holds; the oldest go first.
        dimensions: of a vector.
        top_k: see `look_up`.

    Buffers:
        slots ``(P, M, D)``; at first small random vectors. place: where the next vector goes.

    Shape:
        queries ``(B, P, D)`` to what the queues hold of them ``(B, P, D)``.

    Reference:
        Xiang et al., "SQUID", CVPR 2023.
    """

    def __init__(self, positions: int, slots: int, dimensions: int, top_k: int = 5) -> None:
        super().__init__()
        self.top_k = top_k
        self.slots: Tensor = nn.Buffer(_first_slots(positions, slots, dimensions, top_k))
        self.place: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def remember(self, vectors: Tensor) -> None:
        """Write vectors ``(B, P, D)``, with several processes those of all of them, in place of the oldest."""
        vectors = _of_all_ranks(vectors.detach().to(self.slots.dtype))
        count, size = len(vectors), self.slots.shape[1]
        places = (self.place + torch.arange(count, device=self.place.device)) % size
        self.slots[:, places[-size:]] = vectors[-size:].transpose(0, 1)
        self.place.add_(count).remainder_(size)

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """With several sites, every queue takes its slots by turns: a mean of vectors is no vector of any scan."""
        slots = torch.stack([state["slots"] for state in states])
        turns = torch.arange(slots.shape[2], device=slots.device)
        return {"slots": slots[turns % len(states), :, turns].transpose(0, 1), "place": states[0]["place"]}

    def forward(self, queries: Tensor) -> Tensor:
        return look_up(queries, self.slots, self.top_k)


def _of_all_ranks(vectors: Tensor) -> Tensor:
    """The cases of all processes, every process's next one by turns, as the loader gives them."""
    ranks = idist.get_world_size()
    if ranks == 1:
        return vectors
    gathered = torch.as_tensor(idist.all_gather(vectors.contiguous()))
    return gathered.unflatten(0, (ranks, -1)).transpose(0, 1).flatten(0, 1)


class MemoryMatrices(nn.Module):
    """Replaces each of the patches that a feature map is cut into by a sum of learnt ones.

    Args:
        channels: of the map.
        patch_size: edges of a patch.
        parts: of each edge of the map.
        slots: learnt patches for each position.
        top_k: see `look_up`.

    Shape:
        ``(B, channels, *(patch_size * parts))`` to the same.
    """

    def __init__(self, channels: int, patch_size: Sequence[int], parts: int, slots: int, top_k: int = 5) -> None:
        super().__init__()
        self.parts, self.top_k = parts, top_k
        self.positions = parts ** len(patch_size)
        dimensions = channels
        for edge in patch_size:
            dimensions *= edge
        self.slots = nn.Parameter(_first_slots(self.positions, slots, dimensions, top_k))

    def forward(self, x: Tensor) -> Tensor:
        patches = split_patches(x, self.parts)
        queries = patches.flatten(1).unflatten(0, (-1, self.positions))
        found = look_up(queries, self.slots, self.top_k)
        return join_patches(found.reshape(patches.shape), self.parts)
