"""UniNet: crossed distillation of selected features, by contrast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.methods.uninet.bottleneck import TwoKernelBottleneck
from medad_plugins.methods.uninet.decision import WeightedDecision
from medad_plugins.networks.backbones import BACKBONES
from medad_plugins.networks.families.crossed_distillation import CrossedDistillation

__all__ = ["UniNet"]

SCORES = ("pooled", "weighted")
SELECTIONS = ("training", "always", "never")


class FeatureSelection(nn.Module):
    """Rebuilt features weighted, channel by channel, towards the places where the true ones are large.

    The weights are a softmax over the places, times the true features' mean plus one learnt number of each channel, 0.5
    to 1, which starts at 1.

    Args:
        channels: of the three scales, finest first.

    Shape:
        two lists of six ``(B, C_k, *grid_k)``, both directions' three scales, to the first one weighted.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        # one by one: TorchScript knows no lists of parameters
        self.finest, self.middle, self.coarsest = (nn.Parameter(torch.zeros(width)) for width in channels)

    def forward(self, rebuilt: list[Tensor], true: list[Tensor]) -> list[Tensor]:
        selected: list[Tensor] = []
        logits = [self.finest, self.middle, self.coarsest]
        for number, (own, prior) in enumerate(zip(rebuilt, true)):
            least = (logits[number % 3].sigmoid() + 0.5).clamp(max=1.0).unsqueeze(1)
            flat = prior.flatten(2)
            weights = flat.softmax(2) * (least + flat.mean(2, keepdim=True))
            selected.append(own * weights.reshape(own.shape))
        return selected


class UniNet(CrossedDistillation):
    """UniNet: crossed distillation whose student learns to find features at their place among those that are selected.

    Trained with `PlaceContrastLoss`.

    Args:
        spatial_dims, in_channels, backbone, weights, encoder_norm, sigma, reduction, scale_weights: see
            `CrossedDistillation`.
        score: ``"weighted"`` for the paper's: how much of the map counts is said by its largest values, see
            `WeightedDecision`; ``"pooled"`` for ``reduction`` as everywhere.
        alpha, least_share: see `WeightedDecision`.
        selection: when rebuilt features are selected, see `FeatureSelection`: in ``"training"`` alone, the paper's,
            whose map compares others than were trained; ``"always"``; or ``"never"``.
        kernels: edges of the bottleneck's convolutions, odd; EfficientNet-Lite's bottleneck has none of them.

    Raises:
        InputError: there is no such score or selection, or kernels are not two odd numbers.

    Reference:
        Wei et al., "UniNet: A Contrastive Learning-guided Unified Framework with Feature Selection for Anomaly
        Detection", CVPR 2025.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "wide_resnet50_2",
        weights: str = "imagenet",
        encoder_norm: str = "train",
        sigma: float = 4.0,
        reduction: str | float = "max",
        scale_weights: Sequence[float] | None = None,
        score: str = "weighted",
        alpha: float = 0.01,
        least_share: float = 0.00003,
        selection: str = "training",
        kernels: Sequence[int] = (3, 3),
    ) -> None:
        super().__init__(spatial_dims, in_channels, backbone, weights, encoder_norm, sigma, reduction, scale_weights)
        for name, value, known in (("score", score, SCORES), ("selection", selection, SELECTIONS)):
            if value not in known:
                expected = f"one of {', '.join(known)}"
                raise InputError(f"there is no such {name}", where=name, expected=expected, found=value)
        if len(kernels) != 2 or any(kernel % 2 == 0 for kernel in kernels):
            raise InputError(
                "these cannot be the bottleneck's kernels",
                where="kernels",
                expected="two odd numbers",
                found=list(kernels),
            )
        if backbone in BACKBONES:
            self.bottleneck: Any = TwoKernelBottleneck(backbone, spatial_dims, kernels)
        self.selection = FeatureSelection(self.teacher.channels)
        self.trains_selected, self.maps_selected = selection != "never", selection == "always"
        # a parameter that nothing trains would get no gradient
        self.selection.requires_grad_(self.trains_selected)
        self.weighted = score == "weighted"
        self.decision = WeightedDecision(alpha, least_share, scale_weights)

    def training_output(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Rebuilt maps, selected, and true ones, see `CrossedDistillation.crossed`."""
        rebuilt, true = self.crossed(image)
        return self.selection(rebuilt, true) if self.trains_selected else rebuilt, true

    def anomaly_map(self, image: Tensor) -> Tensor:
        """One minus the cosine of rebuilt and true features, six maps summed on the image grid and smoothed.

        With the weighted score, times a factor for each scan so that it pools to that score.
        """
        rebuilt, true = self.crossed(image)
        if self.maps_selected:
            rebuilt = self.selection(rebuilt, true)
        summed = self.fusion(rebuilt, true, image.shape[2:])
        if not self.weighted:
            return summed
        return self.scaled_to(self.decision(rebuilt, true, summed), summed)
