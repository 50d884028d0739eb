"""DAE: a U-Net that takes coarse noise off normal scans; what it takes off a scan without noise is abnormal."""

from __future__ import annotations

from functools import partial

import torch
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from medad_plugins.diffusion import coarse_noise
from medad_plugins.errors import InputError
from medad_plugins.losses.full_precision import full_precision
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.batch_noise import batch_drawn
from medad_plugins.networks.blocks.foreground import foreground
from medad_plugins.scorers import MedianSmoothing, ResidualMap, local_mean

__all__ = ["DAE"]

_LEVELS = 5
_GROUPS = 8


class DAE(AnomalyNetwork):
    """DAE: coarse noise is added to normal scans, in the body alone, and a U-Net with skips learns to take it off.

    Blobs of the noise are as large as lesions, so a lesion is taken off too, while the skips keep all fine detail.
    Trained by `medad_plugins.losses.ResidualLoss` with the squared difference. The network gives the change to the scan
    and begins with none. No noise is added to a scan that is to
    be judged: its map is the absolute difference to what the network makes of it.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        width: channels of the first of five levels, a multiple of 8; each next level has twice as many. The paper's
            is 64.
        noise_points, noise_deviation: see `medad_plugins.diffusion.coarse_noise`, on intensities of 0..1.
        erosion: edge of a window, odd, in which all but a twentieth must be `foreground` for its middle to count; 1
            leaves out the background alone.
        median: edge of the map's median filter, odd; 1 for none.
        reduction: image score, see `medad_plugins.scorers.MapPool`.
        residual: of the map, see `medad_plugins.scorers.residual_map`.

    Raises:
        InputError: the width is none, or, when called, an edge of the scan is too short to be halved four times.

    Reference:
        Kascenas et al., "Denoising autoencoders for unsupervised anomaly detection in brain MRI", MIDL 2022; "The role
        of noise in denoising models for anomaly detection in medical images", MedIA 90, 2023.

    Example:
        >>> network = DAE(width=8).eval()
        >>> image = torch.rand(2, 1, 32, 32)
        >>> network(image).shape, network.reconstruct(image).shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 1, 32, 32]))
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        width: int = 64,
        noise_points: int = 16,
        noise_deviation: float = 0.2,
        erosion: int = 5,
        median: int = 5,
        reduction: str | float = "mean",
        residual: str = "l1",
    ) -> None:
        super().__init__(reduction)
        if width < _GROUPS or width % _GROUPS:
            raise InputError("no such width", where="width", expected=f"a multiple of {_GROUPS}", found=width)
        if noise_points < 1 or erosion < 1 or erosion % 2 == 0:
            raise ValueError(f"noise_points must be positive and erosion odd, got {noise_points} and {erosion}.")
        widths = [width * 2**level for level in range(_LEVELS)]
        self.unet = BasicUNet(
            spatial_dims,
            in_channels,
            in_channels,
            features=(*widths, width),
            act="swish",
            norm=("group", {"num_groups": _GROUPS}),
        )
        # it begins with taking nothing off: what the skips are there for need not be learnt first
        nn.init.zeros_(self.unet.final_conv.weight)
        nn.init.zeros_(self.unet.final_conv.bias)
        self.noise_points, self.noise_deviation = noise_points, noise_deviation
        self.erosion = erosion
        self.difference = ResidualMap(residual)
        self.median = MedianSmoothing(spatial_dims, median)

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scans as the network restores them, ``(B, C, *spatial)``, intensities about 0..1, float32."""
        if not torch.jit.is_scripting():
            self._require_size(image)
        change: Tensor = self.unet(image)
        return image.float() + change.float()

    def _require_size(self, image: Tensor) -> None:
        if min(image.shape[2:]) < 2 ** (_LEVELS - 1):
            raise InputError(
                "the image is too small for a U-Net of five levels",
                expected=f"at least {2 ** (_LEVELS - 1)} pixels along every edge",
                found=" x ".join(str(int(edge)) for edge in image.shape[2:]),
                todo="raise --image_size",
            )

    def noised(self, image: Tensor) -> Tensor:
        """The scans as the network gets them in training."""
        draw = partial(coarse_noise, points=self.noise_points, deviation=self.noise_deviation)
        return image + foreground(image) * batch_drawn(draw, image.shape, image)

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the network makes of the noised scans, and the scans, both with the background at zero."""
        body = foreground(image)
        return self.reconstruct(self.noised(image)) * body, full_precision(image) * body

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The residual to the restored scan, averaged over channels, in the eroded body, median-filtered."""
        difference = self.difference(self.reconstruct(image), image.float())
        inside = (local_mean(foreground(image).float(), self.erosion) > 0.95).float()
        cleaned: Tensor = self.median(difference * inside)
        return cleaned
