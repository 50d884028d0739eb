"""MKD: a narrow network imitates a frozen one at several depths, in value and in direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv, Norm, Pool
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones.scan_adapter import ScanToBackbone
from medad_plugins.networks.families.distillation_parts import teacher_taps
from medad_plugins.scorers import CosineMapFusion

__all__ = ["MKD", "Cloner", "ValueDirectionLoss"]


class ValueDirectionLoss(nn.Module):
    """Of every feature map, one minus the cosine of the two as whole vectors, and a share of their squared difference.

    Args:
        value_weight: of the mean squared difference.

    Shape:
        pair ``(student, teacher)`` of lists of ``(B, C_k, *grid_k)`` to a scalar, not negative.

    Example:
        >>> student, teacher = torch.full((1, 4, 2, 2), 3.0), torch.full((1, 4, 2, 2), 1.0)
        >>> ValueDirectionLoss(0.5)(([student], [teacher]))
        tensor(2.)
    """

    def __init__(self, value_weight: float = 0.01) -> None:
        super().__init__()
        self.value_weight = value_weight

    def forward(self, features: tuple[list[Tensor], list[Tensor]], target: Tensor | None = None) -> Tensor:
        """Loss of the features; ``target`` is there for engines that pass one and is not used."""
        terms: list[Tensor] = []
        for student, teacher in zip(*features, strict=True):
            one, other = student.flatten(1).float(), teacher.detach().flatten(1).float()
            direction = 1 - functional.cosine_similarity(one, other, dim=1).mean()
            terms.append(direction + self.value_weight * functional.mse_loss(one, other))
        return torch.stack(terms).sum()


class Cloner(nn.Module):
    """Narrow blocks of convolutions and a pooling; the last convolution of a block has the teacher's channels.

    Every convolution has a norm but the last one before a pooling, as in the method's public code; that one has no ReLU
    either, which comes first in the next block, so that features of any sign can be imitated.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        channels: of the teacher's maps, finest first.
        strides: of the same maps, powers of two, each larger than the one before.
        width: of all other convolutions.

    Shape:
        ``(B, in_channels, *spatial)`` to a list of ``(B, C_k, *spatial / stride_k)``, rounded up.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, channels: Sequence[int], strides: Sequence[int], width: int = 16
    ) -> None:
        super().__init__()
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        pool = Pool[Pool.MAX, spatial_dims]
        self.adapter = ScanToBackbone(spatial_dims, in_channels)

        def block(before: int, after: int, convolutions: int) -> list[nn.Module]:
            layers: list[nn.Module] = []
            for _ in range(convolutions - 1):
                layers += [conv(before, width, 3, padding=1, bias=False), norm(width), nn.ReLU()]
                before = width
            return [*layers, conv(before, after, 3, padding=1), pool(2, stride=2, ceil_mode=True)]

        self.blocks = nn.ModuleList()
        before, stride = self.adapter.out_channels, 1
        for count, own in zip(channels, strides, strict=True):
            layers: list[nn.Module] = [] if stride == 1 else [nn.ReLU()]
            while 2 * stride < own:
                layers += [*block(before, width, 2), nn.ReLU()]
                before, stride = width, 2 * stride
            layers += block(before, count, 2 if own <= 4 else 3)
            before, stride = count, 2 * stride
            if stride != own:
                raise ValueError(f"strides must be rising powers of two, got {list(strides)}.")
            self.blocks.append(nn.Sequential(*layers))

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.adapter(image)
        taps: list[Tensor] = []
        for block in self.blocks:
            x = block(x)
            taps.append(x)
        return taps


class MKD(AnomalyNetwork):
    """MKD: what a narrow network could not learn to imitate on normal scans, it does not imitate on others either.

    Trained with `ValueDirectionLoss`. The map is that of distances of both networks' features, place by place; the
    paper's, the gradient of the loss with respect to the scan, needs a pass back for every scan and cannot be exported.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: the teacher, a ResNet or an EfficientNet-Lite; the paper's is VGG-16.
        weights: of the teacher: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        width: inner channels of the `Cloner`.
        sigma: Gaussian smoothing of the map before it is scored, in pixels of the image.
        reduction: image score, see `medad_plugins.scorers.MapPool`.
        scale_weights: how much the scales of strides 4, 8 and 16 count in the map, see `CosineMapFusion`.

    Reference:
        Salehi et al., "Multiresolution Knowledge Distillation for Anomaly Detection", CVPR 2021.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        width: int = 16,
        sigma: float = 4.0,
        reduction: str | float = 0.05,
        scale_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(reduction)
        # its layers have other names in each kind of backbone
        self.teacher: Any = teacher_taps(backbone, spatial_dims, in_channels, weights)
        self.student = Cloner(spatial_dims, in_channels, self.teacher.channels, self.teacher.strides, width)
        self.fusion = CosineMapFusion(
            spatial_dims, self.pool, "sum", on_image_grid=True, sigma=sigma, scale_weights=scale_weights
        )

    def training_output(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Student's and teacher's feature maps ``(B, C_k, *spatial / stride_k)`` of strides 4, 8 and 16."""
        return self.student(image), self.teacher.remembered(image)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """One minus the cosine of both features, summed over three scales on the image grid and smoothed, 0..6."""
        return self.fusion(self.student(image), self.teacher(image), image.shape[2:])
