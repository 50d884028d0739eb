"""FAE: structural similarity of a frozen backbone's early features and what an autoencoder makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from monai.networks.layers.factories import Conv, Dropout, Norm
from torch import Tensor, nn

from medad_plugins.losses import gaussian_ssim
from medad_plugins.networks.backbones import usual_layers
from medad_plugins.networks.blocks.upsample_to import UpsampleTo
from medad_plugins.networks.families.feature_autoencoding import FeatureAutoencoding

__all__ = ["FAE", "FeatureDissimilarity", "StructuralCoder"]


class FeatureDissimilarity(nn.Module):
    """One minus the structural similarity of two feature maps, channel by channel, and the mean over these.

    Its constants are those of intensities 0..1, whatever the features' range, as in the method's public code.

    Args:
        window: edge of the Gaussian window in places of the grid, odd.
        sigma: its standard deviation.

    Shape:
        rebuilt and true features ``(B, D, *grid)`` to ``(B, 1, *grid)``, 0..2.
    """

    def __init__(self, window: int = 5, sigma: float = 1.5) -> None:
        super().__init__()
        self.window, self.sigma = window, sigma

    def forward(self, rebuilt: Tensor, true: Tensor) -> Tensor:
        return 1 - gaussian_ssim(rebuilt, true, self.window, self.sigma).mean(1, keepdim=True)


class StructuralCoder(nn.Module):
    """Strided 5x5 convolutions down to a small grid, one more there, transposed 6x6 ones back, and a last 1x1.

    Args:
        spatial_dims: 2 or 3.
        channels: of the features.
        widths: of the strided convolutions; mirrored on the way back.
        dropout: share of the channels that are left out after each, in training.

    Shape:
        ``(B, channels, *grid)`` to the same; a grid that cannot be halved so often is rounded up and interpolated back.
    """

    def __init__(
        self, spatial_dims: int, channels: int, widths: Sequence[int] = (100, 150, 200, 300), dropout: float = 0.1
    ) -> None:
        super().__init__()
        conv, transposed = Conv[Conv.CONV, spatial_dims], Conv[Conv.CONVTRANS, spatial_dims]
        norm, drop = Norm[Norm.BATCH, spatial_dims], Dropout[Dropout.DROPOUT, spatial_dims]

        def after(count: int) -> list[nn.Module]:
            return [norm(count), nn.LeakyReLU(0.01), drop(dropout)]

        layers: list[nn.Module] = []
        for wide, narrow in pairwise([channels, *widths]):
            layers += [conv(wide, narrow, 5, stride=2, padding=2, bias=False), *after(narrow)]
        layers.append(conv(widths[-1], widths[-1], 5, padding=2, bias=False))
        for narrow, wide in pairwise([*reversed(widths), channels]):
            layers += [transposed(narrow, wide, 6, stride=2, padding=2, bias=False), *after(wide)]
        self.layers = nn.Sequential(*layers, conv(channels, channels, 1, bias=False))
        self.fit = UpsampleTo(spatial_dims)

    def forward(self, features: Tensor) -> Tensor:
        rebuilt: Tensor = self.fit(self.layers(features), list(features.shape[2:]))
        return rebuilt


class FAE(FeatureAutoencoding):
    """FAE: an autoencoder with a small grid rebuilds early features; what differs in structure is abnormal.

    Differences of intensities are large wherever there are edges, and small where a lesion is about as bright as its
    surroundings; early features of a pretrained network and their structure tell these apart.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: frozen, its norms in eval mode; a key of `medad_plugins.networks.TAPS`, the paper's is ``resnet18``.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: finest first, see `make_taps`; None for the stem and stages 1 and 2 of a ResNet, the paper's, or what
            `usual_layers` says of another backbone.
        scaling: of the features, see `AlignedTaps`; the paper's is ``"none"``.
        widths, dropout: see `StructuralCoder`.
        window: of the structural similarity, see `FeatureDissimilarity`.
        sigma: Gaussian smoothing of the map before it is scored, in pixels of the image.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Reference:
        Meissen et al., "Unsupervised Anomaly Localization with Structural Feature-Autoencoders", BrainLes 2022.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        layers: Sequence[int] | None = None,
        scaling: str = "none",
        widths: Sequence[int] = (100, 150, 200, 300),
        dropout: float = 0.1,
        window: int = 5,
        sigma: float = 0.0,
        reduction: str | float = 0.1,
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            backbone,
            weights,
            usual_layers(backbone, (0, 1, 2)) if layers is None else layers,
            scaling,
            sigma,
            reduction,
            coder=lambda channels: StructuralCoder(spatial_dims, channels, widths, dropout),
            difference=FeatureDissimilarity(window),
        )
