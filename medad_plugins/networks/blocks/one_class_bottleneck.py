"""One-class bottleneck embedding: three taps of a teacher fused and compressed for a student to decode."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medad_plugins.networks.backbones import BACKBONES, STAGE_PLANES, tap_channels
from medad_plugins.networks.blocks.init_convolutions import init_convolutions

__all__ = ["OneClassBottleneck"]


def _halving(spatial_dims: int, in_channels: int, out_channels: int) -> nn.Sequential:
    """3x3 convolution of stride 2, norm, ReLU."""
    return nn.Sequential(
        Conv[Conv.CONV, spatial_dims](in_channels, out_channels, 3, stride=2, padding=1, bias=False),
        Norm[Norm.BATCH, spatial_dims](out_channels),
        nn.ReLU(inplace=True),
    )


class OneClassBottleneck(nn.Module):
    """Multi-scale fusion of three taps at stride 16, then a residual stage to stride 32, as deep as the encoder's last.

    Args:
        architecture: the teacher, one of `medad_plugins.networks.BACKBONES`.
        spatial_dims: 2 or 3.

    Shape:
        taps ``(B, C_k, *spatial / stride_k)`` of strides 4, 8 and 16, finest first, to the one-class embedding
        ``(B, C_4, *spatial / 32)``, not negative.

    Reference:
        Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022.
    """

    def __init__(self, architecture: str, spatial_dims: int = 2) -> None:
        super().__init__()
        first, second, third, _ = tap_channels(architecture)
        self.reduce1 = nn.Sequential(_halving(spatial_dims, first, second), _halving(spatial_dims, second, third))
        self.reduce2 = _halving(spatial_dims, second, third)
        self.embed = nn.Sequential(*self.make_stage(architecture, spatial_dims))
        init_convolutions(self, spatial_dims)

    def make_stage(self, architecture: str, spatial_dims: int) -> list[nn.Module]:
        """Blocks of the residual stage, from the fused ``3 * C_3`` channels to ``C_4`` at half the grid."""
        block, blocks = BACKBONES[architecture]
        _, _, third, last = tap_channels(architecture)
        shortcut = nn.Sequential(
            Conv[Conv.CONV, spatial_dims](3 * third, last, 1, stride=2, bias=False),
            Norm[Norm.BATCH, spatial_dims](last),
        )
        stage: list[nn.Module] = [block(3 * third, STAGE_PLANES[3], spatial_dims, stride=2, downsample=shortcut)]
        return stage + [block(last, STAGE_PLANES[3], spatial_dims) for _ in range(blocks[3] - 1)]

    def forward(self, taps: list[Tensor]) -> Tensor:
        fused = torch.cat([self.reduce1(taps[0]), self.reduce2(taps[1]), taps[2]], 1)
        embedding: Tensor = self.embed(fused)
        return embedding
