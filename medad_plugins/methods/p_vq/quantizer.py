"""Vector quantisation of feature patches by cosine, against a codebook that follows the scans."""

from __future__ import annotations

import itertools

import ignite.distributed as idist
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PatchBlocks", "PatchQuantizer"]

DEAD_SHARE = 0.02  # of an equal share of the use: codes below it are put elsewhere


class PatchBlocks(nn.Module):
    """Non-overlapping blocks of a feature grid as one vector each, and back.

    Args:
        spatial_dims: 2 or 3.
        size: edge of a block in cells of the grid.

    Shape:
        ``(B, C, *grid)`` to ``(B, C * size ** spatial_dims, *grid / size)``; a grid that the size does not divide is
        continued by its last cells.
    """

    def __init__(self, spatial_dims: int, size: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"the size of a block must be at least 1, got {size}.")
        self.spatial_dims, self.size, self.volume = spatial_dims, size, size**spatial_dims
        # (B, C, g1, s, g2, s) to (B, C, s, s, g1, g2), and back
        self.inwards = [0, 1, *range(3, 3 + 2 * spatial_dims, 2), *range(2, 2 + 2 * spatial_dims, 2)]
        pairs = ((2 + spatial_dims + axis, 2 + axis) for axis in range(spatial_dims))
        self.outwards = [0, 1, *itertools.chain.from_iterable(pairs)]

    def forward(self, x: Tensor) -> Tensor:
        padding: list[int] = []
        for axis in range(self.spatial_dims):
            padding = [0, -x.shape[2 + axis] % self.size] + padding
        x = functional.pad(x, padding, mode="replicate")
        shape = [-1, x.shape[1]]
        for axis in range(self.spatial_dims):
            shape += [x.shape[2 + axis] // self.size, self.size]
        return x.reshape(shape).permute(self.inwards).flatten(1, 1 + self.spatial_dims)

    def join(self, blocks: Tensor, grid: list[int]) -> Tensor:
        """Blocks ``(B, C * size ** spatial_dims, ...)`` back to the feature grid ``(B, C, *grid)``."""
        channels = blocks.shape[1] // self.volume
        shape = [-1, channels] + [self.size] * self.spatial_dims + list(blocks.shape[2:])
        whole = [-1, channels] + [edge * self.size for edge in blocks.shape[2:]]
        x = blocks.reshape(shape).permute(self.outwards).reshape(whole)
        for axis, edge in enumerate(grid):
            x = x.narrow(2 + axis, 0, edge)
        return x


class PatchQuantizer(nn.Module):
    """Replaces the direction of every vector of a grid by the nearest code, by cosine.

    MONAI's ``EMAQuantizer`` measures by Euclidean distance and has neither the drop of codes nor the revival of unused
    ones. While training, the codes are running means of the vectors that chose them (van den Oord et al., NeurIPS
    2017); a code that hardly any vector chooses becomes a random vector of the batch; and in a random share of the
    batches the most used codes are forbidden, so that others learn too. The first batch gives the first codes.

    Args:
        dimensions: length of the vectors.
        codes: how many.
        decay: of the running means and of the use.
        drop_fraction: share of the codes, the most used, that a batch is forbidden.
        drop_chance: share of the batches that are forbidden them.

    Buffers:
        codes ``(K, D)``, unit vectors; lengths and usage ``(K,)``: of each code's running sum of directions, and the
        running count of the vectors that chose it.

    Shape:
        ``(B, D, *grid)`` to the quantised unit vectors ``(B, D, *grid)``, through which the gradient passes straight to
        the vectors, and one minus the cosine to the code ``(B, 1, *grid)``, 0..2, whose gradient stops at the code.
    """

    def __init__(
        self,
        dimensions: int,
        codes: int = 512,
        decay: float = 0.99,
        drop_fraction: float = 0.2,
        drop_chance: float = 0.5,
    ) -> None:
        super().__init__()
        if codes < 2 or not (0 <= decay < 1 and 0 <= drop_fraction < 1 and 0 <= drop_chance <= 1):
            raise ValueError(
                "codes must be at least 2, decay and drop_fraction lie in 0..1 without 1, and drop_chance in 0..1; "
                f"got {codes}, {decay}, {drop_fraction} and {drop_chance}."
            )
        self.decay, self.drop_chance = decay, drop_chance
        self.dropped = int(drop_fraction * codes)
        self.codes: Tensor = nn.Buffer(functional.normalize(torch.randn(codes, dimensions), dim=1))
        self.lengths: Tensor = nn.Buffer(torch.zeros(codes))
        self.usage: Tensor = nn.Buffer(torch.zeros(codes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        directions = functional.normalize(x.to(self.codes.dtype), dim=1)
        vectors = directions.detach().transpose(0, 1).flatten(1).transpose(0, 1)  # (N, D)
        chosen = self._choose(vectors)
        shape = [x.shape[0]] + list(x.shape[2:]) + [x.shape[1]]
        nearest = self.codes.index_select(0, chosen).reshape(shape).movedim(-1, 1)
        # not from the matrix product of the choice, which autocast rounds
        distance = 1 - (directions * nearest).sum(1, keepdim=True)
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if self.training:
                self._follow(vectors, chosen)
        return directions + (nearest - directions).detach(), distance

    def _choose(self, vectors: Tensor) -> Tensor:
        """Numbers ``(N,)`` of the codes nearest to vectors ``(N, D)``; in training among those not forbidden."""
        if not torch.jit.is_scripting():  # noqa: SIM102
            if self.training:
                return self._choose_for_training(vectors)
        return torch.mm(vectors, self.codes.t()).argmax(1)

    def _choose_for_training(self, vectors: Tensor) -> Tensor:
        if not bool(self.usage.any()):
            self._revive(vectors, self.usage == 0)
        similarity = torch.mm(vectors, self.codes.t())
        if float(torch.rand(())) < self.drop_chance:
            similarity[:, self.usage.topk(self.dropped).indices] = -torch.inf
        return similarity.argmax(1)

    def _follow(self, vectors: Tensor, chosen: Tensor) -> None:
        """Move the codes towards the vectors that chose them. In place: several processes share the buffers."""
        counts = torch.zeros_like(self.usage).index_add_(0, chosen, vectors.new_ones(len(vectors)))
        sums = torch.zeros_like(self.codes).index_add_(0, chosen, vectors)
        self.usage.lerp_(torch.as_tensor(idist.all_reduce(counts)), 1 - self.decay)
        running = self.codes * self.lengths.unsqueeze(1)
        running.lerp_(torch.as_tensor(idist.all_reduce(sums)), 1 - self.decay)
        self.lengths.copy_(running.norm(dim=1))
        self.codes.copy_(functional.normalize(running, dim=1))
        self._revive(vectors, self.usage < DEAD_SHARE * self.usage.mean())

    def _revive(self, vectors: Tensor, dead: Tensor) -> None:
        """Put dead codes onto random vectors of the batch, with an equal share of the use."""
        count = int(dead.sum())
        rows = torch.randperm(len(vectors)).repeat(-(-count // len(vectors)))[:count].to(vectors.device)
        share = len(vectors) * idist.get_world_size() / len(self.codes)
        self.codes[dead] = vectors[rows]
        self.usage[dead] = share
        self.lengths[dead] = share
