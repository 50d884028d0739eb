"""Many Tasks: one U-Net with encoded positions, trained on several kinds of synthetic anomalies."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.blocks.fourier_positions import PositionedConvolution
from medad_plugins.networks.coders.plain_unet import PlainUNet

__all__ = ["ManyTasks"]


def standardised(image: Tensor, foreground: float = 0.1) -> Tensor:
    """Each channel of each scan ``(B, C, *spatial)`` with mean 0 and variance 1 over its foreground.

    That is what is brighter than a share of the highest intensity of the channel.
    """
    values = image.flatten(2)
    inside = (values > foreground * values.amax(2, keepdim=True)).to(values.dtype)
    count = inside.sum(2, keepdim=True).clamp(min=1.0)
    mean = (values * inside).sum(2, keepdim=True) / count
    variance = ((values - mean).square() * inside).sum(2, keepdim=True) / count
    return ((values - mean) / (variance + 1e-8).sqrt()).reshape(image.shape)


class ManyTasks(AnomalyNetwork):
    """U-Net of instance norms and GELUs from a scan and the places of its pixels to how much each was changed.

    Trained with the mean squared error; what it says is not limited to 0..1.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        features: channels of the levels, finest first; the paper has 5 levels for volumes of 80 to 112 voxels and 7 for
            images.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Shape:
        train and eval: ``(B, C, *spatial)``, intensities 0..1, to ``(B, 1, *spatial)``.

    Reference:
        Baugh et al., "Many Tasks Make Light Work: Learning to Localise Medical Anomalies from Multiple Synthetic
        Tasks", MICCAI 2023.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        features: Sequence[int] = (32, 64, 128, 256, 320),
        reduction: str | float = "mean",
    ) -> None:
        super().__init__(reduction)
        first = PositionedConvolution(spatial_dims, in_channels, features[0])
        self.unet = PlainUNet(spatial_dims, in_channels, features, norm="instance", activation="gelu", first=first)

    def training_output(self, image: Tensor) -> Tensor:
        """How much each pixel was changed, ``(B, 1, *spatial)``, as the labels have it."""
        return self.anomaly_map(image)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The same of a scan in which nothing is known."""
        said: Tensor = self.unet(standardised(image.float()))
        return said.float()
