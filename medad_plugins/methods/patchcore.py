"""A memory of normal patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps
from medad_plugins.networks.blocks.patch_embedding import PatchEmbedding
from medad_plugins.networks.fitted.memory_bank import MemoryBank
from medad_plugins.scorers import MapToImage

__all__ = ["PatchCore"]


class PatchCore(AnomalyNetwork):
    """PatchCore: distance of frozen pretrained features to the nearest of a memory of normal ones, wherever it lies.

    Fitted in one pass by `medad_plugins.engines.FittingTrainer`; nothing is trained by gradient.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: a key of `medad_plugins.networks.TAPS`; ``wide_resnet50_2`` in the paper.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: of the backbone whose features are joined, finest first, see `make_taps`; the first one's grid is the
            map's. None for stages 2 and 3 of a ResNet, or what `usual_layers` says of another backbone.
        dimensions: of a patch's embedding.
        coreset: share or number of the normal patches that are kept, see `MemoryBank`.
        memory_budget: MiB of the fit, see `MemoryBank`.
        neighbours: re-weight a case's map by this many neighbours of the patch in memory that is nearest to its most
            abnormal one (the paper's text); 0 leaves it (the authors' code).
        sigma: Gaussian smoothing of the map, in pixels of the image; it does not change the score.
        coreset_seed: seed of the selection.
        reduction: image score, see `medad_plugins.scorers.MapPool`, on the feature grid.

    Reference:
        Roth et al., "Towards total recall in industrial anomaly detection", CVPR 2022.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "wide_resnet50_2",
        weights: str = "imagenet",
        layers: Sequence[int] | None = None,
        dimensions: int = 1024,
        coreset: float = 0.01,
        memory_budget: float = 1024,
        neighbours: int = 0,
        sigma: float = 4.0,
        coreset_seed: int = 0,
        reduction: str | float = "max",
    ) -> None:
        super().__init__(reduction)
        if neighbours < 0 or neighbours == 1:
            raise ValueError(f"neighbours must be 0 or at least 2, got {neighbours}.")
        self.neighbours = neighbours
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        self.embedding = PatchEmbedding(
            self.features.channels, spatial_dims, neighbourhood=3, dimensions=dimensions, interpolation="linear"
        )
        self.memory = MemoryBank(coreset, memory_budget, seed=coreset_seed)
        self.to_image = MapToImage(spatial_dims, self.pool, sigma)

    def embed(self, image: Tensor) -> tuple[Tensor, list[int]]:
        """Embeddings ``(B * P, dimensions)`` of the patches, case by case in row-major order, and their grid."""
        embedded = self.embedding(self.features(image))
        return embedded.flatten(2).transpose(1, 2).flatten(0, 1), list(embedded.shape[2:])

    def collect(self, image: Tensor) -> None:
        """Add the patches of normal scans ``(B, C, *spatial)`` to the candidates of the memory."""
        with torch.no_grad():
            self.memory.collect(self.embed(image)[0])

    def fit(self) -> None:
        """Choose the memory among the candidates."""
        self.memory.fit()

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Distance of every patch to its nearest in memory, interpolated to the image grid and smoothed.

        It is scaled for each case so that the pooled map is still the score on the feature grid.
        """
        patches, grid = self.embed(image)
        distances, places = self.memory.nearest(patches)
        by_place = distances.reshape([-1, 1] + grid)
        if self.neighbours > 0:
            furthest = by_place.flatten(1).argmax(1)
            size = by_place[0].numel()
            rows = furthest + size * torch.arange(by_place.shape[0], device=furthest.device)
            novelty = self.memory.novelty(patches[rows], places[rows], self.neighbours)
            by_place = by_place * novelty.reshape([-1] + [1] * (by_place.dim() - 1))
        return self.to_image(by_place, image.shape[2:])
