"""U-Net of plain convolutions, in two halves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Act, Conv
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.blocks.upsample_to import UpsampleTo

__all__ = ["PlainUNet"]

GROUPS = 8


def _norm(kind: str, spatial_dims: int, channels: int) -> nn.Module:
    if kind == "group":
        # few channels in each group would leave little of what they say
        return nn.GroupNorm(max(1, min(GROUPS, channels // 2)), channels)
    layer: nn.Module = get_norm_layer((kind, {"affine": True}), spatial_dims, channels)
    return layer


class PlainUNet(nn.Module):
    """U-Net: two 3x3 convolutions a level, strided ones to go down, linear interpolation to come up.

    The halves can be called by themselves, to do something to what passes between them.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        features: channels of the levels, finest first.
        norm: ``"group"`` or ``"instance"``; neither looks at other cases of a batch.
        activation: a name of MONAI's activation factory without arguments, e.g. ``"relu"`` or ``"gelu"``.
        first: stands for the first convolution, from the image to ``features[0]`` channels; None is an ordinary one.
        out_channels: of the logits.

    Shape:
        ``(B, in_channels, *spatial)`` to ``(B, out_channels, *spatial)``; more than
        ``2 ** (len(features) - 1)`` along one axis.

    Reference:
        Ronneberger et al., "U-Net", MICCAI 2015; Isensee et al., "nnU-Net", Nature Methods 18, 2021.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        features: Sequence[int] = (32, 64, 128, 256, 256),
        norm: str = "group",
        activation: str = "relu",
        first: nn.Module | None = None,
        out_channels: int = 1,
    ) -> None:
        super().__init__()
        if len(features) < 2 or min(features) < 2:
            raise ValueError(f"features must be at least two numbers of at least 2, got {list(features)}.")
        if norm not in ("group", "instance"):
            raise ValueError(f"norm must be 'group' or 'instance', got {norm!r}.")
        conv, active = Conv[Conv.CONV, spatial_dims], Act[activation]

        def level(before: int, after: int, stride: int, entry: nn.Module | None = None) -> nn.Sequential:
            start = entry if entry is not None else conv(before, after, 3, stride=stride, padding=1)
            parts = [start, _norm(norm, spatial_dims, after), active()]
            return nn.Sequential(*parts, conv(after, after, 3, padding=1), _norm(norm, spatial_dims, after), active())

        pairs = list(itertools.pairwise(features))
        self.features = tuple(features)
        self.smallest = 2 ** len(pairs) + 1
        self.encoder = nn.ModuleList([level(in_channels, features[0], 1, first)])
        self.encoder.extend(level(before, after, 2) for before, after in pairs)
        self.enlarge = UpsampleTo(spatial_dims)
        self.decoder = nn.ModuleList(level(deep + fine, fine, 1) for fine, deep in reversed(pairs))
        self.last = conv(features[0], out_channels, 1)

    def encode(self, image: Tensor) -> list[Tensor]:
        """What each level says, finest first."""
        if not torch.jit.is_scripting():
            self._require_size(image)
        x = image
        levels: list[Tensor] = []
        for level in self.encoder:
            x = level(x)
            levels.append(x)
        return levels

    def _require_size(self, image: Tensor) -> None:
        if max(image.shape[2:]) < self.smallest:
            raise InputError(
                "the image is too small for a U-Net of so many levels",
                expected=f"at least {self.smallest} pixels along an edge for {len(self.features)} levels",
                found=" x ".join(str(int(edge)) for edge in image.shape[2:]),
                todo="raise --image_size, or give fewer --features",
            )

    def decode(self, levels: list[Tensor]) -> Tensor:
        """Logits ``(B, out_channels, *spatial)`` of what the levels say."""
        x = levels[-1]
        for index, level in enumerate(self.decoder):
            skip = levels[len(levels) - 2 - index]
            x = level(torch.cat([self.enlarge(x, list(skip.shape[2:])), skip], 1))
        logits: Tensor = self.last(x)
        return logits

    def forward(self, image: Tensor) -> Tensor:
        return self.decode(self.encode(image))
