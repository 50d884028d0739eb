"""Patch distribution modelling."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import ResNetTaps
from medad_plugins.scorers import GaussianSmoothing
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["PaDiM", "PatchGaussians"]


class PatchGaussians(FittedModule):
    """One Gaussian for each location of a grid, fitted by running moments: memory does not grow with the scans.

    Args:
        regularisation: added to the diagonal of every covariance.

    Buffers:
        count: scans seen. moment_1 ``(P, D)``, moment_2 ``(P, D, D)``: float64 sums while collecting, empty after
        `fit`. mean ``(P, D)``; whitening ``(P, D, D)``: inverse Cholesky factors, so that
        ``|whitening @ (x - mean)|`` is the Mahalanobis distance.
    """

    def __init__(self, regularisation: float = 0.01) -> None:
        super().__init__()
        self.regularisation = regularisation
        self.count: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.moment_1: Tensor = nn.Buffer(torch.empty(0, dtype=torch.float64))
        self.moment_2: Tensor = nn.Buffer(torch.empty(0, dtype=torch.float64))
        self.mean: Tensor = nn.Buffer(torch.empty(0))
        self.whitening: Tensor = nn.Buffer(torch.empty(0))

    def additive_buffers(self) -> tuple[str, ...]:
        return ("count", "moment_1", "moment_2")

    def collect(self, patches: Tensor) -> None:
        """Add the embeddings ``(B, P, D)`` of a batch to the running moments."""
        by_location = patches.detach().double().transpose(0, 1)
        if self.moment_1.numel() == 0:
            locations, _, dimensions = by_location.shape
            self.count = torch.zeros_like(self.count)
            self.moment_1 = by_location.new_zeros(locations, dimensions)
            self.moment_2 = by_location.new_zeros(locations, dimensions, dimensions)
        self.count += by_location.shape[1]
        self.moment_1 += by_location.sum(1)
        self.moment_2.baddbmm_(by_location.transpose(1, 2), by_location)

    def fit(self) -> None:
        """Turn the moments into means and whitening matrices, and drop them.

        Raises:
            RuntimeError: with fewer than two scans.
        """
        n = int(self.count)
        if n < 2 or self.moment_1.numel() == 0:
            raise RuntimeError(f"a covariance needs at least two normal scans, got {n}.")
        mean = self.moment_1 / n
        self.mean = mean.float()
        identity = torch.eye(mean.shape[1], dtype=torch.float64, device=mean.device)
        whitening = torch.empty(self.moment_2.shape, dtype=torch.float32, device=mean.device)
        # in blocks, so that the solve needs little beside the moments themselves
        for block in torch.arange(len(mean), device=mean.device).split(256):
            scatter = self.moment_2[block] - n * mean[block].unsqueeze(2) * mean[block].unsqueeze(1)
            factor = torch.linalg.cholesky(scatter / (n - 1) + self.regularisation * identity)
            inverse = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
            whitening[block] = inverse.float()
        self.whitening = whitening
        self.moment_1 = self.moment_1.new_empty(0)
        self.moment_2 = self.moment_2.new_empty(0)

    def forward(self, patches: Tensor) -> Tensor:
        """Mahalanobis distances ``(B, P)`` of embeddings ``(B, P, D)``."""
        if self.whitening.numel() == 0:
            raise RuntimeError("PaDiM has not been fitted.")
        if patches.shape[1] != self.mean.shape[0]:
            raise RuntimeError("PaDiM was fitted on another image size.")
        difference = (patches.float() - self.mean).transpose(0, 1)
        whitened = torch.bmm(difference, self.whitening.transpose(1, 2))
        return torch.linalg.vector_norm(whitened, dim=2).transpose(0, 1)


class PaDiM(AnomalyNetwork):
    """PaDiM: a Gaussian of frozen pretrained features at every location of aligned scans.

    Fitted in one pass by `medad_plugins.engines.FittingTrainer`; nothing is trained by gradient.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: ``resnet18`` (100 dimensions) or ``wide_resnet50_2`` (550 dimensions) in the paper.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        dimensions: how many feature channels are kept, drawn once at random from all of them.
        finest_stage: stage whose grid carries the Gaussians: 1 (stride 4, the paper's), 2 (stride 8) or 3 (stride 16);
            the statistics of a volume need a coarse one.
        sigma: Gaussian smoothing of the map, in pixels of the image.
        feature_seed: seed of the channel selection, kept in the state dict.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Reference:
        Defard et al., "PaDiM: a patch distribution modeling framework for anomaly detection and localization", ICPR
        workshops 2020.
    """

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
    ) -> None:
        super().__init__(reduction)
        if finest_stage not in (1, 2, 3):
            raise ValueError(f"finest_stage must be 1, 2 or 3, got {finest_stage}.")
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.finest = finest_stage - 1
        self.features = ResNetTaps(backbone, spatial_dims, in_channels, stages=3, weights=weights)
        self.features.requires_grad_(False)
        available = sum(self.features.channels[self.finest :])
        if not 1 <= dimensions <= available:
            raise ValueError(f"dimensions must lie between 1 and {available} for {backbone}, got {dimensions}.")
        generator = torch.Generator().manual_seed(feature_seed)
        self.selection: Tensor = nn.Buffer(torch.randperm(available, generator=generator)[:dimensions].sort().values)
        self.gaussians = PatchGaussians()
        self.smoothing = GaussianSmoothing(spatial_dims, sigma)

    def train(self, mode: bool = True) -> PaDiM:
        super().train(mode)
        self.features.eval()
        return self

    def embed(self, image: Tensor) -> tuple[Tensor, list[int]]:
        """Embeddings ``(B, P, dimensions)`` and the grid whose locations, in row-major order, they belong to."""
        taps = self.features(image)
        taps = taps[self.finest :]
        grid = list(taps[0].shape[2:])
        # nearest: every location takes the deeper features of the cell that it lies in
        stacked = torch.cat([functional.interpolate(tap, grid, mode="nearest") for tap in taps], 1)
        return stacked.index_select(1, self.selection).flatten(2).transpose(1, 2), grid

    def collect(self, image: Tensor) -> None:
        """Add a batch of normal scans ``(B, C, *spatial)`` to the running moments."""
        with torch.no_grad():
            self.gaussians.collect(self.embed(image)[0])

    def fit(self) -> None:
        """Fit the Gaussians to what was collected."""
        self.gaussians.fit()

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Mahalanobis distance at every location, interpolated to the image grid and smoothed, not negative."""
        patches, grid = self.embed(image)
        distances = self.gaussians(patches).reshape([-1, 1] + grid)
        resized = functional.interpolate(distances, image.shape[2:], mode=self.mode, align_corners=False)
        return self.smoothing(resized)
