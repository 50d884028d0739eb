"""A memory of normal patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps
from medad_plugins.networks.blocks.patch_embedding import PatchEmbedding
from medad_plugins.networks.fitted.memory_bank import MemoryBank
from medad_plugins.networks.fitted.place_bank import PlaceBank
from medad_plugins.networks.fitted.scan_score import ScanScore, pooled_features
from medad_plugins.scorers import MapToImage

__all__ = ["PatchCore"]


class PatchesAnywhere(MemoryBank):
    """A memory in which a patch is looked for wherever it lies, as in the paper.

    Args:
        neighbours: see `PatchCore`.
        others: see `MemoryBank`.

    Shape:
        patches ``(B, P, D)`` to distances ``(B, P)``.
    """

    def __init__(self, coreset: float, memory_budget: float, neighbours: int, seed: int) -> None:
        super().__init__(coreset, memory_budget, seed=seed)
        self.neighbours = neighbours

    def forward(self, patches: Tensor) -> Tensor:
        flat = patches.flatten(0, 1)
        found, places = self.nearest(flat)
        distances = found.reshape(patches.shape[:2])
        if self.neighbours > 0:
            size = patches.shape[1]
            rows = distances.argmax(1) + size * torch.arange(patches.shape[0], device=patches.device)
            novelty = self.novelty(flat[rows], places[rows], self.neighbours)
            distances = distances * novelty.unsqueeze(1)
        return distances


class PatchesByPlace(PlaceBank):
    """A memory in which a patch is looked for at its own place and those around it.

    Args:
        window, coreset, memory_budget: see `PatchCore`.
        measures: see `PlaceBank`.

    Shape:
        patches ``(B, P, D)`` to distances ``(B, P)``.
    """

    def __init__(self, window: int, coreset: float, memory_budget: float, measures: bool) -> None:
        super().__init__(window, coreset=coreset, measures=measures)
        self.memory_budget = memory_budget

    def collect(self, tokens: Tensor, grid: Sequence[int]) -> None:
        # twice as many are held while collecting, of two bytes a value
        self.references = max(2, int(self.memory_budget * 2**20) // (4 * tokens[0].numel()))
        super().collect(tokens, grid)

    def forward(self, patches: Tensor) -> Tensor:
        # of its distances the roots are Euclidean ones
        return (2 * self.distances(patches)).sqrt()


class PatchCore(AnomalyNetwork):
    """PatchCore: distance of frozen pretrained features to the nearest of a memory of normal ones.

    Fitted in one pass by `medad_plugins.engines.FittingTrainer`; nothing is trained by gradient.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: a key of `medad_plugins.networks.TAPS`; ``wide_resnet50_2`` in the paper.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: of the backbone whose features are joined, finest first, see `make_taps`; the first one's grid is the
            map's. None for stages 2 and 3 of a ResNet, or what `usual_layers` says of another backbone.
        dimensions: of a patch's embedding.
        coreset: share or number of the normal patches that are kept, see `MemoryBank`; with a window, of each place.
        memory_budget: MiB of the fit, see `MemoryBank`; with a window, of the scans among whose patches are chosen.
        neighbours: re-weight a case's map by this many neighbours of the patch in memory that is nearest to its most
            abnormal one (the paper's text); 0 leaves it (the authors' code).
        sigma: Gaussian smoothing of the map, in pixels of the image; it does not change the score.
        coreset_seed: seed of the selection.
        reduction: image score, see `medad_plugins.scorers.MapPool`, on the feature grid.
        window: edge, odd, in places of the map's grid, of the window about a patch's own place in which the nearest is
            looked for; None or 0 for anywhere, as in the paper.
        unit_length: bring every patch's embedding to length one first; without, as in the paper.
        score: ``"local"``, ``"pooled"`` or ``"both"``, see `ScanScore`; the map is scaled to it.

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
        window: int | None = None,
        unit_length: bool = False,
        score: str = "local",
    ) -> None:
        super().__init__(reduction)
        if neighbours < 0 or neighbours == 1:
            raise ValueError(f"neighbours must be 0 or at least 2, got {neighbours}.")
        if neighbours and window:
            raise ValueError(f"neighbours are those of patches anywhere: give no window, got {window}.")
        self.unit_length, self.knows_places = unit_length, bool(window)
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        self.embedding = PatchEmbedding(
            self.features.channels, spatial_dims, neighbourhood=3, dimensions=dimensions, interpolation="linear"
        )
        self.memory: PatchesAnywhere | PatchesByPlace
        if window:
            self.memory = PatchesByPlace(window, coreset, memory_budget, measures=score == "both")
        else:
            self.memory = PatchesAnywhere(coreset, memory_budget, neighbours, coreset_seed)
        self.scan_score = ScanScore(score)
        self.to_image = MapToImage(spatial_dims, self.pool, sigma)

    def embed(self, image: Tensor) -> tuple[Tensor, list[int], Tensor]:
        """Embeddings ``(B, P, D)`` of the patches in row-major order, their grid, and pooled features ``(B, D')``."""
        taps = self.features(image)
        embedded = self.embedding(taps)
        if self.unit_length:
            embedded = functional.normalize(embedded.float(), dim=1)
        return embedded.flatten(2).transpose(1, 2), list(embedded.shape[2:]), pooled_features(taps)

    def collect(self, image: Tensor) -> None:
        """Add the patches of normal scans ``(B, C, *spatial)`` to the candidates of the memory."""
        with torch.no_grad():
            patches, grid, pooled = self.embed(image)
            if isinstance(self.memory, PatchesByPlace):
                self.memory.collect(patches.unsqueeze(1), grid)
                self.scan_score.collect(pooled)
            else:
                self.memory.collect(patches.flatten(0, 1))
                self.scan_score.collect(pooled, patches)

    def fit(self) -> None:
        """Choose the memory among the candidates, and what the scores of normal scans are."""
        if isinstance(self.memory, PatchesByPlace):
            left_out = (2 * self.memory.fit()).sqrt()
            self.scan_score.fit(self.pool(left_out.unsqueeze(1)))
        else:
            self.memory.fit()
            self.scan_score.fit(lambda patches: self.pool(self.memory(patches).unsqueeze(1)))

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Distance of every patch to its nearest in memory, interpolated to the image grid and smoothed.

        It is scaled for each case so that the pooled map is still the score on the feature grid.
        """
        patches, grid, pooled = self.embed(image)
        by_place = self.memory(patches).reshape([-1, 1] + grid)
        found = self.to_image(by_place, image.shape[2:])
        if self.scan_score.judges_pooled:
            found = self.pool.scaled_to(self.scan_score(self.pool(by_place), pooled), found)
        return found
