"""The nearest normal scans by their pooled features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps
from medad_plugins.networks.fitted.nearest_neighbours import NearestNeighbours
from medad_plugins.networks.fitted.vector_detector import VectorDetector
from medad_plugins.networks.fitted.vector_preparation import VectorPreparation

__all__ = ["KNN"]


class KNN(AnomalyNetwork):
    """How far a scan's globally pooled features lie from those of the nearest normal scans.

    Fitted in one pass by `medad_plugins.engines.FittingTrainer`; nothing is trained by gradient. It says whether a scan
    is abnormal and not where: its map is constant, the score everywhere. It is what every method has to beat.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: see `medad_plugins.networks.make_taps`.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: feature maps of the backbone that are pooled and joined.
        neighbours: whose mean distance is the score.
        scaling: of the vectors, see `medad_plugins.networks.fitted.vector_preparation.VectorPreparation`.
        most_scans: that are kept; of more, so many are drawn.
        reduction: image score, see `medad_plugins.scorers.MapPool`; the same for all.

    Reference:
        Angiulli and Pizzuti, "Fast outlier detection in high dimensional spaces", PKDD 2002; on deep features: Bergman,
        Cohen and Hoshen, "Deep nearest neighbor anomaly detection", 2020.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet50",
        weights: str = "imagenet",
        layers: Sequence[int] | None = None,
        neighbours: int = 3,
        scaling: str = "none",
        most_scans: int = 5000,
        reduction: str | float = "max",
    ) -> None:
        super().__init__(reduction)
        self.taps = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        self.detector = VectorDetector(VectorPreparation(scaling), NearestNeighbours(neighbours), most_scans)

    def pooled(self, image: Tensor) -> Tensor:
        """Mean features ``(B, D)`` of all layers in a row."""
        pooled: list[Tensor] = []
        for tap in self.taps(image):
            pooled.append(tap.flatten(2).mean(2))
        return torch.cat(pooled, 1)

    def collect(self, image: Tensor) -> None:
        """Add a batch of normal scans ``(B, C, *spatial)``."""
        with torch.no_grad():
            self.detector.collect(self.pooled(image))

    def fit(self) -> None:
        """Keep what was collected."""
        self.detector.fit()

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The mean distance to the nearest normal scans, the same at every place, not negative."""
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if torch.is_autocast_enabled(image.device.type):
                # distances are differences: rounded to bfloat16, near vectors would be the same
                with torch.autocast(image.device.type, enabled=False):
                    return self._distances(image.float())
        return self._distances(image)

    def _distances(self, image: Tensor) -> Tensor:
        score = self.detector(self.pooled(image))
        return score.reshape([-1] + [1] * (image.dim() - 1)) + torch.zeros_like(image[:, :1])
