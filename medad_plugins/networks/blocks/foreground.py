"""Where a scan is more than background."""

from __future__ import annotations

from torch import Tensor

__all__ = ["foreground"]


def foreground(image: Tensor, background: float = 0.01) -> Tensor:
    """Ones where the channels' sum is above the background, zeros elsewhere, ``(B, 1, *spatial)``.

    For methods that restore the body alone. Where nothing is background, as in radiographs, all is one.

    Args:
        image: ``(B, C, *spatial)``, intensities 0..1.
        background: highest intensity of what is no body.
    """
    return (image.sum(1, keepdim=True) > background).to(image.dtype)
