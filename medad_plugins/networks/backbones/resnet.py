"""Residual networks tapped at their stages, for scans of any channel count, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.backbones.feature_taps import FeatureTaps
from medad_plugins.networks.backbones.scan_adapter import ScanToBackbone
from medad_plugins.networks.backbones.weight_tensors import load_pretrained
from medad_plugins.networks.backbones.weights import find_weights

__all__ = ["BACKBONES", "ResNetTaps"]


class WideBottleneck(ResNetBottleneck):
    """Bottleneck with an inner width of twice its planes, the block of Wide ResNet-50-2."""

    expansion = 4
    inner_width = 2

    def __init__(self, in_planes: int, planes: int, spatial_dims: int = 3, stride: int = 1, **kwargs: Any) -> None:
        super().__init__(in_planes, 2 * planes, spatial_dims=spatial_dims, stride=stride, **kwargs)
        self.conv3 = type(self.conv3)(2 * planes, planes * self.expansion, kernel_size=1, bias=False)
        self.bn3 = type(self.bn3)(planes * self.expansion)


# block, blocks per stage
BACKBONES: dict[str, tuple[type[ResNetBlock | ResNetBottleneck], tuple[int, int, int, int]]] = {
    "resnet10": (ResNetBlock, (1, 1, 1, 1)),  # in MedicalNet only
    "resnet18": (ResNetBlock, (2, 2, 2, 2)),
    "resnet34": (ResNetBlock, (3, 4, 6, 3)),
    "resnet50": (ResNetBottleneck, (3, 4, 6, 3)),
    "wide_resnet50_2": (WideBottleneck, (3, 4, 6, 3)),
}
STAGE_PLANES = (64, 128, 256, 512)


def require_resnet(architecture: str) -> None:
    """Refuse a backbone that has no stages: for methods whose other parts mirror those of a ResNet, or learn with it.

    Raises:
        InputError: it is not one of `BACKBONES`.
    """
    if architecture not in BACKBONES:
        raise InputError(
            "this method wants a ResNet, whose stages its other parts mirror or train further",
            where="backbone",
            expected=f"one of {', '.join(BACKBONES)}",
            found=architecture,
            todo="give another --backbone; docs/backbones.md tells which bundle takes which",
        )


def tap_channels(architecture: str) -> list[int]:
    """Channels of the four stages of a backbone."""
    require_resnet(architecture)
    return [planes * BACKBONES[architecture][0].expansion for planes in STAGE_PLANES]


def require_stages(layers: Sequence[int], first: int = 1) -> list[int]:
    """Stages of a backbone as a method's key names them, finest first.

    Args:
        layers: the stages.
        first: the lowest that there is; 0 is the stem.

    Raises:
        InputError: there is no such stage, or they are not in order.
    """
    found = [int(layer) for layer in layers]
    if not found or found != sorted(set(found)) or found[0] < first or found[-1] > len(STAGE_PLANES):
        stem = ", or 0 for the stem" if first == 0 else ""
        expected = f"stages of a backbone, 1 to {len(STAGE_PLANES)}{stem}, finest first, e.g. [2, 3]"
        raise InputError("the backbone has no such layers", where="layers", expected=expected, found=list(layers))
    return found


def inner_width(architecture: str) -> int:
    """How many times its planes a bottleneck of this backbone is wide inside."""
    require_resnet(architecture)
    return int(getattr(BACKBONES[architecture][0], "inner_width", 1))


class ResNetTaps(FeatureTaps):
    """Residual network that returns the outputs of stages of it, after their ReLU, finest first.

    MONAI's ResNet in the geometry of torchvision (stem stride 2, shortcut "B" without bias), so that its published
    weights load name by name and compute the same.

    Args:
        architecture: one of `BACKBONES`.
        spatial_dims: 2 or 3.
        in_channels: channels of the scan, see `ScanToBackbone`.
        stages: how many stages to build, 1 to 4; strides 4, 8, 16, 32.
        weights: path, known name, or ``"none"`` for random initialisation, see `find_weights`.
        optional_stages: stages that a weights file may lack, e.g. ``("layer4",)``.
        norm_momentum: momentum of the batch norms' running statistics.
        frozen: nothing in it learns: no gradients, batch norms in eval mode whatever mode the rest is in.
        layers: stages to return, finest first, the last of which is the last that is built; 0 is the stem's output
            after its pooling, on the grid of stage 1. None builds and returns the first ``stages``.

    Shape:
        ``(B, in_channels, *spatial)``, intensities 0..1, to a list of ``(B, C_k, *spatial / stride_k)``.
    """

    def __init__(
        self,
        architecture: str,
        spatial_dims: int = 2,
        in_channels: int = 1,
        stages: int = 4,
        weights: str = "none",
        optional_stages: tuple[str, ...] = (),
        norm_momentum: float = 0.1,
        frozen: bool = False,
        layers: Sequence[int] | None = None,
    ) -> None:
        require_resnet(architecture)
        if layers is not None:
            layers = require_stages(layers, first=0)
            stages = layers[-1]
        if spatial_dims not in (2, 3) or not 1 <= stages <= 4:
            raise ValueError(f"spatial_dims must be 2 or 3 and stages 1 to 4, got {spatial_dims} and {stages}.")
        returned = list(range(1, stages + 1)) if layers is None else layers
        channels = [STAGE_PLANES[0], *tap_channels(architecture)]
        super().__init__(returned, [channels[s] for s in returned], [2 ** (max(s, 1) + 1) for s in returned], frozen)
        block, blocks = BACKBONES[architecture]
        self.adapter = ScanToBackbone(spatial_dims, in_channels)
        resnet = ResNet(
            block=block,
            layers=list(blocks),
            block_inplanes=list(STAGE_PLANES),
            spatial_dims=spatial_dims,
            n_input_channels=self.adapter.out_channels,
            conv1_t_stride=2,
            bias_downsample=False,
            feed_forward=False,
        )
        self.conv1, self.bn1, self.act, self.maxpool = resnet.conv1, resnet.bn1, resnet.act, resnet.maxpool
        self.layer1 = resnet.layer1
        self.layer2 = resnet.layer2 if stages > 1 else nn.Identity()
        self.layer3 = resnet.layer3 if stages > 2 else nn.Identity()
        self.layer4 = resnet.layer4 if stages > 3 else nn.Identity()
        self.stages = stages
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = norm_momentum
        path = find_weights(weights, architecture)
        if path is not None:
            self.fresh_stages = load_pretrained(self, path, optional_stages)
            self.notice_folded_norms(path)
        self.freeze(channels_last=spatial_dims == 2)

    def forward(self, image: Tensor) -> list[Tensor]:
        if not torch.jit.is_scripting():
            self.require_edge(image, 2 ** (self.stages + 1), max(image.shape[2:]))
        x = self.maxpool(self.act(self.bn1(self.conv1(self.adapter(image)))))
        taps = [x, self.layer1(x)]
        if self.stages > 1:
            taps.append(self.layer2(taps[-1]))
        if self.stages > 2:
            taps.append(self.layer3(taps[-1]))
        if self.stages > 3:
            taps.append(self.layer4(taps[-1]))
        chosen: list[Tensor] = []
        for stage in self.layers:
            chosen.append(taps[stage])
        return chosen
