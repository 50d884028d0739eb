"""Dinomaly: tokens of a frozen transformer, rebuilt behind a noisy bottleneck by attention that cannot focus."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medad_plugins.networks.blocks.linear_attention import LinearAttention
from medad_plugins.networks.blocks.token_blocks import TokenBlock, init_token_layers
from medad_plugins.networks.families.token_reconstruction import TokenReconstruction

__all__ = ["Dinomaly"]


class Dinomaly(TokenReconstruction):
    """Dinomaly: groups of a frozen transformer's layers, rebuilt from their mean by blocks with linear attention.

    Trained with `medad_plugins.losses.ShareMinedCosineLoss`. Dropout in the bottleneck is all the noise there is.

    Args:
        spatial_dims, in_channels, backbone, weights, layers, depth, groups, sigma, reduction: see
            `TokenReconstruction`; the paper's backbone is ``dinov2_vitb14_reg`` with layers 2 to 9.
        dropout: of the bottleneck; the paper has 0.2, and 0.4 for data that vary more.
        recentre: Dinomaly2's recentring by the class token.

    References:
        Guo et al., "Dinomaly: The Less Is More Philosophy in Multi-Class Unsupervised Anomaly Detection", CVPR 2025.
        Guo et al., "One Dinomaly2 Detect Them All: A Unified Framework for Full-Spectrum Unsupervised Anomaly
        Detection", 2025 (``recentre``).

    Example:
        >>> network = Dinomaly(backbone="resnet10", weights="none").eval()
        >>> with torch.no_grad():
        ...     anomaly_map = network(torch.rand(2, 1, 64, 64))
        >>> anomaly_map.shape, network.pool(anomaly_map).shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2]))
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "dinov2_vitb14_reg",
        weights: str = "lvd142m",
        layers: Sequence[int] | None = None,
        depth: int | None = None,
        groups: int = 2,
        dropout: float = 0.2,
        recentre: bool = False,
        sigma: float = 4.0,
        reduction: str | float = 0.01,
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            backbone,
            weights,
            layers,
            depth,
            groups,
            dropout,
            recentre,
            sigma=sigma,
            reduction=reduction,
        )
        self.decoder = nn.ModuleList(
            TokenBlock(self.width, LinearAttention(self.width, self.heads)) for _ in range(self.depth)
        )
        init_token_layers(self.bottleneck)
        init_token_layers(self.decoder)

    def decode(self, tokens: Tensor) -> list[Tensor]:
        # under autocast linear layers give half precision; what the blocks add to stays as it was
        x = self.bottleneck(tokens).to(tokens.dtype)
        decoded: list[Tensor] = []
        for block in self.decoder:
            x = block(x)
            decoded.append(x)
        return decoded

    def training_output(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Rebuilt and true maps ``(B, C_g, *grid)`` of each group."""
        return self.rebuild(self.features.remembered(image))
