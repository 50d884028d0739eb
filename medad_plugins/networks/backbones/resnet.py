"""Residual networks tapped at their stages, for scans of any channel count, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.backbones.weights import find_weights, load_pretrained

__all__ = ["BACKBONES", "ResNetTaps", "ScanToBackbone"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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


def tap_channels(architecture: str) -> list[int]:
    """Channels of the four stages of a backbone."""
    return [planes * BACKBONES[architecture][0].expansion for planes in STAGE_PLANES]


def require_stages(layers: Sequence[int]) -> list[int]:
    """Stages of a backbone as a method's key names them, finest first.

    Raises:
        InputError: there is no such stage, or they are not in order.
    """
    found = [int(layer) for layer in layers]
    if not found or found != sorted(set(found)) or found[0] < 1 or found[-1] > len(STAGE_PLANES):
        expected = f"stages of a backbone, 1 to {len(STAGE_PLANES)}, finest first, e.g. [2, 3]"
        raise InputError("the backbone has no such layers", where="layers", expected=expected, found=list(layers))
    return found


def inner_width(architecture: str) -> int:
    """How many times its planes a bottleneck of this backbone is wide inside."""
    return int(getattr(BACKBONES[architecture][0], "inner_width", 1))


class ScanToBackbone(nn.Module):
    """Adapter from a scan to a backbone pretrained on RGB photographs.

    One channel is repeated three times, three channels are taken as red, green, blue, and any other count is passed on
    to a first convolution whose pretrained kernels are spread over the channels; all are brought to ImageNet's mean and
    standard deviation.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.

    Shape:
        ``(B, in_channels, *spatial)``, intensities 0..1, to ``(B, out_channels, *spatial)``.
    """

    def __init__(self, spatial_dims: int, in_channels: int) -> None:
        super().__init__()
        if in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got {in_channels}.")
        self.out_channels = 3 if in_channels in (1, 3) else in_channels
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        if self.out_channels != 3:
            mean, std = mean.mean().expand(in_channels), std.mean().expand(in_channels)
        shape = (1, self.out_channels) + (1,) * spatial_dims
        self.mean: Tensor = nn.Buffer(mean.reshape(shape).clone(), persistent=False)
        self.std: Tensor = nn.Buffer(std.reshape(shape).clone(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        # a single channel broadcasts against the three of the mean
        return (image - self.mean) / self.std


class ResNetTaps(nn.Module):
    """Residual network that returns the outputs of its stages, after their ReLU, finest first.

    MONAI's ResNet in the geometry of torchvision (stem stride 2, shortcut "B" without bias), so that its published
    weights load name by name and compute the same.

    Args:
        architecture: one of `BACKBONES`.
        spatial_dims: 2 or 3.
        in_channels: channels of the scan, see `ScanToBackbone`.
        stages: how many stages to build and return, 1 to 4; strides 4, 8, 16, 32.
        weights: path, known name, or ``"none"`` for random initialisation, see `find_weights`.
        optional_stages: stages that a weights file may lack, e.g. ``("layer4",)``.
        norm_momentum: momentum of the batch norms' running statistics.
        frozen: nothing in it learns: no gradients, batch norms in eval mode whatever mode the rest is in.

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
    ) -> None:
        super().__init__()
        self.frozen = frozen
        if architecture not in BACKBONES:
            raise ValueError(f"backbone must be one of {sorted(BACKBONES)}, got {architecture!r}.")
        if spatial_dims not in (2, 3) or not 1 <= stages <= 4:
            raise ValueError(f"spatial_dims must be 2 or 3 and stages 1 to 4, got {spatial_dims} and {stages}.")
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
        self.channels = tap_channels(architecture)[:stages]
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = norm_momentum
        path = find_weights(weights, architecture)
        # stages that the weights lack: they have no statistics to keep and much to learn
        self.fresh_stages = () if path is None else load_pretrained(self, path, optional_stages)
        self.requires_grad_(not frozen)
        if frozen and spatial_dims == 2:
            # whatever learns on it keeps its own layout; processors compute these convolutions a quarter faster so
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train(self.training)

    def train(self, mode: bool = True) -> ResNetTaps:
        super().train(mode and not self.frozen)
        return self

    def is_fresh(self, name: str) -> bool:
        """Whether a parameter or module, by its name, belongs to a stage that the pretrained weights lack."""
        return any(name.startswith(stage) for stage in self.fresh_stages)

    def keep_pretrained_statistics(self) -> None:
        """Put the batch norms that have pretrained statistics into eval mode; their affine part still learns."""
        for name, module in self.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not self.is_fresh(name):
                module.eval()

    def _require_size(self, image: Tensor) -> None:
        stride = 2 ** (self.stages + 1)
        if max(image.shape[2:]) < stride:
            raise InputError(
                "the image is smaller than one step of the backbone's deepest features",
                expected=f"at least {stride} pixels along an edge",
                found=" x ".join(str(int(edge)) for edge in image.shape[2:]),
                todo="raise --image_size",
            )

    def forward(self, image: Tensor) -> list[Tensor]:
        if not torch.jit.is_scripting():
            self._require_size(image)
        x = self.maxpool(self.act(self.bn1(self.conv1(self.adapter(image)))))
        taps = [self.layer1(x)]
        if self.stages > 1:
            taps.append(self.layer2(taps[-1]))
        if self.stages > 2:
            taps.append(self.layer3(taps[-1]))
        if self.stages > 3:
            taps.append(self.layer4(taps[-1]))
        return taps
