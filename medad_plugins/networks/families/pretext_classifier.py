"""A classifier of synthetic changes, and a Gaussian of its features of normal scans."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from medad_plugins.networks.families.feature_gaussian import FeatureGaussian

__all__ = ["PretextClassifier"]


def perceptron(widths: list[int]) -> nn.Sequential:
    """Linear layers, each with a batch norm and a ReLU."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class PretextClassifier(FeatureGaussian):
    """A classifier of synthetic changes whose features' distance from those of normal scans is the score.

    Two stages: by gradient (`torch.nn.CrossEntropyLoss` on the kinds of change), then that of `FeatureGaussian`.
    CutPaste and AnatPaste are this network with other changes.

    Args:
        spatial_dims, in_channels, backbone, weights, stages, encoder_norm, norm_momentum: see `FeatureGaussian`.
        classes: unchanged, and the kinds of change.
        head_layers: hidden layers of the head.
        hidden: their width.
        sigma, reduction: of the map, see `FeatureGaussian`.

    Attributes:
        encoder_learns: False leaves the encoder as it is for the time being; its norms still follow the scans.

    Reference:
        Li et al., "CutPaste", CVPR 2021; Sato et al., "Anatomy-aware self-supervised learning for anomaly detection in
        chest radiographs", iScience 2023.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        stages: int = 4,
        classes: int = 3,
        head_layers: int = 2,
        hidden: int = 512,
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
        if classes < 2 or head_layers < 0 or hidden < 1:
            numbers = f"classes {classes}, head_layers {head_layers}, hidden {hidden}"
            raise ValueError(f"classes must be at least 2, the others not negative, got {numbers}.")
        self.head = perceptron([self.encoder.channels[-1], *([hidden] * head_layers), 128])
        self.classifier = nn.Linear(128, classes)
        self.encoder_learns = True

    def set_encoder_learns(self, learns: float) -> None:
        """Let the encoder learn, or leave it as it is for now: as a schedule does."""
        self.encoder_learns = bool(learns)

    def training_output(self, image: Tensor) -> Tensor:
        """Logits ``(B, classes)``."""
        with torch.set_grad_enabled(self.encoder_learns and torch.is_grad_enabled()):
            pooled = self.pooled(image)
        logits: Tensor = self.classifier(self.head(pooled))
        # not in half precision, where autocast gives that: the loss would move in steps
        return logits.to(self.classifier.weight.dtype)
