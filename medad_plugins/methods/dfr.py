"""DFR: each place's features of several scales, rebuilt from a code as narrow as their principal components."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import nn

from medad_plugins.data import Case, ScanFormat
from medad_plugins.engines import ScanBatch
from medad_plugins.errors import InputError
from medad_plugins.networks.backbones import make_taps
from medad_plugins.networks.blocks.aligned_taps import AlignedTaps
from medad_plugins.networks.families.feature_autoencoding import FeatureAutoencoding
from medad_plugins.networks.families.feature_rebuilding import joined_layers
from medad_plugins.scorers import ResidualMap

__all__ = ["DFR", "PlaceCoder", "explaining_components"]


def explaining_components(
    cases: Sequence[Case],
    preprocessing: Callable[..., Any],
    scan: ScanFormat,
    backbone: str = "resnet18",
    weights: str = "none",
    layers: Sequence[int] | None = None,
    share: float = 0.9,
) -> int:
    """How many principal components of the joined features explain a share of their variance: the length of DFR's code.

    Args:
        cases: some normal ones; the paper takes about ten.
        preprocessing: of a case, e.g. `medad_plugins.transforms.ScanPreprocessing`.
        scan: how scans come to the network.
        backbone, weights, layers: see `DFR`.
        share: of the variance, 0..1.

    Raises:
        InputError: there is no case, or the share is none.
    """
    if not cases or not 0 < share < 1:
        expected = "at least one case and a share between 0 and 1"
        raise InputError(
            "the length of the code cannot be chosen", where="latent_size", expected=expected, found=(len(cases), share)
        )
    layers = joined_layers(backbone) if layers is None else layers
    taps = make_taps(backbone, scan.network_dims, scan.in_channels, layers, weights).eval()
    align = AlignedTaps(taps.channels, scan.network_dims, finest=True)
    batch = ScanBatch(scan, count=1)
    found: list[torch.Tensor] = []
    with torch.no_grad():
        for case in cases:
            image = torch.as_tensor(preprocessing(case)["image"])[None]
            found.append(align(taps(batch({"image": image})[0])).flatten(2).transpose(1, 2).flatten(0, 1))
    features = torch.cat(found).double()
    variances = torch.linalg.eigvalsh(torch.cov(features.T)).flip(0).clamp_min(0)
    explained = variances.cumsum(0) / variances.sum()
    return min(int((explained < share).sum()) + 1, len(variances))


class PlaceCoder(nn.Sequential):
    """1x1 convolutions to a code and back, with norm and ReLU on the hidden layers.

    Args:
        spatial_dims: 2 or 3.
        channels: of the features.
        latent_size: of the code.

    Shape:
        ``(B, channels, *grid)`` to the same.
    """

    def __init__(self, spatial_dims: int, channels: int, latent_size: int) -> None:
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        half = (channels + 2 * latent_size) // 2
        widths = [channels, half, 2 * latent_size, latent_size, 2 * latent_size, half, channels]
        layers: list[nn.Module] = []
        for place, (before, after) in enumerate(pairwise(widths)):
            layers.append(conv(before, after, 1))
            if place not in (2, len(widths) - 2):  # neither the code nor what comes out
                layers += [norm(after), nn.ReLU()]
        super().__init__(*layers)


class DFR(FeatureAutoencoding):
    """DFR: each place's features, joined from several scales of a frozen backbone, through a narrow code and back.

    The coder sees single places and no neighbours, so it learns which features there are and not where.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: frozen; a key of `medad_plugins.networks.TAPS`. The paper's is VGG-19.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: finest first, see `make_taps`; None for those of strides 4, 8 and 16.
        scaling: of the features, see `AlignedTaps`; the paper's is ``"none"``.
        latent_size: of the code; the paper takes so many as `explaining_components` says.
        sigma: Gaussian smoothing of the map before it is scored, in pixels of the image.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Reference:
        Shi et al., "Unsupervised anomaly segmentation via deep feature reconstruction", Neurocomputing 424, 2021.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        layers: Sequence[int] | None = None,
        scaling: str = "none",
        latent_size: int = 64,
        sigma: float = 0.0,
        reduction: str | float = "max",
    ) -> None:
        if latent_size < 1:
            raise InputError(
                "the code must have a length", where="latent_size", expected="1 or more", found=latent_size
            )
        super().__init__(
            spatial_dims,
            in_channels,
            backbone,
            weights,
            joined_layers(backbone) if layers is None else layers,
            scaling,
            sigma,
            reduction,
            coder=lambda channels: PlaceCoder(spatial_dims, channels, latent_size),
            difference=ResidualMap("l2"),
        )
