"""Feature maps of any known backbone, by its name."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medad_plugins.networks.backbones.resnet import ResNetTaps, require_stages

__all__ = ["FeatureTaps", "make_taps"]

DEFAULT_STAGES = (2, 3)


class FeatureTaps(nn.Module):
    """Some of the feature maps of a backbone, finest first.

    Args:
        backbone: gives a list of feature maps.
        chosen: their places in that list.
        layers: what they are called: stages of a convolutional network, from 1, or blocks of a transformer, from 0.
        channels: of each chosen one.
        strides: pixels of the scan along an edge of one location of each.

    Shape:
        ``(B, in_channels, *spatial)``, intensities 0..1, to a list of ``(B, C_k, *spatial / stride_k)``.
    """

    def __init__(
        self,
        backbone: nn.Module,
        chosen: Sequence[int],
        layers: Sequence[int],
        channels: Sequence[int],
        strides: Sequence[int],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.chosen = list(chosen)
        self.layers, self.channels, self.strides = list(layers), list(channels), list(strides)

    def forward(self, image: Tensor) -> list[Tensor]:
        taps: list[Tensor] = self.backbone(image)
        return [taps[place] for place in self.chosen]


def make_taps(
    backbone: str,
    spatial_dims: int = 2,
    in_channels: int = 1,
    layers: Sequence[int] | None = None,
    weights: str = "none",
) -> FeatureTaps:
    """A frozen backbone that gives the named feature maps of a scan.

    Args:
        backbone: a key of `medad_plugins.networks.BACKBONES`.
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        layers: which feature maps, finest first; None takes those that most methods take.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.

    Raises:
        InputError: there is no such layer, or no such weights.

    Example:
        >>> taps = make_taps("resnet18", layers=[2, 3])
        >>> [tuple(tap.shape) for tap in taps(torch.rand(1, 1, 64, 64))]
        [(1, 128, 8, 8), (1, 256, 4, 4)]
    """
    stages = require_stages(DEFAULT_STAGES if layers is None else layers)
    network = ResNetTaps(backbone, spatial_dims, in_channels, stages=stages[-1], weights=weights, frozen=True)
    chosen = [stage - 1 for stage in stages]
    return FeatureTaps(
        network, chosen, stages, [network.channels[place] for place in chosen], [2 ** (s + 1) for s in stages]
    )
