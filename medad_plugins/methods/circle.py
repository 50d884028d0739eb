"""U-Net with Monte-Carlo dropout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.batch_noise import batch_uniform
from medad_plugins.networks.blocks.say_rare import say_rare
from medad_plugins.networks.coders.plain_unet import PlainUNet

__all__ = ["DropoutUNet"]


class DropoutUNet(AnomalyNetwork):
    """U-Net whose channels between encoder and decoder are left out at random, in training and at test time.

    In training each case has a draw of its own from PyTorch's generator. In eval mode the same ``passes`` draws serve
    every scan, as long as the model lives: they are made once, from a generator of their own, and kept in the state
    dict. So the map of a scan is one and the same from any batch, process or export, and needs no random numbers.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        features: channels of the levels, finest first.
        dropout: share of the channels that is left out.
        passes: draws at test time; the encoder runs once for all of them.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Shape:
        train: ``(B, C, *spatial)``, intensities 0..1, to logits ``(B, 1, *spatial)``; eval: to values 0..1.

    Reference:
        after Mueller et al., "Confidence-Aware and Self-Supervised Image Anomaly Localisation", UNSURE 2023; Gal and
        Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        features: Sequence[int] = (32, 64, 128, 256, 256),
        dropout: float = 0.2,
        passes: int = 10,
        reduction: str | float = "mean",
    ) -> None:
        super().__init__(reduction)
        if not 0 <= dropout < 1 or passes < 1:
            raise ValueError(f"dropout must lie in 0..1 and passes be positive, got {dropout} and {passes}.")
        self.unet = PlainUNet(spatial_dims, in_channels, features)
        say_rare(self.unet.last)
        self.dropout, self.widths = dropout, [int(width) for width in features]
        draws = torch.rand(passes, sum(features), generator=torch.Generator().manual_seed(0))
        # what stays is scaled, so that on average nothing changes
        self.kept: Tensor = nn.Buffer((draws >= dropout).float() / (1 - dropout))

    def _decoded(self, levels: list[Tensor], kept: Tensor) -> Tensor:
        """Logits with channels left out: ``kept`` ``(B or 1, channels of all levels)`` are factors."""
        thinned: list[Tensor] = []
        first = 0
        for level, width in zip(levels, self.widths):
            factors = kept[:, first : first + width].to(level.dtype)
            thinned.append(level * factors.reshape(list(factors.shape) + [1] * (level.dim() - 2)))
            first += width
        return self.unet.decode(thinned).float()

    def training_output(self, image: Tensor) -> Tensor:
        """Logits ``(B, 1, *spatial)``."""
        draws = batch_uniform((len(image), sum(self.widths)), image)
        return self._decoded(self.unet.encode(image), (draws >= self.dropout).float() / (1 - self.dropout))

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Mean over the draws of the network's output at each pixel, 0..1."""
        return self.mean_and_variance(image)[0]

    def mean_and_variance(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The map, and how much the draws disagree: both ``(B, 1, *spatial)``, the variance 0..0.25."""
        levels = self.unet.encode(image)
        said = torch.sigmoid(self._decoded(levels, self.kept[:1]))
        total, squares = said, said * said
        for index in range(1, len(self.kept)):
            said = torch.sigmoid(self._decoded(levels, self.kept[index : index + 1]))
            total, squares = total + said, squares + said * said
        mean = total / len(self.kept)
        return mean, (squares / len(self.kept) - mean * mean).clamp(min=0)
