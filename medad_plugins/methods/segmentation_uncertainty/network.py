"""A U-Net that segments normal anatomy with dropout, and how much its answers differ from draw to draw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.blocks.kept_dropout import KeptDropout
from medad_plugins.networks.coders.plain_unet import PlainUNet
from medad_plugins.scorers.smoothing import GaussianSmoothing

__all__ = ["UNCERTAINTIES", "SegmentationUncertainty"]

UNCERTAINTIES = ("variance", "mutual_information", "entropy")


class SegmentationUncertainty(AnomalyNetwork):
    """Bayesian U-Net: where the weights that dropout leaves do not agree, the anatomy is none that was learnt.

    Dropout is on what the encoder hands to the decoder, so a scan is encoded once and decoded for every draw. The draws
    are kept with the network: a scan has one map.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        classes: of the anatomy, background among them.
        features: channels of the U-Net's levels, finest first.
        dropout: share of the channels that is left out.
        samples: draws.
        uncertainty: ``"variance"`` over the draws of a class's probability, averaged over classes (the paper's);
            ``"mutual_information"``, entropy of the mean answer less the mean entropy of the answers, in nats; or
            ``"entropy"`` of the mean answer, in which what is ambiguous in normal scans counts too.
        sigma: Gaussian smoothing of the map, in pixels.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Shape:
        train: ``(B, C, *spatial)`` to logits ``(B, classes, *spatial)``; eval: to the map ``(B, 1, *spatial)``.

    Reference:
        Seeboeck et al., "Exploiting epistemic uncertainty of anatomy segmentation for anomaly detection in retinal
        OCT", IEEE TMI 39, 2020.

    Example:
        >>> network = SegmentationUncertainty(classes=3, features=(8, 16), samples=4).eval()
        >>> network(torch.rand(2, 1, 32, 32)).shape, network.segment(torch.rand(2, 1, 32, 32)).shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 3, 32, 32]))
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        classes: int = 2,
        features: Sequence[int] = (16, 32, 64),
        dropout: float = 0.3,
        samples: int = 10,
        uncertainty: str = "variance",
        sigma: float = 1.0,
        reduction: str | float = 0.05,
    ) -> None:
        super().__init__(reduction)
        if uncertainty not in UNCERTAINTIES:
            raise ValueError(f"uncertainty must be one of {UNCERTAINTIES}, got {uncertainty!r}.")
        if classes < 2:
            raise ValueError(f"classes must be at least 2, got {classes}.")
        self.uncertainty, self.samples = uncertainty, samples
        self.unet = PlainUNet(spatial_dims, in_channels, features, out_channels=classes)
        self.dropouts = nn.ModuleList(
            KeptDropout(channels, dropout, samples, seed) for seed, channels in enumerate(features)
        )
        self.smoothing = GaussianSmoothing(spatial_dims, sigma)

    def _decoded(self, levels: list[Tensor], draw: int) -> Tensor:
        """Logits by the channels that a draw leaves; -1 draws anew."""
        left: list[Tensor] = []
        for index, dropout in enumerate(self.dropouts):
            left.append(dropout(levels[index], draw))
        logits: Tensor = self.unet.decode(left)
        return logits.float()

    def training_output(self, image: Tensor) -> Tensor:
        """Logits ``(B, classes, *spatial)``, float32, with dropout."""
        return self._decoded(self.unet.encode(image), -1)

    def segment(self, image: Tensor) -> Tensor:
        """Probabilities of the anatomy ``(B, classes, *spatial)``: the mean over the draws."""
        levels = self.unet.encode(image)
        found = [torch.softmax(self._decoded(levels, draw), 1) for draw in range(self.samples)]
        return torch.stack(found).mean(0)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The uncertainty of every pixel, not negative."""
        levels = self.unet.encode(image)
        first = torch.softmax(self._decoded(levels, 0), 1)
        # a difference from the first draw, for a variance by raw squares would be lost in rounding
        total, squares = torch.zeros_like(first), torch.zeros_like(first)
        entropy = _entropy(first)
        for draw in range(1, self.samples):
            answer = torch.softmax(self._decoded(levels, draw), 1)
            total = total + (answer - first)
            squares = squares + (answer - first).square()
            entropy = entropy + _entropy(answer)
        shift = total / self.samples
        if self.uncertainty == "variance":
            values = (squares / self.samples - shift.square()).mean(1, keepdim=True)
        else:
            values = _entropy(first + shift)
            if self.uncertainty == "mutual_information":
                values = values - entropy / self.samples
        smooth: Tensor = self.smoothing(values.clamp_min(0))
        return smooth


def _entropy(probabilities: Tensor) -> Tensor:
    """``(B, 1, *spatial)``, in nats."""
    bounded = probabilities.clamp_min(1e-12)
    return -(bounded * bounded.log()).sum(1, keepdim=True)
