"""EfficientAD: a small student learns a teacher and an autoencoder; where it misses one of them is abnormal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.blocks.upsample_to import UpsampleTo
from medad_plugins.networks.families.patch_students import PatchStudents
from medad_plugins.scorers import QuantileRange

__all__ = ["EfficientAD", "HardFeatureLoss", "WholeCoder"]


class HardFeatureLoss(nn.Module):
    """What the student misses of the teacher, its hardest values alone, and of the autoencoder, which learns it too.

    Args:
        hard: quantile, 0..1, of the squared differences of student and teacher in a batch; those below do not count.

    Shape:
        ``(teacher, student, autoencoder, student of the autoencoder)``, each ``(B, D, *grid)``, to a scalar.

    Reference:
        Batzner et al., "EfficientAD", WACV 2024.
    """

    def __init__(self, hard: float = 0.999) -> None:
        super().__init__()
        if not 0 <= hard < 1:
            raise InputError("no such quantile", where="hard", expected="0 or more, below 1", found=hard)
        self.hard = hard

    def forward(self, features: tuple[Tensor, Tensor, Tensor, Tensor], target: Tensor | None = None) -> Tensor:
        """Loss of the features; ``target`` is there for engines that pass one and is not used."""
        teacher, student, coded, follower = (part.float() for part in features)
        missed = (teacher - student).square().flatten()
        hardest = missed.topk(max(1, len(missed) - int(self.hard * len(missed)))).values
        return hardest.mean() + (teacher - coded).square().mean() + (coded.detach() - follower).square().mean()


class WholeCoder(nn.Module):
    """Autoencoder from a scan to features on a grid, through one of 32 times coarser: it sees the scan as a whole.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        out_channels: of the features.
        width: of the outer convolutions; the inner ones have twice as many.

    Shape:
        ``(B, in_channels, *spatial)`` and a grid to ``(B, out_channels, *grid)``.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, width: int = 32) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        widths = [in_channels, width, width, 2 * width, 2 * width, 2 * width]
        down: list[nn.Module] = []
        for before, after in pairwise(widths):
            down += [conv(before, after, 5, stride=2, padding=2), nn.ReLU()]
        self.down = nn.Sequential(*down, conv(2 * width, 2 * width, 3, padding=1))
        self.up = nn.ModuleList(nn.Sequential(conv(2 * width, 2 * width, 3, padding=1), nn.ReLU()) for _ in range(3))
        self.last = conv(2 * width, out_channels, 3, padding=1)
        self.enlarge = UpsampleTo(spatial_dims)

    def forward(self, image: Tensor, grid: list[int]) -> Tensor:
        x = self.down(image)
        for index, layer in enumerate(self.up):
            size: list[int] = []
            for edge in grid:
                size.append(max(1, edge >> (2 - index)))
            x = layer(self.enlarge(x, size))
        coded: Tensor = self.last(x)
        return coded


class EfficientAD(PatchStudents):
    """After EfficientAD: small patches are judged by a student of a frozen teacher, the whole by an autoencoder.

    The student's second half learns what the autoencoder makes of normal scans, its blur included, so that the two
    differ on others alone. Trained with `HardFeatureLoss`; then both maps are scaled by quantiles of normal scans, see
    `collect`. The paper's student is also kept from imitating the teacher on photographs, of which there are none here.

    Args:
        spatial_dims, in_channels, backbone, weights, layers, widths, sigma, reduction, limit: see `PatchStudents`.
        coder_width: of the autoencoder, see `WholeCoder`.
        relative: the student's error counts relative to the teacher's own size at that place, so that an error is not
            large where there is much to know; False is the paper's form.

    Reference:
        Batzner et al., "EfficientAD: Accurate visual anomaly detection at millisecond-level latencies", WACV 2024.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        layers: Sequence[int] | None = None,
        widths: Sequence[int] = (128, 256),
        coder_width: int = 32,
        sigma: float = 0.0,
        reduction: str | float = "max",
        limit: float = 0.0,
        relative: bool = False,
    ) -> None:
        super().__init__(spatial_dims, in_channels, backbone, weights, layers, widths, [2], sigma, reduction, limit)
        self.relative = relative
        self.coder = WholeCoder(spatial_dims, in_channels, self.width, coder_width)
        self.local_range, self.whole_range = QuantileRange(), QuantileRange()

    def _learnt(self, image: Tensor, grid: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Student, autoencoder and the student's second half, ``(B, D, *grid)``."""
        said = self.described(image)[0]
        return said[:, : self.width], self.coder(image * 2 - 1, grid).float(), said[:, self.width :]

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Teacher, student, autoencoder and the student's second half, ``(B, D, *grid)``."""
        teacher = self.taught(image)
        student, coded, follower = self._learnt(image, list(teacher.shape[2:]))
        return teacher, student, coded, follower

    def parts(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared differences of student and teacher, and of autoencoder and student, ``(B, 1, *grid)``.

        The first relative to the teacher's own size, where that is asked for.
        """
        teacher = self.known(image)
        student, coded, follower = self._learnt(image, list(teacher.shape[2:]))
        local = (teacher - student).square().mean(1, keepdim=True)
        if self.relative:
            # channels have a mean square of 1 over normal scans: half of it keeps places that show little from counting
            local = local / (teacher.square().mean(1, keepdim=True) + 0.5)
        return local, (coded - follower).square().mean(1, keepdim=True)

    def collect(self, image: Tensor) -> None:
        """Add normal scans to what the two maps are measured by."""
        local, whole = self.parts(image)
        self.local_range.collect(local)
        self.whole_range.collect(whole)

    def fit(self) -> None:
        """Scale both maps by the quantiles of what was collected from now on."""
        self.local_range.fit()
        self.whole_range.fit()

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The mean of both maps, each scaled by quantiles of normal scans, interpolated to the image; of any sign."""
        local, whole = self.parts(image)
        return self.to_image((self.local_range(local) + self.whole_range(whole)) / 2, image.shape[2:])
