"""DAF: a student that imitates its teacher where scans are normal, and a segmentation of how the two differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks.convolutions import Convolution
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses.gaussian_ssim import gaussian_ssim
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones.make_taps import make_learning_taps
from medad_plugins.networks.blocks.upsample_to import UpsampleTo
from medad_plugins.networks.families.distillation_parts import teacher_taps
from medad_plugins.scorers import MapToImage

__all__ = ["DAF", "DiscrepancySegmentation", "discrepancy"]


def _of_peaks(features: Tensor) -> Tensor:
    """Each channel of each case in shares of its largest size."""
    peaks = features.abs().flatten(2).amax(2).clamp_min(1e-6)
    return features / peaks.reshape(list(peaks.shape) + [1] * (features.dim() - 2))


def discrepancy(student: Tensor, teacher: Tensor) -> Tensor:
    """How far two feature maps are apart in structure and in direction, whatever their strength.

    Args:
        student: ``(B, C, *grid)``.
        teacher: the same.

    Returns:
        ``(B, C, *grid)``, 0..3 for features of a ReLU: one minus the structural similarity of each channel (window 11,
        standard deviation 1.5), both in shares of their own largest value, plus one minus the cosine along the
        channels.
    """
    student, teacher = student.float(), teacher.float()
    similarity = gaussian_ssim(_of_peaks(student), _of_peaks(teacher), mirrored=True)
    cosine = functional.cosine_similarity(student, teacher, dim=1)
    return (1 - similarity) + (1 - cosine).unsqueeze(1)


class DiscrepancySegmentation(nn.Module):
    """A logit for each pixel from discrepancies and the student's features: down to the coarsest grid, then up again.

    The discrepancies are added up on the finest grid, channels of finer levels repeated to those of the coarsest.

    Args:
        spatial_dims: 2 or 3.
        channels: of the levels, finest first.
        width: of its first layers, halved twice on the way up; the public code's is 256.

    Shape:
        two lists of ``(B, C_k, *grid_k)``, finest first, and the image's size to ``(B, 1, *size)``.
    """

    def __init__(self, spatial_dims: int, channels: list[int], width: int) -> None:
        super().__init__()
        first, second, third = channels
        layers: dict[str, Any] = {"act": "RELU", "norm": "BATCH", "bias": False}
        self.deepest = third
        self.enlarge = UpsampleTo(spatial_dims)
        self.fuse = Convolution(spatial_dims, third, width, kernel_size=1, **layers)
        self.coarse = Convolution(spatial_dims, width + third, width, kernel_size=3, **layers)
        self.grow = Conv[Conv.CONVTRANS, spatial_dims](width + second, width // 2, 2, stride=2)
        self.grown = nn.Sequential(Norm[Norm.BATCH, spatial_dims](width // 2), nn.ReLU(inplace=True))
        self.fine = Conv[Conv.CONV, spatial_dims](width // 2 + first, width // 4, 1, bias=False)
        self.refined = nn.Sequential(Norm[Norm.BATCH, spatial_dims](width // 4), nn.ReLU(inplace=True))
        self.last = Conv[Conv.CONV, spatial_dims](width // 4, 1, 1)

    def forward(self, found: list[Tensor], student: list[Tensor], size: list[int]) -> Tensor:
        grids: list[list[int]] = [list(each.shape[2:]) for each in student]
        fused = self.enlarge(found[2], grids[0])
        for each in found[:2]:
            repeated = torch.arange(self.deepest, device=each.device) % each.shape[1]
            fused = fused + self.enlarge(each, grids[0]).index_select(1, repeated)
        fused = self.enlarge(self.fuse(fused), grids[2])
        x = self.coarse(self.enlarge(torch.cat([fused, student[2]], 1), grids[1]))
        x = self.grown(self.enlarge(self.grow(torch.cat([x, student[1]], 1)), grids[0]))
        # 1x1 convolutions before the interpolations that they follow in the paper: the same, for less
        halved: list[int] = [(edge + 1) // 2 for edge in size]
        x = self.refined(self.enlarge(self.fine(torch.cat([x, student[0]], 1)), halved))
        logits: Tensor = self.enlarge(self.last(x), size)
        return logits


class DAF(AnomalyNetwork):
    """DAF: where a student that learnt to imitate its teacher on normal places does not, a segmentation says so.

    All parts are trained together by `medad_plugins.methods.daf.DAFLoss`, on scans with synthetic anomalies of which
    the teacher sees the clean form.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: of teacher and student: a ResNet, the paper's is ``resnet18``, or an EfficientNet-Lite.
        weights: of the teacher: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`; layer4 is
            not needed.
        width: of the segmentation, see `DiscrepancySegmentation`; a multiple of 4.
        share: how much the segmentation counts in the map.
        scale_weights: how much the discrepancies of strides 4, 8 and 16 count there; None is 1 each, as in the paper.
        sigma: Gaussian smoothing of the map, in pixels of the image.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Shape:
        train: ``(B, 2 * in_channels, *spatial)``, scans with anomalies and the same without, to what the loss takes.

    Reference:
        Cai et al., "A Discrepancy Aware Framework for Robust Anomaly Detection", IEEE TII 20, 2024.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        width: int = 256,
        share: float = 3.0,
        sigma: float = 4.0,
        reduction: str | float = 0.00076,
        scale_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(reduction)
        if width < 4 or width % 4:
            raise ValueError(f"width must be a multiple of 4, got {width}.")
        self.scale_weights = [1.0, 1.0, 1.0] if scale_weights is None else [float(weight) for weight in scale_weights]
        if len(self.scale_weights) != 3 or min(self.scale_weights) < 0:
            raise ValueError(f"scale_weights must be three numbers of at least 0, got {scale_weights}.")
        self.share = share
        # its layers have other names in each kind of backbone
        self.teacher: Any = teacher_taps(backbone, spatial_dims, in_channels, weights)
        self.student: Any = make_learning_taps(backbone, spatial_dims, in_channels, 3, "none", norm_momentum=0.1)
        self.segmentation = DiscrepancySegmentation(spatial_dims, self.teacher.channels, width)
        # a segmentation of each level of the student's, in training alone
        self.guides = nn.ModuleList(
            nn.Sequential(
                Convolution(spatial_dims, channels, max(1, channels // 4), act="RELU", norm="BATCH"),
                Conv[Conv.CONV, spatial_dims](max(1, channels // 4), 1, 1),
            )
            for channels in self.teacher.channels
        )
        self.enlarge = UpsampleTo(spatial_dims)
        self.to_image = MapToImage(spatial_dims, self.pool, sigma, keep_score="none")

    def training_output(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Discrepancies ``(B, 1, *grid_k)``, means over the channels, and the logits of all segmentations.

        The logits are those of the segmentation, ``(B, 1, *spatial)``, and of the student's levels.
        """
        changed, clean = image.chunk(2, 1)
        student = self.student(changed)
        found = [discrepancy(own, true) for own, true in zip(student, self.teacher.remembered(clean))]
        logits = [self.segmentation(found, student, list(changed.shape[2:]))]
        logits += [guide(own) for guide, own in zip(self.guides, student)]
        return [each.mean(1, keepdim=True) for each in found], logits

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Mean discrepancies of the levels and the probability that a place is abnormal, weighed, added up, smoothed.

        Not negative; up to 12 for features of a ReLU and a share of 3.
        """
        student: list[Tensor] = self.student(image)
        teacher: list[Tensor] = self.teacher(image)
        found = [discrepancy(own, true) for own, true in zip(student, teacher)]
        size = list(image.shape[2:])
        total = self.share * torch.sigmoid(self.segmentation(found, student, size).float())
        for weight, each in zip(self.scale_weights, found):
            if weight > 0:
                total = total + weight * self.enlarge(each.mean(1, keepdim=True), size)
        return self.to_image(total, size)
