"""After PMSACL: normal scans and several classes of synthetic anomalies, each drawn into a cluster of its own."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.methods.pmsacl.class_centres import ClassCentres
from medad_plugins.networks.families.feature_gaussian import FeatureGaussian

__all__ = ["PMSACL", "Contrasted"]


class Contrasted(NamedTuple):
    """Unit vectors ``(B, D)`` to be contrasted, and logits ``(B, classes)``."""

    vectors: Tensor
    logits: Tensor


class PMSACL(FeatureGaussian):
    """After PMSACL: an encoder that learns to keep normal scans together and apart from scans with 1, 2, ... patches.

    Of the method the abstract alone was at hand; losses and second stage are ours, put together from what it names and
    from its predecessor. Two stages: by gradient on `medad_plugins.methods.pmsacl.PMSACLTerms`, then those of
    `FeatureGaussian`: a Gaussian of the averaged features of normal scans, and its distance as score.

    Args:
        spatial_dims, in_channels, backbone, weights, stages: see `FeatureGaussian`.
        classes: normal, and with 1, 2, ... patches.
        hidden: width of the contrasted head's hidden layer.
        dimensions: of the contrasted vectors.
        centre_decay: see `ClassCentres`.
        encoder_norm, norm_momentum, sigma, reduction: see `FeatureGaussian`.

    Reference:
        Tian et al., "Self-supervised pseudo multi-class pre-training for unsupervised anomaly detection and
        segmentation in medical images", MedIA 90, 2023; Tian et al., "Constrained contrastive distribution learning for
        unsupervised anomaly detection and localisation in medical images", MICCAI 2021.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "none",
        stages: int = 4,
        classes: int = 4,
        hidden: int = 512,
        dimensions: int = 128,
        centre_decay: float = 0.9,
        encoder_norm: str = "train",
        norm_momentum: float = 0.1,
        sigma: float = 4.0,
        reduction: str | float = "mean",
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            backbone,
            weights,
            stages=stages,
            encoder_norm=encoder_norm,
            norm_momentum=norm_momentum,
            sigma=sigma,
            reduction=reduction,
        )
        width = self.encoder.channels[-1]
        # both heads see the features themselves; the second stage sees neither head
        self.head = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dimensions))
        self.classifier = nn.Linear(width, classes)
        self.centres = ClassCentres(classes, dimensions, centre_decay)
        self.to_follow: tuple[Tensor, Tensor] | None = None

    def training_output(self, image: Tensor) -> Contrasted:
        """Vectors and logits of scans ``(B, C, *spatial)``."""
        pooled = self.pooled(image)
        return Contrasted(functional.normalize(self.head(pooled).float(), dim=1), self.classifier(pooled))

    def follow(self) -> None:
        """Let the centres follow what the latest loss saw; after a step."""
        if self.to_follow is not None:
            self.centres.follow(*self.to_follow)
            self.to_follow = None
