"""ReContrast: reverse distillation across a trained and a frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medad_plugins.networks.blocks.init_convolutions import init_convolutions
from medad_plugins.networks.families.crossed_distillation import CrossedDistillation

__all__ = ["ReContrast"]


class OutputHeads(nn.ModuleList):
    """One 1x1 convolution for each of three decoded scales, finest first."""

    def __init__(self, channels: list[int], spatial_dims: int) -> None:
        conv = Conv[Conv.CONV, spatial_dims]
        super().__init__(conv(width, width, 1) for width in channels)
        init_convolutions(self, spatial_dims)


class ReContrast(CrossedDistillation):
    """ReContrast: from the trained encoder the frozen one's features are rebuilt, and the other way round.

    Each direction has output heads of its own. Trained with `HardMinedCosineLoss`.

    Args:
        spatial_dims, in_channels, backbone, weights, encoder_norm, sigma, reduction, scale_weights: see
            `CrossedDistillation`.

    Reference:
        Guo et al., "ReContrast: Domain-Specific Anomaly Detection via Contrastive Reconstruction", NeurIPS 2023.
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
    ) -> None:
        super().__init__(spatial_dims, in_channels, backbone, weights, encoder_norm, sigma, reduction, scale_weights)
        channels = self.teacher.channels
        self.teacher_heads = OutputHeads(channels, spatial_dims)
        self.encoder_heads = OutputHeads(channels, spatial_dims)

    def put_out(self, decoded: list[Tensor]) -> list[Tensor]:
        rebuilt: list[Tensor] = []
        for level, head in enumerate(self.teacher_heads):
            rebuilt.append(head(decoded[level]))
        for level, head in enumerate(self.encoder_heads):
            rebuilt.append(head(decoded[level + 3]))
        return rebuilt

    def training_output(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Rebuilt and true maps, see `CrossedDistillation.crossed`."""
        return self.crossed(image)
