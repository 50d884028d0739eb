"""What all backbones have in common: some of their feature maps, and that nothing in a frozen one learns."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.backbones.tap_cache import TapCache

if TYPE_CHECKING:
    from typing import Self  # of Python 3.11

__all__ = ["FeatureTaps"]

logger = logging.getLogger(__name__)


class FeatureTaps(nn.Module):
    """Base of the backbones: a scan becomes some of the feature maps on the way, finest first.

    Batch norms that a weights file has folded into the convolutions stay in eval mode whatever mode the rest is in.

    Args:
        layers: which: stages of a ResNet, from 1; blocks of any other backbone, from 0.
        channels: of each map.
        strides: pixels of the scan along an edge of one location of each.
        frozen: nothing in it learns: no gradients, batch norms in eval mode whatever mode the rest is in.
        covers: the grid covers the scan and no more: the scan is stretched to a whole number of cells. Otherwise the
            last cells reach beyond it.

    Shape:
        ``(B, in_channels, *spatial)``, intensities 0..1, to a list of ``(B, C_k, *spatial / stride_k)``, rounded up.
    """

    def __init__(
        self,
        layers: Sequence[int],
        channels: Sequence[int],
        strides: Sequence[int],
        frozen: bool,
        covers: bool = False,
    ) -> None:
        super().__init__()
        self.covers = covers
        self.layers, self.channels, self.strides = list(layers), list(channels), list(strides)
        self.frozen = frozen
        # stages that the weights lack: they have no statistics to keep and much to learn
        self.fresh_stages: tuple[str, ...] = ()
        # whether the weights' norms have no statistics of their own: those of any batch would undo the weights
        self.folded = False
        # see `remembered`; no part of the state
        self.cache: TapCache | None = None

    def freeze(self, channels_last: bool) -> None:
        """Last step of a subclass's making: stop what learns, where it is to be frozen, and lay it out for speed."""
        self.requires_grad_(not self.frozen)
        if self.frozen and channels_last:
            # whatever learns on it keeps its own layout; processors compute these convolutions a quarter faster so
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode and not self.frozen)
        if self.folded:
            self.keep_pretrained_statistics()
        return self

    def notice_folded_norms(self, path: Path) -> None:
        """Keep the norms' statistics in training where loaded weights have their norms folded into the convolutions.

        Their statistics are then those of no scan: mean 0, variance 1, scale 1, and only the shift is left. A file
        without any shift was never trained and has nothing to keep.

        Args:
            path: the weights file.
        """
        norms = [
            module
            for name, module in self.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not self.is_fresh(name)
        ]
        shifts = False
        for norm in norms:
            if norm.running_mean is None or norm.running_var is None or not norm.affine:
                return
            if bool(norm.running_mean.any()) or bool((norm.running_var != 1).any()) or bool((norm.weight != 1).any()):
                return
            shifts = shifts or bool(norm.bias.any())
        self.folded = shifts
        if self.folded and not self.frozen:
            logger.info(
                "%s has its batch norms folded into its convolutions: their statistics are kept, in training too.",
                path.name,
            )

    def remembered(self, image: Tensor) -> list[Tensor]:
        """The maps of a batch of training scans, of each scan computed once where a `TapCache` is at work.

        For what a method does in training with a frozen backbone and scans that nothing random has changed.
        """
        if self.cache is None or not self.frozen:
            maps: list[Tensor] = self(image)
            return maps
        return self.cache.taps(image, self)

    def is_fresh(self, name: str) -> bool:
        """Whether a parameter or module, by its name, belongs to a stage that the pretrained weights lack."""
        return any(name.startswith(stage) for stage in self.fresh_stages)

    def keep_pretrained_statistics(self) -> None:
        """Put the batch norms that have pretrained statistics into eval mode; their affine part still learns."""
        for name, module in self.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not self.is_fresh(name):
                module.eval()

    def require_edge(self, image: Tensor, edge: int, found: int) -> None:
        """Refuse an image one of whose edges, the one that counts, is shorter than one step of the deepest features.

        Raises:
            InputError: it is.
        """
        if found < edge:
            raise InputError(
                "the image is smaller than one step of the backbone's deepest features",
                expected=f"at least {edge} pixels along an edge",
                found=" x ".join(str(int(length)) for length in image.shape[2:]),
                todo="raise --image_size",
            )
