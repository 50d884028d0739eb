"""MS-NF: normalising flows on a frozen backbone's features of several scales; FastFlow and CFLOW by subnets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps
from medad_plugins.networks.batch_noise import batch_normal
from medad_plugins.networks.blocks.aligned_taps import channel_scale
from medad_plugins.networks.blocks.flow import CouplingFlow, Subnet, convolutional_subnet
from medad_plugins.networks.blocks.fourier_positions import FourierPositions
from medad_plugins.networks.families.feature_rebuilding import joined_layers
from medad_plugins.scorers import MapToImage

__all__ = ["MSNF", "AttentiveSubnet", "PlaceSubnet"]


class AttentiveSubnet(nn.Module):
    """A 3x3 convolution whose channels, then places, are weighted by attention, and a 1x1 convolution.

    Attention is safe here, and not before the flow: a sub-network need not be invertible, and what shrinks a flow's
    input raises its likelihood without end.

    Shape:
        ``(B, in_channels, *grid)`` to ``(B, out_channels, *grid)``.

    Reference:
        Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        narrow = max(in_channels // 16, 4)
        self.before = nn.Sequential(conv(in_channels, in_channels, 3, padding=1), nn.ReLU())
        self.of_channels = nn.Sequential(
            nn.Linear(in_channels, narrow), nn.ReLU(inplace=True), nn.Linear(narrow, in_channels)
        )
        self.of_places = conv(2, 1, 7, padding=3)
        self.after = conv(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.before(x)
        values = hidden.flatten(2)
        weights = torch.sigmoid(self.of_channels(values.mean(2)) + self.of_channels(values.amax(2)))
        hidden = hidden * weights.reshape(list(weights.shape) + [1] * (hidden.dim() - 2))
        pooled = torch.cat([hidden.mean(1, keepdim=True), hidden.amax(1, keepdim=True)], 1)
        out: Tensor = self.after(hidden * torch.sigmoid(self.of_places(pooled)))
        return out


class PlaceSubnet(nn.Module):
    """Two 1x1 convolutions that are told where a place is, and see no neighbour: CFLOW's conditional form.

    Shape:
        ``(B, in_channels, *grid)`` to ``(B, out_channels, *grid)``.

    Reference:
        Gudovskiy et al., "CFLOW-AD", WACV 2022.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.positions = FourierPositions(spatial_dims, frequencies=16, scale=1.0)
        self.of_features = conv(in_channels, 2 * in_channels, 1)
        self.of_positions = conv(self.positions.channels, 2 * in_channels, 1, bias=False)
        self.after = conv(2 * in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.of_features(x) + self.of_positions(self.positions(x).to(x.dtype))
        out: Tensor = self.after(functional.relu(hidden))
        return out


SUBNETS: dict[str, Subnet] = {
    "attention": AttentiveSubnet,
    "convolution": convolutional_subnet,
    "place": PlaceSubnet,
}
SCORES = ("latent", "likelihood")


class MSNF(AnomalyNetwork):
    """After MS-NF: a flow for each scale of a frozen backbone's features makes these normally distributed.

    Trained with `medad_plugins.losses.FlowLikelihoodLoss`. Where what the flows make of a scan's features is unlikely,
    the scan is abnormal; the scales' maps are averaged. With ``subnet="convolution"`` this is FastFlow's network, with
    ``subnet="place"`` and ``score="likelihood"`` CFLOW's.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: frozen; a key of `medad_plugins.networks.TAPS`.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: finest first, see `make_taps`; None for those of strides 4, 8 and 16.
        subnet: of the coupling steps: ``"attention"``, ``"convolution"`` or ``"place"``.
        steps: of each flow.
        clamp: bound of the couplings' log-scales, see `CouplingStep`.
        scaling: of the features, see `channel_scale`. Nothing in front of a flow learns.
        noise: standard deviation of the normal noise that training adds to the scaled features; of the zeros of a ReLU
            a flow learns spikes.
        score: ``"latent"``: one minus the density of the flow's output over its highest, a geometric mean over the
            channels, FastFlow's form; ``"likelihood"``: the negative log-likelihood of the features, in nats a channel.
        sigma: Gaussian smoothing of the map, in pixels of the image.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    References:
        Xiao et al., "MS-NF", Computer Science and Information Systems 22(1), 2025; Yu et al., "FastFlow",
        arXiv 2111.07677, 2021; Gudovskiy et al., "CFLOW-AD", WACV 2022.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        layers: Sequence[int] | None = None,
        subnet: str = "attention",
        steps: int = 8,
        clamp: float = 2.0,
        scaling: str = "standard",
        noise: float = 0.3,
        score: str = "latent",
        sigma: float = 0.0,
        reduction: str | float = 0.05,
    ) -> None:
        super().__init__(reduction)
        if subnet not in SUBNETS or score not in SCORES:
            raise InputError(
                "there is no such sub-network or score",
                where="subnet, score",
                expected=f"one of {', '.join(SUBNETS)}, and one of {', '.join(SCORES)}",
                found=f"{subnet}, {score}",
            )
        self.noise, self.by_likelihood = noise, score == "likelihood"
        layers = joined_layers(backbone) if layers is None else layers
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        channels = self.features.channels
        self.scales = nn.ModuleList(channel_scale(scaling, spatial_dims, count) for count in channels)
        self.flows = nn.ModuleList(
            CouplingFlow(count, spatial_dims, steps, SUBNETS[subnet], clamp) for count in channels
        )
        self.to_image = MapToImage(spatial_dims, self.pool, sigma, keep_score="none")

    def flow_parameters(self) -> list[nn.Parameter]:
        """What learns: the flows."""
        return list(self.flows.parameters())

    def training_output(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Of each scale the latent features ``(B, C_k, *grid_k)`` and the log-determinants ``(B,)``."""
        latents: list[Tensor] = []
        log_dets: list[Tensor] = []
        for tap, scale, flow in zip(self.features.remembered(image), self.scales, self.flows):
            features = scale(tap.float())
            if self.noise > 0:
                features = features + self.noise * batch_normal(features.shape, features)
            z, log_det = flow(features)
            latents.append(z)
            log_dets.append(log_det)
        return latents, log_dets

    def anomaly_map(self, image: Tensor) -> Tensor:
        """How unlikely the features of a place are, mean over the scales: 0..1, or a likelihood's nats of any sign."""
        size = list(image.shape[2:])
        taps = self.features(image)
        fused = torch.zeros([image.shape[0], 1] + size, device=image.device)
        for index, (scale, flow) in enumerate(zip(self.scales, self.flows)):  # TorchScript takes no list beside these
            z, log_dets = flow.local(scale(taps[index].float()))  # type: ignore[operator]
            energy = 0.5 * z.square().mean(1, keepdim=True)
            found = energy - log_dets / z.shape[1] if self.by_likelihood else 1 - torch.exp(-energy)
            fused = fused + self.to_image(found, size)
        return fused / len(taps)
