"""Scans judged by each other, none of them known as normal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.blocks.frozen_tokens import FrozenTokens
from medad_plugins.networks.fitted.mutual_bank import MutualBank
from medad_plugins.scorers import MapToImage

__all__ = ["MuSc"]


class MuSc(AnomalyNetwork):
    """MuSc: how far a scan's tokens lie from their like in the other scans of a folder, sick and healthy ones alike.

    Fitted in one pass by `medad_plugins.engines.FittingTrainer`; nothing is trained by gradient. A scan that is in the
    bank is left out of its own comparison, see `MutualBank`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone, weights, layers: see `medad_plugins.networks.make_taps`; each layer is compared by itself, on the
            deepest one's grid. Layers None, see `FrozenTokens`.
        blocks: of a transformer, where no layers are given.
        neighbourhoods: edges of the neighbourhoods of places over which tokens are averaged before; each is compared by
            itself.
        window: edge of the window of places in which a token's like is looked for; 0 for anywhere, as in the paper.
        similar: share of the other scans, those that have the nearest, over which a distance is averaged.
        neighbours: a scan's score becomes the mean of its own and those of the scans that are most like it as a whole,
            weighted by their cosine: for each number that many, itself among them, and the mean of all; ``[1]`` leaves
            scores as they are.
        references, storage: of the bank, see `MutualBank`.
        sigma: Gaussian smoothing of the map, in pixels of the image; it does not change the score.
        reduction: image score, see `medad_plugins.scorers.MapPool`, on the token grid.

    Reference:
        Li, Huang, Xue and Zhou, "MuSc: zero-shot industrial anomaly classification and segmentation with mutual scoring
        of the unlabeled images", ICLR 2024.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "none",
        layers: Sequence[int] | None = None,
        blocks: int = 1,
        neighbourhoods: Sequence[int] = (3,),
        window: int = 3,
        similar: float = 0.1,
        neighbours: Sequence[int] = (1, 2, 3),
        references: int = 500,
        storage: str = "float16",
        sigma: float = 4.0,
        reduction: str | float = 0.01,
    ) -> None:
        super().__init__(reduction)
        self.judges_whole_scans = True
        if not neighbourhoods or min(neighbourhoods) < 1 or any(edge % 2 == 0 for edge in neighbourhoods):
            raise ValueError(f"neighbourhoods must be odd and positive, got {list(neighbourhoods)}.")
        if not neighbours or min(neighbours) < 1:
            raise ValueError(f"neighbours must be at least 1, got {list(neighbours)}.")
        self.neighbourhoods, self.neighbours = list(neighbourhoods), list(neighbours)
        self.tokens = FrozenTokens(backbone, spatial_dims, in_channels, layers, weights, blocks)
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.bank = MutualBank(window, similar, references=references, storage=storage)
        self.to_image = MapToImage(spatial_dims, self.pool, sigma, keep_score="none")

    def kinds(self, image: Tensor) -> tuple[Tensor, list[int]]:
        """Tokens ``(B, V, P, D)`` of every layer and neighbourhood, on the deepest layer's grid, and that grid."""
        taps = self.tokens.taps(image)
        grid = list(taps[-1].shape[2:])
        widest = max([tap.shape[1] for tap in taps])
        found: list[Tensor] = []
        for tap in taps:
            for edge in self.neighbourhoods:
                averaged = self.averaged(tap.float(), edge)
                if averaged.shape[2:] != taps[-1].shape[2:]:
                    averaged = functional.interpolate(averaged, grid, mode=self.mode, align_corners=False)
                rows = functional.normalize(averaged, dim=1).flatten(2).transpose(1, 2)
                # zeros change neither a token's length nor a distance
                found.append(functional.pad(rows, [0, widest - tap.shape[1]]))
        return torch.stack(found, 1), grid

    def averaged(self, tap: Tensor, edge: int) -> Tensor:
        """A feature map averaged over neighbourhoods; beyond the border its last values count again."""
        if edge == 1:
            return tap
        if tap.dim() == 4:
            padded = functional.pad(tap, [edge // 2] * 4, mode="replicate")
            return functional.avg_pool2d(padded, edge, 1)
        padded = functional.pad(tap, [edge // 2] * 6, mode="replicate")
        return functional.avg_pool3d(padded, edge, 1)

    def collect(self, image: Tensor) -> None:
        """Add a batch of scans ``(B, C, *spatial)``, whatever they show."""
        with torch.no_grad():
            tokens, grid = self.kinds(image)
            self.bank.collect(tokens, grid)

    def fit(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Compare the scans with each other, see `MutualBank.fit`."""
        self.bank.fit(progress)

    def bank_maps(self) -> Tensor:
        """Distances ``(M, P)`` of the tokens of the scans of the bank to their like in the others."""
        return self.bank.own

    @torch.no_grad()
    def bank_scores(self) -> Tensor:
        """Scores ``(M,)`` of the scans of the bank, each compared with the others."""
        found: list[Tensor] = []
        known = self.pool(self.bank.own.unsqueeze(1))
        for part, scores in zip(self.bank.bank.split(32), known.split(32), strict=True):
            found.append(scores if max(self.neighbours) == 1 else self.rescored(part.float(), scores))
        return torch.cat(found)

    def rescored(self, tokens: Tensor, score: Tensor) -> Tensor:
        """Scores ``(B,)`` averaged with those of the scans of the bank that are most like the tokens' as a whole."""
        grid_maps = self.bank.own.unsqueeze(1)
        known = self.pool(grid_maps)
        alike = self.bank.described(tokens) @ self.bank.features.t()
        alike = alike.masked_fill(self.bank.copies(tokens), 0.0).clamp_min(0)
        most = min(max(self.neighbours) - 1, self.bank.own.shape[0])
        weights, nearest = torch.topk(alike, most, dim=1)
        weighted = weights * known[nearest]
        total = torch.zeros_like(score)
        for count in self.neighbours:
            others = min(count - 1, most)
            total = total + (score + weighted[:, :others].sum(1)) / (1 + weights[:, :others].sum(1))
        return total / len(self.neighbours)

    def grid_map(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The map ``(B, 1, *grid)`` on the token grid, and the score ``(B,)``."""
        tokens, grid = self.kinds(image)
        found = self.bank(tokens).reshape([-1, 1] + grid)
        score = self.pool(found)
        if max(self.neighbours) == 1:
            return found, score
        return found, self.rescored(tokens, score)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The map, interpolated to the image grid and smoothed, scaled for each case to pool to its score."""
        found, score = self.grid_map(image)
        return self.pool.scaled_to(score, self.to_image(found, image.shape[2:]))
