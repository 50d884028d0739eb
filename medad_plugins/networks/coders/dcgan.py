"""Networks in the manner of DCGAN, for scans of any even size, in 2D and 3D."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from medad_plugins.networks.blocks.bottleneck import VectorBottleneck, VectorExpansion
from medad_plugins.networks.blocks.spectral_norm import SpectralNorm
from medad_plugins.networks.coders.conv_family import ConvDecoder, ConvEncoder

__all__ = ["ConvDiscriminator", "DCGANEncoder", "DCGANGenerator", "init_dcgan"]


def init_dcgan(network: nn.Module) -> None:
    """DCGAN's initialisation, in place: convolutions from N(0, 0.02), scales of norms from N(1, 0.02), biases 0.

    The linear layers here stand for convolutions over the whole grid, and start as these do.
    """
    for module in network.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, nn.Parameter):
            continue
        is_norm = isinstance(module, (nn.modules.batchnorm._NormBase, nn.GroupNorm))
        nn.init.normal_(weight, 1.0 if is_norm else 0.0, 0.02)
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)


class DCGANEncoder(nn.Module):
    """Scan to latent vector: stride-2 convolutions down to a small grid and one convolution over all of it.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edges of the scan in pixels.
        channels: widths of the blocks, e.g. of `doubling_widths`.
        latent_size: length of the vector.
        norm: see `norm_layer`; the first block has none.
        slope: of the leaky ReLU.
        spectral_norm: of the convolutions.
        extra_blocks: see `ConvEncoder`.
        output: activation of the vector, ``"none"`` or ``"tanh"``.

    Shape:
        ``(B, in_channels, *image_size)``, in the range of whoever uses it, to ``(B, latent_size)``.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        image_size: int | Sequence[int],
        channels: Sequence[int],
        latent_size: int = 100,
        norm: str = "batch",
        slope: float = 0.2,
        spectral_norm: bool = False,
        extra_blocks: int = 0,
        output: str = "none",
    ) -> None:
        super().__init__()
        if output not in ("none", "tanh"):
            raise ValueError(f"output must be 'none' or 'tanh', got {output!r}.")
        self.trunk = ConvEncoder(
            spatial_dims,
            in_channels,
            image_size,
            channels,
            norm,
            first_norm=False,
            slope=slope,
            spectral_norm=spectral_norm,
            extra_blocks=extra_blocks,
        )
        self.head = VectorBottleneck(self.trunk.grid, latent_size, hidden_size=0)
        self.output = nn.Tanh() if output == "tanh" else nn.Identity()
        init_dcgan(self)

    def forward(self, image: Tensor) -> Tensor:
        latent: Tensor = self.output(self.head(self.trunk(image)))
        return latent


class DCGANGenerator(nn.Module):
    """Latent vector to scan: one convolution to a small grid and transposed ones up from it.

    Args:
        spatial_dims: 2 or 3.
        out_channels: channels of the scan.
        image_size: edges of the scan in pixels.
        channels: widths of the blocks of the encoder that it mirrors.
        latent_size: length of the vector.
        norm: see `norm_layer`.
        slope: of the activations, 0 for ReLU.
        output: ``"tanh"`` for scans from -1 to 1, ``"sigmoid"`` or ``"none"``.

    Shape:
        ``(B, latent_size)`` to ``(B, out_channels, *image_size)``.
    """

    def __init__(
        self,
        spatial_dims: int,
        out_channels: int,
        image_size: int | Sequence[int],
        channels: Sequence[int],
        latent_size: int = 100,
        norm: str = "batch",
        slope: float = 0.0,
        output: str = "tanh",
    ) -> None:
        super().__init__()
        grid = ConvEncoder.grid_of(spatial_dims, image_size, channels)
        self.head = VectorExpansion(grid, latent_size, hidden_size=0, norm=norm, slope=slope)
        self.trunk = ConvDecoder(spatial_dims, out_channels, channels, norm=norm, slope=slope, output=output)
        init_dcgan(self)

    def forward(self, latent: Tensor) -> Tensor:
        image: Tensor = self.trunk(self.head(latent))
        return image


class ConvDiscriminator(nn.Module):
    """Scan to a logit, how real it looks, and to the features that it is judged by.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan, of both scans where pairs are judged.
        image_size: edges of the scan in pixels.
        channels: widths of the blocks.
        norm: see `norm_layer`; ``"layer"``, ``"instance"`` or ``"none"`` for a critic with a gradient penalty.
        slope: of the leaky ReLU.
        spectral_norm: of all layers.
        dropout: see `ConvEncoder`.
        extra_blocks: see `ConvEncoder`.

    Shape:
        ``(B, in_channels, *image_size)`` to logits ``(B,)``, without a sigmoid, and features ``(B, *grid)``.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        image_size: int | Sequence[int],
        channels: Sequence[int],
        norm: str = "batch",
        slope: float = 0.2,
        spectral_norm: bool = False,
        dropout: float = 0.0,
        extra_blocks: int = 0,
    ) -> None:
        super().__init__()
        self.trunk = ConvEncoder(
            spatial_dims,
            in_channels,
            image_size,
            channels,
            norm,
            first_norm=False,
            slope=slope,
            spectral_norm=spectral_norm,
            dropout=dropout,
            extra_blocks=extra_blocks,
        )
        head = nn.Linear(math.prod(self.trunk.grid), 1, bias=False)
        self.head: nn.Module = SpectralNorm(head) if spectral_norm else head
        init_dcgan(self)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(image)
        return self.head(features.flatten(1))[:, 0], features
