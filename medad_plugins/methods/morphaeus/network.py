"""MorphAEus: a deep autoencoder whose reconstruction is deformed towards the scan."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.losses.full_precision import full_precision
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.blocks.norm_layers import require_several
from medad_plugins.networks.blocks.upsample_to import UpsampleTo
from medad_plugins.networks.blocks.warp import integrate_velocity, warp
from medad_plugins.scorers import MedianSmoothing, ResidualMap

__all__ = ["MorphAEus"]

# levels whose features the deformation is estimated from
_REFINED = 3


def _block(spatial_dims: int, before: int, after: int, stride: int = 1) -> nn.Module:
    return Convolution(spatial_dims, before, after, strides=stride, act="swish", norm="batch", adn_ordering="NA")


class MorphAEus(AnomalyNetwork):
    """MorphAEus: an autoencoder narrow enough to forget lesions, and a smooth deformation that fits its shapes.

    The autoencoder halves a scan down to a single place, so that what comes back, the prior, is normal anatomy of about
    the scan's kind. From features of encoder and decoder at the three finest grids a velocity is estimated, whose flow
    deforms the prior towards the scan: edges that lie elsewhere count no more, while a lesion, which no smooth
    deformation makes, does. Trained with `DeformationLoss`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edges of the scan in pixels; the longest one says how many halvings there are.
        channels: widths of the halvings, finest first, as many as are needed; the last one is repeated.
        flow_width: channels from which the velocity is estimated.
        residual: of the map, see `medad_plugins.scorers.residual_map`.
        median: edge of a median filter on the map, odd; 1 for none, as in the paper.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Raises:
        InputError: the scan is too small; in training, a batch of a single scan.

    Reference:
        Bercea et al., "What do AEs learn? Challenging common assumptions in unsupervised anomaly detection", MICCAI
        2023.

    Example:
        >>> network = MorphAEus(image_size=32, channels=(8, 16)).eval()
        >>> image = torch.rand(2, 1, 32, 32)
        >>> network(image).shape, network.deformation(image).shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 2, 32, 32]))
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        flow_width: int = 32,
        residual: str = "l1",
        median: int = 1,
        reduction: str | float = "mean",
    ) -> None:
        super().__init__(reduction)
        halvings = math.ceil(math.log2(max(ensure_tuple_rep(image_size, spatial_dims))))
        if halvings <= _REFINED or not channels:
            expected = f"more than {2**_REFINED} pixels along the longest edge"
            raise InputError("the scan is too small", where="image_size", expected=expected, found=image_size)
        widths = [channels[min(level, len(channels) - 1)] for level in range(halvings)]
        self.encoder = nn.ModuleList(
            _block(spatial_dims, before, after, 2) for before, after in zip((in_channels, *widths), widths)
        )
        # a grid of the decoder is as wide as the encoder's next coarser one
        decoded = [widths[0], *widths[1:], widths[-1]]
        self.decoder = nn.ModuleList(
            _block(spatial_dims, decoded[level + 1], decoded[level]) for level in reversed(range(halvings))
        )
        conv = Conv[Conv.CONV, spatial_dims]
        self.last = nn.Sequential(conv(widths[0], in_channels, 1), nn.Sigmoid())
        self.refinement = nn.ModuleList(
            _block(
                spatial_dims,
                widths[level] + decoded[level + 1] + (flow_width if level + 1 < _REFINED else 0),
                flow_width,
            )
            for level in reversed(range(_REFINED))
        )
        self.flow = conv(flow_width, spatial_dims, 3, padding=1)
        # it begins with hardly any deformation
        nn.init.normal_(self.flow.weight, std=1e-5)
        nn.init.zeros_(self.flow.bias)
        self.resize = UpsampleTo(spatial_dims)
        self.difference = ResidualMap(residual)
        self.median = MedianSmoothing(spatial_dims, median)

    def prior_and_velocity(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the autoencoder makes of scans, 0..1, and the velocity that deforms it, in pixels; float32."""
        sizes: list[list[int]] = [list(image.shape[2:])]
        encoded: list[Tensor] = []
        x = image
        for halve in self.encoder:
            x = halve(x)
            encoded.append(x)
            sizes.append(list(x.shape[2:]))
        decoded: list[Tensor] = []
        for step, grow in enumerate(self.decoder):
            x = grow(self.resize(x, sizes[len(sizes) - 2 - step]))
            decoded.append(x)
        refined: list[Tensor] = []
        for step, refine in enumerate(self.refinement):
            level = len(self.refinement) - 1 - step
            # the decoder's last output is the finest, of the image's own grid
            parts: list[Tensor] = [encoded[level], decoded[len(decoded) - 2 - level]]
            parts.extend(refined)
            refined = [refine(self.resize(torch.cat(parts, 1), sizes[level]))]
        return self.last(x).float(), self.flow(refined[0]).float()

    def deformation(self, image: Tensor) -> Tensor:
        """How far from each place of the scan the prior is looked at, ``(B, D, *spatial)``, in pixels."""
        return integrate_velocity(self.prior_and_velocity(image)[1])

    def reconstruct(self, image: Tensor) -> Tensor:
        """The deformed prior, ``(B, C, *spatial)``, intensities 0..1."""
        prior, velocity = self.prior_and_velocity(image)
        return warp(prior, integrate_velocity(velocity))

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The prior, the velocity, the prior deformed towards the scan and the scan deformed towards the prior."""
        require_several(image)
        prior, velocity = self.prior_and_velocity(image)
        deformed = warp(prior, integrate_velocity(velocity))
        return prior, velocity, deformed, warp(full_precision(image), integrate_velocity(-velocity))

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The residual between the scan and the deformed prior, averaged over channels, perhaps median-filtered."""
        cleaned: Tensor = self.median(self.difference(self.reconstruct(image), image.float()))
        return cleaned
