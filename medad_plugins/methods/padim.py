"""Patch distribution modelling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps, usual_layers
from medad_plugins.networks.blocks.patch_embedding import PatchEmbedding
from medad_plugins.networks.fitted.gaussians import PatchGaussians
from medad_plugins.networks.fitted.scan_score import ScanScore, pooled_features
from medad_plugins.scorers import MapToImage

__all__ = ["PaDiM"]


class ChosenChannels(nn.Module):
    """Some of the channels of a tap: ``(B, C, *grid)`` to ``(B, n, *grid)``, n may be 0."""

    def __init__(self) -> None:
        super().__init__()
        self.places: Tensor = nn.Buffer(torch.empty(0, dtype=torch.long), persistent=False)

    def forward(self, tap: Tensor) -> Tensor:
        return tap.index_select(1, self.places)


class PaDiM(AnomalyNetwork):
    """PaDiM: a Gaussian of frozen pretrained features at every location of aligned scans.

    Fitted in one pass by `medad_plugins.engines.FittingTrainer`; nothing is trained by gradient.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: a key of `medad_plugins.networks.TAPS`; in the paper ``resnet18`` (100 dimensions) or
            ``wide_resnet50_2`` (550 dimensions).
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        dimensions: how many feature channels are kept, drawn once at random from all of them.
        finest_stage: stage whose grid carries the Gaussians: 1 (stride 4, the paper's), 2 (stride 8) or 3 (stride 16);
            the statistics of a volume need a coarse one.
        sigma: Gaussian smoothing of the map, in pixels of the image.
        feature_seed: seed of the channel selection, kept in the state dict.
        reduction: image score, see `medad_plugins.scorers.MapPool`.
        layers: of the backbone, finest first, see `make_taps`; None for the stages of a ResNet from ``finest_stage`` to
            3, or what `usual_layers` says of another backbone.
        square_roots: fit the Gaussians to the features' square roots, with their sign, for features are skewed; the
            paper's are the features themselves.
        unit_length: bring the joined features of a location to length one before, all channels counted; the paper does
            not.
        score: ``"local"``, ``"pooled"`` or ``"both"``, see `ScanScore`; the map is scaled to it.

    Reference:
        Defard et al., "PaDiM: a patch distribution modeling framework for anomaly detection and localization", ICPR
        workshops 2020.

    Example:
        >>> network = PaDiM(backbone="resnet10", weights="none", dimensions=10)
        >>> network.collect(torch.rand(16, 1, 32, 32))  # normal scans
        >>> network.fit()
        >>> network.eval()(torch.rand(2, 1, 32, 32)).shape
        torch.Size([2, 1, 32, 32])
    """

    knows_places = True

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        dimensions: int = 100,
        finest_stage: int = 1,
        sigma: float = 4.0,
        feature_seed: int = 1024,
        reduction: str | float = "max",
        layers: Sequence[int] | None = None,
        square_roots: bool = False,
        unit_length: bool = False,
        score: str = "local",
    ) -> None:
        super().__init__(reduction)
        self.square_roots, self.unit_length = square_roots, unit_length
        if finest_stage not in (1, 2, 3):
            raise ValueError(f"finest_stage must be 1, 2 or 3, got {finest_stage}.")
        layers = usual_layers(backbone, range(finest_stage, 4)) if layers is None else layers
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        channels = self.features.channels
        # nearest: every location takes the deeper features of the cell that it lies in
        self.embedding = PatchEmbedding(channels, spatial_dims)
        available = self.embedding.out_channels
        if not 1 <= dimensions <= available:
            raise ValueError(f"dimensions must lie between 1 and {available} for {backbone}, got {dimensions}.")
        generator = torch.Generator().manual_seed(feature_seed)
        self.selection: Tensor = nn.Buffer(torch.randperm(available, generator=generator)[:dimensions].sort().values)
        # the selection by taps, so that only what is kept is brought to the finest grid; it follows a loaded selection
        self.chosen = nn.ModuleList(ChosenChannels() for _ in channels)
        self._choose()
        self.register_load_state_dict_post_hook(_choose_again)
        self.gaussians = PatchGaussians()
        self.scan_score = ScanScore(score)
        self.size = torch.Size()  # of the images collected
        self.to_image = MapToImage(spatial_dims, self.pool, sigma, keep_score="none")

    def _choose(self) -> None:
        start = 0
        for chosen, count in zip(self.chosen, self.features.channels):
            inside = (self.selection >= start) & (self.selection < start + count)
            chosen.places = self.selection[inside] - start
            start += count

    def embed(self, image: Tensor) -> tuple[Tensor, list[int], Tensor]:
        """Embeddings ``(B, P, dimensions)``, the grid of their locations in row-major order, and pooled features."""
        taps = self.features(image)
        parts: list[Tensor] = []
        for index, choose in enumerate(self.chosen):
            parts.append(choose(taps[index]))
        embedded = self.embedding(parts)
        if self.unit_length:
            embedded = embedded / self._lengths(taps)
        if self.square_roots:
            embedded = embedded.sign() * embedded.abs().sqrt()
        return embedded.flatten(2).transpose(1, 2), list(embedded.shape[2:]), pooled_features(taps)

    def _lengths(self, taps: list[Tensor]) -> Tensor:
        """Lengths ``(B, 1, *grid)`` of the joined features, of which not all are kept, on the finest grid."""
        squares = taps[0].float().square().sum(1, keepdim=True)
        for tap in taps[1:]:
            deeper = tap.float().square().sum(1, keepdim=True)
            squares = squares + functional.interpolate(deeper, squares.shape[2:], mode="nearest")
        return squares.sqrt().clamp_min(1e-12)

    def collect(self, image: Tensor) -> None:
        """Add a batch of normal scans ``(B, C, *spatial)`` to the running moments."""
        with torch.no_grad():
            patches, grid, pooled = self.embed(image)
            self.gaussians.collect(patches)
            self.scan_score.collect(pooled, patches.unflatten(1, grid))
            self.size = image.shape[2:]

    def fit(self) -> None:
        """Fit the Gaussians to what was collected, and take what the scores of normal scans are."""
        self.gaussians.fit()
        self.scan_score.fit(self._left_out_scores)

    def _left_out_scores(self, patches: Tensor) -> Tensor:
        """Local scores of scans fitted on, from their embeddings ``(n, *grid, dimensions)``, had they been left out."""
        grid = list(patches.shape[1:-1])
        distances = self.gaussians.left_out(patches.flatten(1, -2)).reshape([-1, 1] + grid)
        return self.pool(self.to_image(distances, list(self.size) or grid))

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Mahalanobis distance at every location, interpolated to the image grid and smoothed, not negative."""
        patches, grid, pooled = self.embed(image)
        distances = self.gaussians(patches).reshape([-1, 1] + grid)
        found = self.to_image(distances, image.shape[2:])
        if self.scan_score.judges_pooled:
            found = self.pool.scaled_to(self.scan_score(self.pool(found), pooled), found)
        return found


def _choose_again(network: PaDiM, _: Any) -> None:
    network._choose()
