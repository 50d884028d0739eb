"""Fine-tuned features about a centre, and the nearest of those of normal scans."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.networks.families.fine_tuned import FineTunedNetwork
from medad_plugins.networks.fitted.nearest_neighbours import NearestNeighbours
from medad_plugins.networks.fitted.vector_detector import VectorDetector
from medad_plugins.networks.fitted.vector_preparation import VectorPreparation

__all__ = ["FineTunedNeighbours"]


class FineTunedNeighbours(FineTunedNetwork):
    """Base of methods that fine-tune the later stages of an encoder towards, or about, the centre of the normal scans.

    The early stages stay. The score is the distance of the averaged features to the nearest ones of normal scans, which
    are kept after the training. It says whether a scan is abnormal and not where: its map is constant.

    Args:
        spatial_dims, in_channels, backbone, weights, encoder_norm, norm_momentum: see `FineTunedNetwork`.
        stages: of the encoder, 3 or 4; the last one's features are averaged over the scan.
        frozen: how many of them stay as they are, with all that comes before.
        neighbours: whose mean squared distance is the score.
        most_scans: that are kept; of more, so many are drawn.
        reduction: image score, see `medad_plugins.scorers.MapPool`; the same for all.

    Buffers:
        centre ``(D,)``.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        stages: int = 4,
        frozen: int = 2,
        neighbours: int = 2,
        most_scans: int = 5000,
        encoder_norm: str = "eval",
        norm_momentum: float = 0.1,
        reduction: str | float = "max",
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            backbone,
            weights,
            stages=stages,
            encoder_norm=encoder_norm,
            norm_momentum=norm_momentum,
            reduction=reduction,
            resnets_only=False,
        )
        if not 0 <= frozen < stages:
            raise ValueError(f"frozen must be at least 0 and less than {stages}, got {frozen}.")
        self.centre: Tensor = nn.Buffer(torch.zeros(self.encoder.channels[-1]))
        nearest = NearestNeighbours(neighbours, squared=True)
        self.detector = VectorDetector(VectorPreparation("none"), nearest, most_scans)
        if frozen:
            self._freeze(torch.zeros(1, in_channels, *[64] * spatial_dims), frozen)

    def _freeze(self, image: Tensor, stages: int) -> None:
        """Stop what the first stages are computed with from learning, whatever it is called in the backbone."""
        was_training = self.encoder.training
        self.encoder.eval()
        parameters = [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]
        with torch.enable_grad():
            reached = torch.autograd.grad(self.encoder(image)[stages - 1].sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, reached, strict=True):
            parameter.requires_grad_(gradient is None)
        self.encoder.train(was_training)

    def embed(self, image: Tensor) -> Tensor:
        """Averaged features ``(B, D)`` of scans ``(B, C, *spatial)``, intensities 0..1."""
        features: Tensor = self.encoder(image)[-1]
        return features.flatten(2).mean(2)

    def set_centre(self, mean: Tensor) -> None:
        """Take the mean feature ``(D,)`` of normal scans for the centre; it is not trained."""
        self.centre = mean.to(self.centre)

    def training_output(self, image: Tensor) -> Tensor:
        """Squared distances ``(B,)`` from the centre, over the features' number."""
        return (self.embed(image).float() - self.centre).square().mean(1)

    def collect(self, image: Tensor) -> None:
        """Add the features of normal scans ``(B, C, *spatial)``."""
        with torch.no_grad():
            self.detector.collect(self.embed(image))

    def fit(self) -> None:
        """Keep what was collected."""
        self.detector.fit()

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The mean squared distance to the nearest normal scans, the same at every place.

        Before there are any, that from the centre.
        """
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if torch.is_autocast_enabled(image.device.type):
                # distances are differences: rounded to bfloat16, near vectors would be the same
                with torch.autocast(image.device.type, enabled=False):
                    return self._distances(image.float())
        return self._distances(image)

    def _distances(self, image: Tensor) -> Tensor:
        features = self.embed(image).float()
        score = (features - self.centre).square().sum(1)
        if self.detector.vectors.numel() > 0:
            score = self.detector(features)
        return score.reshape([-1] + [1] * (image.dim() - 1)) + torch.zeros_like(image[:, :1])
