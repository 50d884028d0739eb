"""cDDPM: a partial diffusion that is told the scan without noise, as one vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medad_plugins.diffusion import PartialDiffusion
from medad_plugins.errors import InputError
from medad_plugins.networks.backbones import make_learning_taps
from medad_plugins.networks.blocks.norm_layers import require_several

__all__ = ["CDDPM"]


class _Description(nn.Module):
    """A ResNet or EfficientNet-Lite that goes on learning: the mean of its last maps, through a linear layer.

    Shape:
        ``(B, C, *spatial)``, intensities 0..1, to ``(B, size)``.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        backbone: str,
        weights: str,
        stages: int,
        size: int,
        norm_momentum: float,
    ) -> None:
        super().__init__()
        self.taps = make_learning_taps(backbone, spatial_dims, in_channels, stages, weights, norm_momentum)
        self.last = nn.Linear(self.taps.channels[-1], size)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.last(self.taps(image)[-1].flatten(2).mean(2))
        return out


class CDDPM(PartialDiffusion):
    """cDDPM: the U-Net is told what an encoder says of the scan without noise, in one vector beside the time.

    So what was lost in the noise, how bright the scan is here and there, comes back as it was, while a vector is too
    short to tell a lesion. Encoder and U-Net learn together. A scan is noised to several levels and cleaned from each;
    the map is the residual to the mean of what comes back. Arguments: see `PartialDiffusion`, and

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        levels: how far a scan is noised, each by itself.
        steps: in which it goes back from each.
        condition: length of the vector.
        backbone: encoder, a ResNet or an EfficientNet-Lite.
        weights: of it, see `medad_plugins.networks.find_weights`.
        stages: of it, 3 or 4.
        norm_momentum: of its batch norms.
        settings: see `PartialDiffusion`; ``boxes`` and ``level`` mean nothing here, and the U-Net is the own one.

    Raises:
        InputError: as `PartialDiffusion`, also for each level; in training, a batch of a single scan.

    Reference:
        Behrendt et al., "Guided reconstruction with conditioned diffusion models for unsupervised anomaly detection in
        brain MRIs", Computers in Biology and Medicine 2025.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        levels: Sequence[int] = (250, 500, 750),
        steps: int = 1,
        condition: int = 512,
        backbone: str = "resnet50",
        weights: str = "none",
        stages: int = 4,
        norm_momentum: float = 0.1,
        **settings: Any,
    ) -> None:
        if not levels:
            raise InputError("there is no level to noise to", where="levels", expected="one or more, e.g. [250, 500]")
        if condition < 1:
            raise InputError("the vector is too short", where="condition", expected="1 or more", found=condition)
        super().__init__(spatial_dims, in_channels, level=max(levels), steps=steps, condition=condition, **settings)
        self.schedulers = [self.scheduler.at_level(level, steps, ("levels", "steps")) for level in levels]
        self.encoder: nn.Module = _Description(
            spatial_dims, in_channels, backbone, weights, stages, condition, norm_momentum
        )

    def told(self, image: Tensor) -> dict[str, Tensor]:
        """What the encoder says of scans of 0..1."""
        return {"context": self.encoder(image)}

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The U-Net's prediction for scans noised to random times, and its target."""
        require_several(image)
        return super().training_output(image)

    def _cleaned(self, image: Tensor, seed: int) -> Tensor:
        whole = self.whole(image)
        told, generator = self.told(whole), torch.Generator().manual_seed(seed)
        cleaned = [self._back(whole * 2 - 1, None, generator, told, each) for each in self.schedulers]
        return (torch.stack(cleaned).mean(0) + 1) / 2
