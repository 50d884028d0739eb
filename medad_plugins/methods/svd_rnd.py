"""SVD-RND: a network learns to say what a random one says of normal scans, and what another says of blurred ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.blocks.norm_layers import norm_layer
from medad_plugins.networks.coders.conv_family import ConvEncoder
from medad_plugins.scorers import MapToImage

__all__ = ["SVDRND", "blurred_by_rank"]


def blurred_by_rank(image: Tensor, kept: float) -> Tensor:
    """Scans of which the largest singular values alone are left.

    Args:
        image: ``(B, C, *spatial)``; every channel, and of volumes every plane of the last two axes, by itself.
        kept: share of the singular values, at least one.
    """
    left, values, right = torch.linalg.svd(image.float(), full_matrices=False)
    count = max(1, int(kept * values.shape[-1] + 0.5))
    shrunk = left[..., :count] * values[..., None, :count]
    return (shrunk @ right[..., :count, :]).to(image.dtype)


class SVDRND(AnomalyNetwork):
    """SVD-RND: a predictor of what frozen random networks say; it errs on scans unlike the normal ones.

    A random network's predictor generalises to scans that are simpler than those it has seen. Here it learns what a
    first random network says of normal scans, and, of their blurred copies, what others say; of a scan that looks like
    those copies it then says something else than the first. Trained by `medad_plugins.losses.ResidualLoss`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: its edges, multiples of ``2 ** len(channels)``.
        channels: widths of the blocks of all networks, which halve the scan; the predictor has two layers more.
        kept: shares of the singular values that blurred copies keep, each with a random network of its own.
        local: whether the error counts place by place on the last grid; otherwise of the features averaged over the
            scan, as in the paper, and the map is constant.
        reduction: image score, see `medad_plugins.scorers.MapPool`; all the same of a constant map.

    Reference:
        Choi and Chung, "Novelty detection via blurring", ICLR 2020; without copies random network distillation (Burda
        et al., ICLR 2019).

    Example:
        >>> network = SVDRND(image_size=32, channels=(8, 16)).eval()
        >>> network(torch.rand(2, 1, 32, 32)).shape
        torch.Size([2, 1, 32, 32])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        channels: Sequence[int] = (32, 64, 128),
        kept: Sequence[float] = (0.125,),
        local: bool = True,
        reduction: str | float = "mean",
    ) -> None:
        super().__init__(reduction)
        if not all(0 < share < 1 for share in kept):
            raise ValueError(f"kept must be shares between 0 and 1, got {list(kept)}.")
        self.kept, self.local = list(kept), local
        self.targets = nn.ModuleList(
            _random_network(spatial_dims, in_channels, image_size, channels) for _ in range(1 + len(kept))
        )
        conv, width = Conv[Conv.CONV, spatial_dims], channels[-1]
        between = norm_layer("batch", spatial_dims, 2 * width)
        assert between is not None
        self.predictor = nn.Sequential(
            ConvEncoder(spatial_dims, in_channels, image_size, channels),
            conv(width, 2 * width, 3, padding=1, bias=False),
            between,
            nn.ReLU(),
            conv(2 * width, width, 3, padding=1),
        )
        self.to_image = MapToImage(spatial_dims, self.pool)

    def _features(self, features: Tensor) -> Tensor:
        """Of every place, or averaged over the scan as a grid of one place; ``(B, D, *grid)``."""
        if self.local:
            return features
        return features.flatten(2).mean(2).reshape(list(features.shape[:2]) + [1] * (features.dim() - 2))

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the predictor says of scans and copies and what random networks do, ``((1 + copies) B, D, *grid)``."""
        scans = [image, *(blurred_by_rank(image, share) for share in self.kept)]
        said = self._features(self.predictor(torch.cat(scans) * 2 - 1))
        with torch.no_grad():
            meant = [self._features(target(scan * 2 - 1)) for target, scan in zip(self.targets, scans, strict=True)]
        return said, torch.cat(meant)

    def errors(self, image: Tensor) -> Tensor:
        """Mean squared difference of the predictor from the first random network, ``(B, 1, *grid)``."""
        scan = image * 2 - 1
        difference = self._features(self.predictor(scan)) - self._features(self.targets[0](scan))
        return difference.float().square().mean(1, keepdim=True)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The errors, interpolated to the image, not negative."""
        found: Tensor = self.to_image(self.errors(image), image.shape[2:])
        return found


def _random_network(
    spatial_dims: int, in_channels: int, image_size: int | Sequence[int], channels: Sequence[int]
) -> nn.Module:
    """Convolutions that stay as they are drawn, with weights that keep the size of what passes."""
    network = ConvEncoder(spatial_dims, in_channels, image_size, channels, norm="none", slope=0.2, bias=True)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, a=0.2)
    return network.requires_grad_(False)
