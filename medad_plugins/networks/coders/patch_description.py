"""A small network of plain convolutions that describes the surroundings of every place."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

__all__ = ["PatchDescription"]


class PatchDescription(nn.Module):
    """Convolutions with average pooling between them: each place is described by a patch of bounded size.

    Of stride 4, a place sees 32 pixels; where the published network has even kernels, these are odd, so that the grid
    is that of a backbone with the same stride.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        out_channels: of the descriptions.
        stride: of the grid, a power of two, at least 2.
        widths: of the two kinds of inner convolutions: before the first pooling, and behind it.

    Shape:
        ``(B, in_channels, *spatial)`` to ``(B, out_channels, *spatial / stride)``, rounded up.

    Raises:
        ValueError: the stride is no power of two.

    Reference:
        Batzner et al., "EfficientAD: Accurate visual anomaly detection at millisecond-level latencies", WACV 2024.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        stride: int = 4,
        widths: Sequence[int] = (128, 256),
    ) -> None:
        super().__init__()
        halvings = stride.bit_length() - 1
        if stride < 2 or 2**halvings != stride:
            raise ValueError(f"stride must be a power of two, at least 2, got {stride}.")
        conv, pool = Conv[Conv.CONV, spatial_dims], Pool[Pool.AVG, spatial_dims]
        first, wide = widths
        layers: list[nn.Module] = []
        for place in range(halvings):
            before, after = (in_channels, first) if place == 0 else (first if place == 1 else wide, wide)
            layers += [conv(before, after, 5, padding=2), nn.ReLU(), pool(2, stride=2, ceil_mode=True)]
        last = first if halvings == 1 else wide
        layers += [conv(last, wide, 3, padding=1), nn.ReLU(), conv(wide, out_channels, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        described: Tensor = self.layers(image)
        return described
