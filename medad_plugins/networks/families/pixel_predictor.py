"""A network that is trained on synthetic anomalies to predict how abnormal each pixel is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import BACKBONES
from medad_plugins.networks.blocks.say_rare import say_rare
from medad_plugins.networks.coders.plain_unet import PlainUNet
from medad_plugins.networks.coders.residual_coder import ResidualCoder
from medad_plugins.networks.coders.wide_residual import WideResidualCoder

__all__ = ["PixelPredictor"]

COMPLETE = ("wide_residual", "unet")


def _coder(
    spatial_dims: int, in_channels: int, architecture: str, features: Sequence[int] | None, weights: str
) -> nn.Module:
    if architecture in BACKBONES:
        if features is not None:
            raise InputError(
                "a backbone has features of its own",
                where="features",
                expected=f"null with --architecture {architecture}",
                found=list(features),
            )
        return ResidualCoder(spatial_dims, in_channels, architecture, weights)
    if architecture not in COMPLETE:
        expected = f"one of {', '.join((*COMPLETE, *BACKBONES))}"
        raise InputError("there is no such network", where="architecture", expected=expected, found=architecture)
    if weights not in ("none", None, ""):
        todo = f"give an --architecture among {', '.join(BACKBONES)}, or --weights none"
        raise InputError("this network has no pretrained weights", where=architecture, found=weights, todo=todo)
    kind = PlainUNet if architecture == "unet" else WideResidualCoder
    return kind(spatial_dims, in_channels) if features is None else kind(spatial_dims, in_channels, features)


class PixelPredictor(AnomalyNetwork):
    """A scan to one logit a pixel, for methods that differ in the synthetic anomalies that they are trained on.

    Trained with a loss on logits and soft targets, e.g. `torch.nn.BCEWithLogitsLoss`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        architecture: ``"wide_residual"`` (`WideResidualCoder`), ``"unet"`` (`PlainUNet`), or a key of
            `medad_plugins.networks.BACKBONES` (`ResidualCoder`).
        features: channels of the first two; None takes their defaults.
        weights: of a backbone, see `medad_plugins.networks.find_weights`.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Shape:
        train: ``(B, C, *spatial)``, intensities 0..1, to logits ``(B, 1, *spatial)``; eval: to values 0..1.

    Raises:
        InputError: for an unknown architecture, or features or weights that it does not take.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        architecture: str = "wide_residual",
        features: Sequence[int] | None = None,
        weights: str = "none",
        reduction: str | float = "mean",
    ) -> None:
        super().__init__(reduction)
        self.coder = _coder(spatial_dims, in_channels, architecture, features, weights)
        if spatial_dims == 3:
            say_rare([part for part in self.coder.modules() if getattr(part, "out_channels", 0) == 1][-1])

    def training_output(self, image: Tensor) -> Tensor:
        """Logits ``(B, 1, *spatial)``, float32, so that a loss is taken of them in full precision."""
        logits: Tensor = self.coder(image)
        return logits.float()

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The network's output at each pixel, 0..1: the share of what is foreign, or how visible it is."""
        return torch.sigmoid(self.coder(image).float())
