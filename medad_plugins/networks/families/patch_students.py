"""Small networks that learn what a frozen backbone says about every place."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps
from medad_plugins.networks.backbones.make_taps import require_convolutions
from medad_plugins.networks.blocks.aligned_taps import AlignedTaps
from medad_plugins.networks.coders.patch_description import PatchDescription
from medad_plugins.networks.families.feature_rebuilding import joined_layers
from medad_plugins.scorers import MapToImage

__all__ = ["PatchStudents"]


class PatchStudents(AnomalyNetwork):
    """Teacher and students that such methods share; they differ in what is learnt besides, and in the map.

    The teacher's feature maps are joined on the finest grid, and every channel is brought to mean 0 and deviation 1
    over the normal scans. Papers first distil a network of the students' architecture from a backbone, on ImageNet.
    Without that, channels behind a ReLU that hardly ever fire reach 50 deviations where they do; no student learns
    that, and it outweighs all else in loss and map: ``limit`` cuts it off.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: frozen, a ResNet or an EfficientNet-Lite.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: of the backbone, finest first, see `make_taps`; None for those of strides 4, 8 and 16.
        widths: of the students, see `PatchDescription`.
        outputs: of each student, how many values for each of the teacher's; one student each.
        sigma: Gaussian smoothing of the map before it is scored, in pixels of the image.
        reduction: image score, see `medad_plugins.scorers.MapPool`.
        limit: deviations from its mean beyond which a channel counts as that far; 0 for none.

    Raises:
        InputError: the limit is negative.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        backbone: str,
        weights: str,
        layers: Sequence[int] | None,
        widths: Sequence[int],
        outputs: Sequence[int],
        sigma: float,
        reduction: str | float,
        limit: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        if limit < 0:
            raise InputError(
                "no such limit of the teacher's features", where="limit", expected="0 or more", found=limit
            )
        require_convolutions(backbone)
        layers = joined_layers(backbone) if layers is None else layers
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        self.align = AlignedTaps(self.features.channels, spatial_dims, "standard", finest=True)
        self.width = self.align.out_channels
        self.limit = float(limit)
        self.stride = self.features.strides[0]
        self.students = nn.ModuleList(
            PatchDescription(spatial_dims, in_channels, count * self.width, self.stride, widths) for count in outputs
        )
        self.to_image = MapToImage(spatial_dims, self.pool, sigma, keep_score="none")

    def learning_parameters(self) -> list[nn.Parameter]:
        """What learns: all but the teacher."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def described(self, image: Tensor) -> list[Tensor]:
        """What each student says, ``(B, outputs * D, *grid)``, float32."""
        found: list[Tensor] = []
        for student in self.students:
            found.append(student(image * 2 - 1).float())
        return found

    def taught(self, image: Tensor) -> Tensor:
        """The teacher's features of training scans, ``(B, D, *grid)``, float32."""
        return self._limited(self.align(self.features.remembered(image)))

    def known(self, image: Tensor) -> Tensor:
        """The teacher's features of any scans, ``(B, D, *grid)``, float32."""
        return self._limited(self.align(self.features(image)))

    def _limited(self, features: Tensor) -> Tensor:
        return features.clamp(-self.limit, self.limit) if self.limit > 0 else features
