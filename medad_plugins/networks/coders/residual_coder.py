"""Residual backbone with an upsampling decoder that ends at a quarter of the image's grid."""

from __future__ import annotations

import itertools

from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medad_plugins.networks.backbones import ResNetTaps, tap_channels
from medad_plugins.networks.blocks.init_convolutions import init_convolutions
from medad_plugins.networks.blocks.residual_decoder import DecoderStage
from medad_plugins.networks.blocks.upsample_to import UpsampleTo

__all__ = ["ResidualCoder"]

SQUEEZED = (256, 128)
DECODED = (64, 32, 16)


class ResidualCoder(nn.Module):
    """Image to one logit a pixel by a residual backbone, two 1x1 convolutions and three upsampling residual stages.

    The decoder's last grid is a quarter of the image's; its logits are interpolated from there.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        backbone: a key of `medad_plugins.networks.BACKBONES`; the paper's is ``resnet18``.
        weights: path, known name or ``"none"``, see `find_weights`; a file may lack layer4.

    Shape:
        ``(B, in_channels, *spatial)``, intensities 0..1, to ``(B, 1, *spatial)``; at least 32 along one axis.

    Reference:
        Schlueter et al., "Natural Synthetic Anomalies for Self-Supervised Anomaly Detection and Localization", ECCV
        2022.
    """

    def __init__(
        self, spatial_dims: int = 2, in_channels: int = 1, backbone: str = "resnet18", weights: str = "none"
    ) -> None:
        super().__init__()
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        layers: list[nn.Module] = []
        # made before the backbone, whose pretrained weights it would otherwise initialise anew
        widths = [tap_channels(backbone)[-1], *SQUEEZED]
        for before, after in itertools.pairwise(widths):
            layers += [conv(before, after, 1, bias=False), norm(after), nn.ReLU(inplace=True)]
        self.squeeze = nn.Sequential(*layers)
        inputs = (SQUEEZED[-1], *DECODED)
        self.decoder = nn.ModuleList(
            DecoderStage(
                spatial_dims,
                before,
                after,
                expansion=1,
                blocks=2,
                norm_momentum=0.1,
                upsampling="interpolate",
                width=1,
            )
            for before, after in zip(inputs, DECODED)
        )
        self.last = conv(DECODED[-1], 1, 1)
        self.enlarge = UpsampleTo(spatial_dims)
        init_convolutions(self, spatial_dims)
        self.encoder = ResNetTaps(
            backbone, spatial_dims, in_channels, stages=4, weights=weights, optional_stages=("layer4",)
        )

    def forward(self, image: Tensor) -> Tensor:
        taps = self.encoder(image)
        x = self.squeeze(taps[-1])
        for index, stage in enumerate(self.decoder):
            x = stage(x, list(taps[len(taps) - 2 - index].shape[2:]))
        logits: Tensor = self.enlarge(self.last(x), list(image.shape[2:]))
        return logits
