"""Normalizing flow of affine coupling steps for feature maps, in 2D and 3D."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CouplingFlow", "CouplingStep", "ResidualSubnet", "convolutional_subnet", "log_density"]

SOFTNESS = 0.1  # of the sub-networks' outputs: a fresh flow is close to its permutations

Subnet = Callable[[int, int, int], nn.Module]


def convolutional_subnet(spatial_dims: int, in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Module:
    """Convolution, ReLU, 1x1 convolution, with a hidden width of the input's: FastFlow's form."""
    conv = Conv[Conv.CONV, spatial_dims]
    return nn.Sequential(
        conv(in_channels, in_channels, kernel_size, padding=kernel_size // 2),
        nn.ReLU(inplace=True),
        conv(in_channels, out_channels, 1),
    )


class ResidualSubnet(nn.Module):
    """Two 3x3 convolutions with batch norms beside a 1x1 shortcut.

    Its norms see the whole batch while training, so a case's log-determinant then depends on its batch mates.

    Shape:
        ``(B, in_channels, *grid)`` to ``(B, out_channels, *grid)``.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        self.body = nn.Sequential(
            conv(in_channels, out_channels, 3, padding=1, bias=False),
            norm(out_channels),
            nn.ReLU(inplace=True),
            conv(out_channels, out_channels, 3, padding=1, bias=False),
            norm(out_channels),
        )
        self.shortcut = conv(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class CouplingStep(nn.Module):
    """One invertible step: half of the channels scale and shift the others, then all are scaled, shifted and permuted.

    The permutation is drawn once by PyTorch's generator and kept in the state dict.

    Args:
        channels: at least 2; of an odd count the conditioning half is the larger.
        spatial_dims: 2 or 3.
        subnet: makes the sub-network from ``(spatial_dims, in_channels, out_channels)``; it need not be invertible.
        clamp: bound of the coupling's log-scales, approached softly by a tanh.

    Shape:
        ``(B, C, *grid)`` to the same, float32, and the log-determinants ``(B,)`` of the Jacobian, one for each case.
    """

    def __init__(self, channels: int, spatial_dims: int, subnet: Subnet, clamp: float = 2.0) -> None:
        super().__init__()
        if channels < 2 or clamp <= 0:
            raise ValueError(f"channels must be at least 2 and clamp positive, got {channels} and {clamp}.")
        self.passive = channels - channels // 2
        self.active = channels // 2
        self.clamp = clamp
        self.softness = SOFTNESS  # TorchScript takes no constants of the file
        self.subnet = subnet(spatial_dims, self.passive, 2 * self.active)
        shape = [1, channels] + [1] * spatial_dims
        self.raw_scale = nn.Parameter(torch.full(shape, math.log(math.expm1(1))))  # a softplus of 1
        self.shift = nn.Parameter(torch.zeros(shape))
        self.permutation: Tensor = nn.Buffer(torch.randperm(channels))

    def _scale(self) -> Tensor:
        """Positive scales of all channels ``(1, C, 1, ...)``, 1 in a fresh step."""
        return functional.softplus(self.raw_scale)

    def _coupling(self, passive: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scales, within the clamp, and shifts of the active half."""
        raw = self.softness * self.subnet(passive).to(self.shift.dtype)
        return self.clamp * torch.tanh(raw[:, : self.active]), raw[:, self.active :]

    def local(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` gives, with the log-determinant as the map of what each location adds to it."""
        # out of autocast's half precision: its rounding of the volume change would add up over all dimensions
        x = x.to(self.shift.dtype)
        passive, active = x[:, : self.passive], x[:, self.passive :]
        log_scale, shift = self._coupling(passive)
        scale = self._scale()
        out = torch.cat([passive, active * torch.exp(log_scale) + shift], 1) * scale + self.shift
        log_dets = log_scale.sum(1, keepdim=True) + torch.log(scale).sum()
        return out.index_select(1, self.permutation), log_dets

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out, log_dets = self.local(x)
        return out, log_dets.flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """What `forward` takes to ``y``."""
        x = y.index_select(1, torch.argsort(self.permutation))
        x = (x - self.shift) / self._scale()
        passive, active = x[:, : self.passive], x[:, self.passive :]
        log_scale, shift = self._coupling(passive)
        return torch.cat([passive, (active - shift) * torch.exp(-log_scale)], 1)


class CouplingFlow(nn.Module):
    """Invertible map of feature maps to a standard normal distribution, in coupling steps.

    What it takes should not be trainable by the flow's likelihood, which anything that shrinks its input would raise
    without end.

    Args:
        channels: of the features.
        spatial_dims: 2 or 3.
        steps: how many coupling steps.
        subnet: of each step, see `CouplingStep`.
        clamp: see `CouplingStep`.

    Shape:
        ``(B, C, *grid)`` to ``(B, C, *grid)`` and the log-determinants ``(B,)``.

    References:
        Dinh et al., "Density estimation using Real NVP", ICLR 2017; Yu et al., "FastFlow", arXiv 2111.07677, 2021.
    """

    def __init__(
        self,
        channels: int,
        spatial_dims: int = 2,
        steps: int = 8,
        subnet: Subnet = convolutional_subnet,
        clamp: float = 2.0,
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(CouplingStep(channels, spatial_dims, subnet, clamp) for _ in range(steps))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        z = features
        log_det = torch.zeros(z.shape[0], device=z.device)
        for step in self.steps:
            z, change = step(z)
            log_det = log_det + change
        return z, log_det

    def local(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` gives, with the log-determinants as maps ``(B, 1, *grid)`` of what each location adds."""
        z = features
        log_dets = torch.zeros_like(z[:, :1], dtype=torch.float32)
        for step in self.steps:
            z, change = step.local(z)  # type: ignore[operator]
            log_dets = log_dets + change
        return z, log_dets

    def inverse(self, z: Tensor) -> Tensor:
        """Features ``(B, C, *grid)`` that the flow takes to ``z``."""
        for step in reversed(self.steps):
            assert isinstance(step, CouplingStep)
            z = step.inverse(z)
        return z


def log_density(z: Tensor) -> Tensor:
    """Log-density of each value under the standard normal distribution, the shape of ``z``."""
    return -0.5 * (z * z + math.log(2 * math.pi))
