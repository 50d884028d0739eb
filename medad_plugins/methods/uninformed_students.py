"""Uninformed Students: several small networks learn a teacher's features; where they err or disagree is abnormal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medad_plugins.networks.families.patch_students import PatchStudents
from medad_plugins.scorers import StandardScore

__all__ = ["UninformedStudents"]


class UninformedStudents(PatchStudents):
    """Students from different random weights learn a frozen teacher's features of normal scans, place by place.

    Trained by `medad_plugins.losses.ResidualLoss` with the squared difference; then the map's two parts are brought to
    mean 0 and deviation 1 over normal scans, see `collect`.

    Args:
        spatial_dims, in_channels, backbone, weights, layers, widths, sigma, reduction, limit: see `PatchStudents`.
        students: how many.

    Reference:
        Bergmann et al., "Uninformed Students: Student-Teacher Anomaly Detection with Discriminative Latent Embeddings",
        CVPR 2020.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        layers: Sequence[int] | None = None,
        widths: Sequence[int] = (128, 256),
        students: int = 3,
        sigma: float = 0.0,
        reduction: str | float = "max",
        limit: float = 0.0,
    ) -> None:
        if students < 2:
            raise ValueError(f"there must be two students or more, to disagree, got {students}.")
        outputs = [1] * students
        super().__init__(spatial_dims, in_channels, backbone, weights, layers, widths, outputs, sigma, reduction, limit)
        self.error, self.spread = StandardScore(), StandardScore()

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the students say and what they should, ``(students * B, D, *grid)``."""
        features = self.taught(image)
        return torch.cat(self.described(image)), torch.cat([features] * len(self.students))

    def parts(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error of the students' mean, and their variance, both summed over channels, ``(B, 1, *grid)``."""
        said = torch.stack(self.described(image))
        mean = said.mean(0)
        error = (mean - self.known(image)).square().sum(1, keepdim=True)
        return error, (said - mean).square().mean(0).sum(1, keepdim=True)

    def collect(self, image: Tensor) -> None:
        """Add normal scans to what the two parts are measured by."""
        error, spread = self.parts(image)
        self.error.collect(error.flatten())
        self.spread.collect(spread.flatten())

    def fit(self) -> None:
        """Measure both parts in deviations of what was collected from now on."""
        self.error.fit()
        self.spread.fit()

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The sum of both parts, each in deviations of normal places, interpolated to the image; of any sign."""
        error, spread = self.parts(image)
        return self.to_image(self.error(error) + self.spread(spread), image.shape[2:])
