"""What all backbones have in common: some of their feature maps, and that nothing in a frozen one learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError

if TYPE_CHECKING:
    from typing import Self  # of Python 3.11

__all__ = ["FeatureTaps"]


class FeatureTaps(nn.Module):
    """Base of the backbones: a scan becomes some of the feature maps on the way, finest first.

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

    def freeze(self, channels_last: bool) -> None:
        """Last step of a subclass's making: stop what learns, where it is to be frozen, and lay it out for speed."""
        self.requires_grad_(not self.frozen)
        if self.frozen and channels_last:
            # whatever learns on it keeps its own layout; processors compute these convolutions a quarter faster so
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        return super().train(mode and not self.frozen)

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
