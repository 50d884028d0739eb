"""Boxes of scans painted over, which an autoencoder must fill in from what is around them."""

from __future__ import annotations

import torch
from torch import Tensor

from medad_plugins.networks.batch_noise import batch_uniform

__all__ = ["MASKS", "mask_boxes"]

MASKS = ("none", "one", "several")
_EDGE = 10 / 64  # of one box, as a share of the image's: 2.4 % of an image's area
_MOST, _LONGEST = 3, 0.5


def _inside(image: Tensor, edges: Tensor) -> Tensor:
    """Which pixels lie in a box at a random place, ``(B, 1, *spatial)``; edges ``(B,)`` as shares of the image's."""
    places = batch_uniform((len(image), image.dim() - 2), image)
    inside = torch.ones(len(image), *[1] * (image.dim() - 2), dtype=torch.bool, device=image.device)
    for axis, size in enumerate(image.shape[2:]):
        edge = (edges * size).round()
        start = (places[:, axis] * (size - edge + 1)).floor()
        at = torch.arange(size, device=image.device)[None]
        along = (at >= start[:, None]) & (at < (start + edge)[:, None])
        inside = inside & along.reshape([len(image), *[size if each == axis else 1 for each in range(image.dim() - 2)]])
    return inside[:, None]


def mask_boxes(image: Tensor, mask: str) -> Tensor:
    """The scans with boxes painted over, each case for itself.

    Args:
        image: ``(B, C, *spatial)``, intensities 0..1.
        mask: ``"none"``; ``"one"``, a box of 10/64 of the edges, black, in each (Cai et al.'s CeAE); ``"several"``,
            none to three boxes with edges of up to half the image's, each in a random grey between the batch's darkest
            and brightest (Zimmerer et al.'s ceVAE).
    """
    if mask == "none":
        return image
    if mask == "one":
        return image.masked_fill(_inside(image, image.new_full((len(image),), _EDGE)), 0.0)
    if mask != "several":
        raise ValueError(f"mask_input must be one of {MASKS}, got {mask!r}.")
    counts = (batch_uniform((len(image),), image) * (_MOST + 1)).floor()
    low, high = image.min(), image.max()
    painted = image
    for index in range(_MOST):
        inside = _inside(image, batch_uniform((len(image),), image) * _LONGEST)
        applies = (counts > index).reshape([-1] + [1] * (image.dim() - 1))
        grey = low + (high - low) * batch_uniform((len(image), *[1] * (image.dim() - 1)), image)
        painted = torch.where(inside & applies, grey, painted)
    return painted
