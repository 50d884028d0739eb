"""After P-Net and MemSTC-Net: a scan rebuilt from its edges, whose texture comes from a memory of normal scans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medad_plugins.losses.full_precision import full_precision
from medad_plugins.losses.memory import memory_weight_terms
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.blocks.memory_module import MemoryModule
from medad_plugins.networks.coders.plain_unet import PlainUNet
from medad_plugins.scorers import ResidualMap, gradient_magnitude, residual_map

__all__ = ["MemSTCNet", "Remembered", "correspondence_terms"]


class Remembered(NamedTuple):
    """Rebuilt scans ``(B, C, *spatial)``, and the weights ``(B, items, *grid)`` of the memory."""

    image: Tensor
    weights: Tensor


class MemSTCNet(AnomalyNetwork):
    """A U-Net that sees a scan's edges alone, and what texture belongs to them by a memory, learnt from normal scans.

    Each place of the coarsest level asks the memory by its structure, and is answered with texture; the decoder gets
    the answers and, from finer levels, structure again. No intensity passes by another way, so what is as bright as no
    normal scan is between such edges is not rebuilt. Trained by `correspondence_terms`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        features: channels of the levels, finest first.
        skips: of how many levels, the finest first, the decoder sees the structure; None is all but the coarsest.
        query_size: length of what the memory is asked with.
        items, threshold, similarity, sharpness: of the memory, see `MemoryModule`.
        residual: of the map, see `medad_plugins.scorers.residual_map`.
        structure_weight: how much the difference of edges adds to the map.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    References:
        Zhou et al., "Encoding structure-texture relation with P-Net for anomaly detection in retinal images", ECCV
        2020; "Memorizing structure-texture correspondence for image anomaly detection", IEEE TNNLS 33, 2022.

    Example:
        >>> network = MemSTCNet(features=(4, 8, 8), items=10).eval()
        >>> network(torch.rand(2, 1, 32, 32)).shape
        torch.Size([2, 1, 32, 32])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        features: Sequence[int] = (16, 32, 64, 128),
        skips: int | None = None,
        query_size: int = 64,
        items: int = 500,
        threshold: float = 0.002,
        similarity: str = "cosine",
        sharpness: float = 10.0,
        residual: str = "l1",
        structure_weight: float = 0.0,
        reduction: str | float = "mean",
    ) -> None:
        super().__init__(reduction)
        levels = len(features) - 1
        if skips is not None and not 0 <= skips <= levels:
            raise ValueError(f"skips must be 0 to {levels}, got {skips}.")
        if structure_weight < 0:
            raise ValueError(f"structure_weight must not be negative, got {structure_weight}.")
        self.skips = levels if skips is None else skips
        self.unet = PlainUNet(spatial_dims, in_channels, features, out_channels=in_channels)
        # about their mean, for all structures are alike in what they have in common, and would ask for the same items
        self.to_query = nn.Sequential(
            Conv[Conv.CONV, spatial_dims](features[-1], query_size, 1),
            Norm[Norm.BATCH, spatial_dims](query_size, affine=False),
        )
        self.memory = MemoryModule(query_size, items, threshold, similarity, sharpness, answer_size=features[-1])
        self.difference = ResidualMap(residual)
        self.structure_weight = float(structure_weight)

    def remember(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The scan ``(B, C, *spatial)`` rebuilt from its edges, and the weights ``(B, items, *grid)`` of the memory."""
        levels: list[Tensor] = self.unet.encode(gradient_magnitude(image))
        texture, weights = self.memory(self.to_query(levels[-1]))
        passed: list[Tensor] = []
        for index, level in enumerate(levels[:-1]):
            passed.append(level if index < self.skips else torch.zeros_like(level))
        passed.append(texture)
        return self.unet.decode(passed), weights

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scan rebuilt, ``(B, C, *spatial)``, intensities about 0..1."""
        return self.remember(image)[0]

    def training_output(self, image: Tensor) -> Remembered:
        """What `correspondence_terms` takes."""
        return Remembered(*self.remember(image))

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Residual of intensities, and of edges where these count, averaged over channels, not negative."""
        rebuilt = self.reconstruct(image).float()
        difference: Tensor = self.difference(rebuilt, image.float())
        if self.structure_weight > 0:
            edges = residual_map(gradient_magnitude(rebuilt), gradient_magnitude(image.float()), "l1")
            difference = difference + self.structure_weight * edges
        return difference


def correspondence_terms(network: MemSTCNet, batch: dict[str, Any]) -> dict[str, Tensor]:
    """``texture`` and ``structure``, mean absolute differences of intensities and of their edges, and the memory's.

    The latter are `medad_plugins.losses.memory_weight_terms`.
    """
    image, (rebuilt, weights) = batch["image"], network.training_output(batch["image"])
    rebuilt, image = full_precision(rebuilt), full_precision(image)
    return {
        "texture": residual_map(rebuilt, image, "l1").mean(),
        "structure": residual_map(gradient_magnitude(rebuilt), gradient_magnitude(image), "l1").mean(),
        **memory_weight_terms(weights),
    }
