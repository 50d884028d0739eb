"""From a scan's channels and intensities to those that a pretrained backbone was shown."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["ScanToBackbone"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ScanToBackbone(nn.Module):
    """Adapter from a scan to a backbone pretrained on RGB photographs.

    One channel is repeated three times, three channels are taken as red, green, blue, and any other count is passed on
    to a first convolution whose pretrained kernels are spread over the channels; all are brought to the mean and
    standard deviation that the backbone was trained with.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        mean: of red, green and blue that becomes 0; by default ImageNet's.
        std: of red, green and blue that becomes 1.

    Shape:
        ``(B, in_channels, *spatial)``, intensities 0..1, to ``(B, out_channels, *spatial)``.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        if in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got {in_channels}.")
        self.out_channels = 3 if in_channels in (1, 3) else in_channels
        means, stds = torch.tensor(mean), torch.tensor(std)
        if self.out_channels != 3:
            means, stds = means.mean().expand(in_channels), stds.mean().expand(in_channels)
        shape = (1, self.out_channels) + (1,) * spatial_dims
        self.mean: Tensor = nn.Buffer(means.reshape(shape).clone(), persistent=False)
        self.std: Tensor = nn.Buffer(stds.reshape(shape).clone(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        # a single channel broadcasts against the three of the mean
        return (image - self.mean) / self.std
