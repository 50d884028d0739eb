"""DISYRE: a diffusion whose noise are synthetic anomalies; what it restores step by step is abnormal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.losses.full_precision import full_precision
from medad_plugins.networks import AnomalyNetwork, TimeUNet
from medad_plugins.networks.blocks.foreground import foreground
from medad_plugins.scorers import GaussianSmoothing, ResidualMap

__all__ = ["DISYRE"]

# the betas of the first and the last time
_FIRST, _LAST = 1e-3, 0.2


class DISYRE(AnomalyNetwork):
    """DISYRE: a network told how strong an anomaly may be restores scans with synthetic ones; then it does so in steps.

    As in cold diffusion, what is added with time is no noise but an anomaly: at time t, a share ``shares[t]`` of it,
    from nearly nothing at 0 to nearly all at the last. In training the time of a scan is that of its anomaly's
    strength, the largest value of its label. A scan that is to be judged is taken for one of the last time; what the
    network makes of it is mixed with it by the share of the next earlier one of some times, and is restored again,
    until the first. The map is the mean over these steps of the absolute difference between scan and restoration.

    The same times mean the same strengths in training and in scoring. In the method's public code they do not: there,
    the strongest anomalies are trained with the times at which scoring ends.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        width, multipliers, blocks, attention_levels: of the U-Net, see `TimeUNet`; it gives what is to be added to the
            scan, and begins with nothing.
        num_train_timesteps: times of the whole diffusion.
        steps: in which a scan is restored; 1 is the network's first answer.
        sigma: Gaussian smoothing of the map before it is scored, in pixels of the image.
        reduction: image score, see `medad_plugins.scorers.MapPool`.
        residual: of the map, see `medad_plugins.scorers.residual_map`.

    Shape:
        train: scans joined with their labels, ``(B, C + 1, *spatial)``, 0..1, to restored scans ``(B, C, *spatial)``;
        eval: ``(B, C, *spatial)`` to ``(B, 1, *spatial)``.

    Raises:
        InputError: there are not so many times as steps.

    References:
        Naval Marimont et al., "DISYRE: Diffusion-Inspired SYnthetic REstoration for unsupervised anomaly detection",
        ISBI 2024; "Ensembled Cold-Diffusion Restorations for Unsupervised Anomaly Detection", MICCAI 2024.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 4),
        blocks: int = 2,
        attention_levels: Collection[int] = (),
        num_train_timesteps: int = 100,
        steps: int = 5,
        sigma: float = 0.0,
        reduction: str | float = 0.05,
        residual: str = "l1",
    ) -> None:
        super().__init__(reduction)
        if not 1 <= steps <= num_train_timesteps:
            expected = f"1 to {num_train_timesteps}, the times of the diffusion"
            raise InputError("there are not so many times", where="steps", expected=expected, found=steps)
        self.in_channels = in_channels
        self.unet = TimeUNet(spatial_dims, in_channels, width, multipliers, blocks, attention_levels)
        betas = torch.linspace(_FIRST, _LAST, num_train_timesteps, dtype=torch.float64)
        shares = 1 - torch.cumprod(1 - betas, 0)
        self.shares: list[float] = shares.tolist()
        self.strengths: Tensor = nn.Buffer(shares.float(), persistent=False)
        last = num_train_timesteps - 1
        self.times: list[int] = [last - last * step // steps for step in range(steps)]
        self.difference = ResidualMap(residual)
        self.smoothing = GaussianSmoothing(spatial_dims, sigma)

    def times_of(self, strength: Tensor) -> Tensor:
        """The times ``(B,)`` at which so large shares, 0..1, of an anomaly are there: the first that is no smaller."""
        return torch.searchsorted(self.strengths, strength.float()).clamp_max(len(self.shares) - 1)

    def restore(self, image: Tensor, times: Tensor) -> Tensor:
        """Scans ``(B, C, *spatial)`` without the anomalies that they have at their times ``(B,)``."""
        change: Tensor = self.unet(image * 2 - 1, times)
        return image + change.to(image.dtype)

    def training_output(self, image: Tensor) -> Tensor:
        """The restored scans; their targets are those from before the synthesis."""
        scan, label = full_precision(image[:, : self.in_channels]), image[:, self.in_channels :]
        return self.restore(scan, self.times_of(label.flatten(1).amax(1)))

    def restorations(self, image: Tensor) -> list[Tensor]:
        """What the network restores at each step."""
        found: list[Tensor] = []
        current = image
        for place, time in enumerate(self.times):
            clean = self.restore(current, torch.full((image.shape[0],), time, device=image.device))
            found.append(clean)
            if place + 1 < len(self.times):
                share = self.shares[self.times[place + 1]]
                current = (1 - share) * clean + share * image
        return found

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scans as the last step leaves them, ``(B, C, *spatial)``."""
        return self.restorations(full_precision(image))[-1]

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The residual of scan and restoration, mean over channels and steps, in the body, smoothed."""
        whole = full_precision(image)
        differences = torch.stack([self.difference(clean, whole) for clean in self.restorations(whole)])
        mean = differences.mean(0) * foreground(whole)
        smoothed: Tensor = self.smoothing(mean)
        return smoothed
