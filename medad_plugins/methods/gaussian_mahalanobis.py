"""A Gaussian of a scan's pooled features at every depth of a pretrained network."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps, usual_layers
from medad_plugins.networks.fitted.shrunk_gaussian import ShrunkGaussian

__all__ = ["GaussianMahalanobis"]

logger = logging.getLogger(__name__)


class GaussianMahalanobis(AnomalyNetwork):
    """Gaussian anomaly detection: how far a scan's globally pooled features lie from those of normal scans.

    Fitted in one pass by `medad_plugins.engines.FittingTrainer`; nothing is trained by gradient. It says whether a scan
    is abnormal and not where: its map is constant, the score everywhere.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: a key of `medad_plugins.networks.TAPS`; the paper has EfficientNet-B4.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: of the backbone, each with a Gaussian of its own, see `make_taps`; None for all stages of a ResNet, or
            what `usual_layers` says of another backbone.
        leave_out: share of the variance whose principal components are left out, see `ShrunkGaussian`; 0 for none,
            0.99 for the paper's NPCA.
        reduction: image score, see `medad_plugins.scorers.MapPool`; the same for all.
        square_roots: fit the Gaussians to the pooled features' square roots, with their sign, for pooled features are
            skewed; the paper's are the features themselves.

    Reference:
        Rippel, Mertens and Merhof, "Modeling the distribution of normal data in pre-trained deep features for anomaly
        detection", ICPR 2020.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet50",
        weights: str = "imagenet",
        layers: Sequence[int] | None = None,
        leave_out: float = 0.0,
        reduction: str | float = "max",
        square_roots: bool = False,
    ) -> None:
        super().__init__(reduction)
        self.square_roots = square_roots
        layers = usual_layers(backbone, (1, 2, 3, 4)) if layers is None else layers
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        self.gaussians = nn.ModuleList(ShrunkGaussian(leave_out) for _ in layers)

    def pooled(self, image: Tensor) -> list[Tensor]:
        """Mean features ``(B, C_k)`` of each layer, or their square roots."""
        vectors: list[Tensor] = []
        for tap in self.features(image):
            pooled = tap.flatten(2).mean(2)
            vectors.append(pooled.sign() * pooled.abs().sqrt() if self.square_roots else pooled)
        return vectors

    def collect(self, image: Tensor) -> None:
        """Add a batch of normal scans ``(B, C, *spatial)`` to the running moments."""
        with torch.no_grad():
            for gaussian, vectors in zip(self.gaussians, self.pooled(image)):
                gaussian.collect(vectors)  # type: ignore[operator]

    def fit(self) -> None:
        """Fit the Gaussians to what was collected."""
        for gaussian in self.gaussians:
            gaussian.fit()  # type: ignore[operator]
        last = self.gaussians[-1]
        assert isinstance(last, ShrunkGaussian)
        if int(last.count) <= len(last.mean):
            logger.warning(
                "%d normal scans are not more than the %d features of the last layer, whose covariance is shrunk by"
                " %.2f: list more scans.",
                int(last.count),
                len(last.mean),
                float(last.shrinkage),
            )

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The sum over the layers of the Mahalanobis distances, the same at every place.

        It is divided by what vectors of the fitted Gaussians would have, the roots of their dimensions.
        """
        vectors = self.pooled(image)
        score, expected = torch.zeros_like(vectors[0][:, 0]), 0.0
        for index, gaussian in enumerate(self.gaussians):
            score = score + gaussian(vectors[index])
            expected += float(gaussian.whitening.shape[0]) ** 0.5  # type: ignore[index]
        score = score / max(expected, 1.0)
        shape = [-1] + [1] * (image.dim() - 1)
        return score.reshape(shape) + torch.zeros_like(image[:, :1])
