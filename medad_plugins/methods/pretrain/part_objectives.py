"""Objectives within a scan: its parts belong to the whole, and what lies above tells what lies below."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses.contrastive import info_nce
from medad_plugins.losses.full_precision import full_precision
from medad_plugins.losses.rank_gather import of_all_ranks
from medad_plugins.methods.pretrain.objectives import Objective, head, pooled

__all__ = ["CPC", "DIM", "overlapping_patches"]


class DIM(Objective):
    """Deep InfoMax, its local form: the whole scan's vector tells features of its locations from those of other scans.

    By the Jensen-Shannon estimate, vector and locations compared by their product. Locations are of the stage before
    the last. The two views of a scan are in different sets: neither is a negative of the other.

    Args:
        spatial_dims: 2 or 3.
        local_width, width: of the features of the last stage but one, and of the last.
        hidden, dimensions: widths of both heads.

    Reference:
        Hjelm et al., "Learning deep representations by mutual information estimation and maximization", ICLR 2019.
    """

    def __init__(
        self, spatial_dims: int, local_width: int, width: int, hidden: int = 512, dimensions: int = 128
    ) -> None:
        super().__init__()
        conv: Any = Conv[Conv.CONV, spatial_dims]
        self.head = head(width, hidden, dimensions)
        self.local_head = nn.Sequential(
            conv(local_width, hidden, 1), nn.ReLU(inplace=True), conv(hidden, dimensions, 1)
        )

    def terms(self, encoder: Any, image: Tensor) -> dict[str, Tensor]:
        maps = encoder(image)
        whole = of_all_ranks(full_precision(self.head(maps[-1].flatten(2).mean(2))))
        parts = of_all_ranks(full_precision(self.local_head(maps[-2]).flatten(2)))
        with torch.autocast(whole.device.type, enabled=False):
            # (view, scan of the vector, scan of the location, location)
            views = [torch.einsum("id,jdl->ijl", whole[view::2], parts[view::2]) for view in (0, 1)]
            fits = torch.stack(views) / whole.shape[1] ** 0.5
        own = torch.eye(fits.shape[1], dtype=torch.bool, device=fits.device)
        if len(own) < 2:
            raise ValueError("Deep InfoMax compares scans: it needs at least two in a batch.")
        positive = functional.softplus(-fits[:, own]).mean()
        return {"information": positive + functional.softplus(fits[:, ~own]).mean()}


def overlapping_patches(image: Tensor, count: int) -> Tensor:
    """Patches ``(B, count ** dims, C, *patch)`` that lie every half patch, ``count`` along each axis, in row order.

    Args:
        image: ``(B, C, *spatial)``; what remains at the end of an axis is left out.
        count: patches along an axis.
    """
    dims = image.dim() - 2
    found = image
    for axis in range(dims):
        step = image.shape[2 + axis] // (count + 1)
        found = found.unfold(2 + axis, 2 * step, step).narrow(2 + axis, 0, count)
    order = [0, *range(2, 2 + dims), 1, *range(2 + dims, 2 + 2 * dims)]
    return found.permute(order).flatten(1, dims)


class CPC(Objective):
    """Contrastive predictive coding: from the patches above, those further below are found among all of the batch.

    A scan becomes overlapping patches, each an averaged feature of the encoder; convolutions that look upwards alone
    sum up what lies above and beside; from there, a linear map for each distance predicts the patches of the rows
    that share no pixel with what was seen.

    Args:
        spatial_dims: 2 or 3.
        width: of the encoder's features.
        dimensions: of the context.
        temperature: divides the cosines.
        patches: along each axis, at least 3; the paper has 7 of 64 pixels in 256.

    Reference:
        van den Oord, Li and Vinyals, "Representation learning with contrastive predictive coding", 2018.
    """

    def __init__(
        self, spatial_dims: int, width: int, dimensions: int = 128, temperature: float = 0.2, patches: int = 3
    ) -> None:
        super().__init__()
        if patches < 3:
            raise ValueError(f"of fewer than three patches along an axis none lies clear of the first, got {patches}.")
        conv: Any = Conv[Conv.CONV, spatial_dims]
        self.patches, self.temperature, self.dims = patches, temperature, spatial_dims
        self.context = nn.ModuleList(
            conv(inputs, dimensions, [2, *[3] * (spatial_dims - 1)]) for inputs in (width, dimensions)
        )
        self.predictors = nn.ModuleList(conv(dimensions, width, 1) for _ in range(2, patches))

    def _summed_up(self, features: Tensor) -> Tensor:
        """Context ``(B, dimensions, *grid)``: of a row, it knows that row and those above."""
        for layer in self.context:
            # one row above and none below; a place to either side
            padded = functional.pad(features, [1, 1] * (self.dims - 1) + [1, 0])
            features = functional.relu(layer(padded))
        return features

    def terms(self, encoder: Any, image: Tensor) -> dict[str, Tensor]:
        patches = overlapping_patches(image, self.patches)
        vectors = pooled(encoder, patches.flatten(0, 1))
        grid = [self.patches] * self.dims
        features = vectors.unflatten(0, (len(image), -1)).transpose(1, 2).unflatten(2, grid)
        context, losses = self._summed_up(features), []
        for ahead, predict in enumerate(self.predictors, 2):
            predicted = predict(context[:, :, :-ahead])
            losses.append(info_nce(_by_view(predicted), _by_view(features[:, :, ahead:]), self.temperature))
        return {"prediction": torch.stack(losses).mean()}


def _by_view(features: Tensor) -> Tensor:
    """Features ``(2 B, D, *grid)`` as vectors ``(2, N, D)``: those of all first views, and of all second ones."""
    rows = of_all_ranks(full_precision(features.flatten(2).transpose(1, 2).contiguous()))
    return torch.stack([rows[0::2].flatten(0, 1), rows[1::2].flatten(0, 1)])
