"""SimpleNet: noise in feature space and a discriminator that finds it."""

from __future__ import annotations

from collections.abc import Sequence

import ignite.distributed as idist
import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps
from medad_plugins.networks.batch_noise import batch_normal
from medad_plugins.networks.blocks.feature_discriminator import FeatureDiscriminator, init_linear
from medad_plugins.networks.blocks.patch_embedding import PatchEmbedding
from medad_plugins.scorers import MapToImage

__all__ = ["SimpleNet"]

NOISE_UNITS = ("features", "deviations")


class SimpleNet(AnomalyNetwork):
    """SimpleNet: a discriminator of adapted features of normal scans and the same features with noise.

    The backbone is frozen; one linear layer adapts the embeddings of its stages 2 and 3 (stride 8). Trained with
    `medad_plugins.losses.TwoSidedMarginLoss`; the noise comes from PyTorch's generator.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: a key of `medad_plugins.networks.TAPS`; the paper's is ``wide_resnet50_2``.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        dimensions: length of the embeddings; the paper's is 1536.
        hidden: width of the discriminator's hidden layer.
        noise: standard deviation of the noise, in the units of the adapted features, or in deviations of them.
        sigma: Gaussian smoothing of the map, in pixels of the image; the score is taken before it.
        reduction: image score, see `medad_plugins.scorers.MapPool`.
        layers: of the backbone whose features are joined, finest first, see `make_taps`; None for stages 2 and 3 of a
            ResNet, or what `usual_layers` says of another backbone.
        noise_unit: ``"features"``, as in the paper, or ``"deviations"``: of the adapted features of a batch about their
            mean, over all channels, so that the noise is as hard to find whatever backbone and scans.

    Reference:
        Liu et al., "SimpleNet: A Simple Network for Image Anomaly Detection and Localization", CVPR 2023.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "wide_resnet50_2",
        weights: str = "imagenet",
        dimensions: int = 1536,
        hidden: int = 1024,
        noise: float = 0.015,
        sigma: float = 4.0,
        reduction: str | float = "max",
        layers: Sequence[int] | None = None,
        noise_unit: str = "features",
    ) -> None:
        super().__init__(reduction)
        if noise_unit not in NOISE_UNITS:
            raise ValueError(f"noise_unit must be one of {NOISE_UNITS}, got {noise_unit!r}.")
        self.in_deviations = noise_unit == "deviations"
        if dimensions < 1 or hidden < 1 or noise <= 0:
            raise ValueError(f"dimensions, hidden and noise must be positive, got {dimensions}, {hidden} and {noise}.")
        self.dimensions, self.noise = dimensions, noise
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        self.embedding = PatchEmbedding(
            self.features.channels, spatial_dims, neighbourhood=3, dimensions=dimensions, interpolation="linear"
        )
        self.adaptor = nn.Linear(dimensions, dimensions)
        init_linear(self.adaptor)
        self.discriminator = FeatureDiscriminator(dimensions, hidden)
        self.to_image = MapToImage(spatial_dims, self.pool, sigma)

    def adapted(self, taps: list[Tensor]) -> tuple[Tensor, list[int]]:
        """Adapted embeddings ``(B * P, dimensions)``, and the batch and grid ``[B, 1, *grid]`` of their locations."""
        embedded = self.embedding(taps)
        vectors = embedded.flatten(2).transpose(1, 2).reshape(-1, self.dimensions)
        # not in half precision, where autocast gives that: the noise is small beside the features
        return self.adaptor(vectors).to(self.adaptor.weight.dtype), [-1, 1] + list(embedded.shape[2:])

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the discriminator says ``(N,)`` of all embeddings of the batch, and of the same with noise."""
        normal, _ = self.adapted(self.features.remembered(image))
        by_scan = normal.unflatten(0, [len(image), -1])
        size = self.noise * _deviation(normal.detach()) if self.in_deviations else self.noise
        noisy = normal + size * batch_normal(by_scan.shape, normal).flatten(0, 1)
        scores = self.discriminator(torch.cat([normal, noisy]))
        return scores[: len(normal)], scores[len(normal) :]

    def anomaly_map(self, image: Tensor) -> Tensor:
        """How little normal a location looks: ``log(1 + exp(-d))`` of what the discriminator says, positive.

        For what is abnormal this is the paper's ``-d``; it rises with it everywhere, so that maxima keep their order.
        """
        vectors, shape = self.adapted(self.features(image))
        grid_map = functional.softplus(-self.discriminator(vectors)).reshape(shape)
        return self.to_image(grid_map, image.shape[2:])


def _deviation(vectors: Tensor) -> Tensor:
    """Root of the mean variance of the channels of vectors ``(N, D)``, of the batches of all processes together."""
    sums = torch.stack([vectors.sum(0), vectors.square().sum(0), torch.full_like(vectors[0], len(vectors))]).double()
    if idist.get_world_size() > 1:
        sums = torch.as_tensor(idist.all_reduce(sums))
    mean = sums[0] / sums[2]
    return (sums[1] / sums[2] - mean.square()).mean().clamp_min(0).sqrt().to(vectors.dtype)
