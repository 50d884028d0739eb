"""Encoder-decoder contrast."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medad_plugins.networks.blocks.mirrored_decoder import mirrored_decoder
from medad_plugins.networks.families.fine_tuned import FineTunedNetwork
from medad_plugins.scorers import CosineMapFusion

__all__ = ["EDC"]


class EDC(FineTunedNetwork):
    """EDC: a pretrained encoder and a mirrored decoder that rebuilds its features, trained together.

    Trained with `medad_plugins.losses.GlobalCosineLoss`, which stops the gradient at the encoder's three taps: the
    encoder learns through its deepest stage alone. Where the decoder's features differ in angle, the scan is abnormal.

    Args:
        spatial_dims, in_channels, backbone, weights, encoder_norm, reduction: see `FineTunedNetwork`, of four stages;
            the paper's backbone is ``resnet50``. EfficientNet-Lite is taken too: the last blocks of strides 4, 8, 16
            and 32, rebuilt by a `TapDecoder`; its features have both signs, so that the map's values are 0..2.
        norm_momentum: of the decoder's running statistics too; the paper's 0.01 suits 500 to 6,000 iterations.
        scale_weights: how much the scales of strides 4, 8 and 16 count in the map, see `CosineMapFusion`; None is all
            alike, as in the paper.

    Reference:
        Guo et al., "Encoder-Decoder Contrast for Unsupervised Anomaly Detection in Medical Images", IEEE TMI 43(3),
        2024.

    Example:
        >>> network = EDC(backbone="resnet10", weights="none").eval()
        >>> image = torch.rand(2, 1, 64, 64)
        >>> with torch.no_grad():
        ...     anomaly_map = network(image)
        >>> anomaly_map.shape, network.pool(anomaly_map).shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2]))
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet50",
        weights: str = "imagenet",
        encoder_norm: str = "train",
        norm_momentum: float = 0.01,
        reduction: str | float = "max",
        scale_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            backbone,
            weights,
            stages=4,
            encoder_norm=encoder_norm,
            norm_momentum=norm_momentum,
            reduction=reduction,
            resnets_only=False,
        )
        channels, strides = self.encoder.channels, self.encoder.strides
        self.decoder = mirrored_decoder(backbone, spatial_dims, channels, strides, norm_momentum)
        self.fusion = CosineMapFusion(spatial_dims, self.pool, scale_weights=scale_weights)

    def _features(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        encoded = self.encoder(image)
        decoded = self.decoder(encoded[3], [list(tap.shape[2:]) for tap in encoded[:3]])
        return decoded, encoded[:3]

    def training_output(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Decoded and encoded feature maps ``(B, C_k, *spatial / stride_k)`` of strides 4, 8 and 16."""
        return self._features(image)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """One minus the cosine of decoded and encoded features, averaged over three scales, values 0..1 (0..2)."""
        decoded, encoded = self._features(image)
        return self.fusion(decoded, encoded, image.shape[2:])
