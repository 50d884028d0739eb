"""AE-FLOW: a normalizing flow between a frozen encoder and a decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Norm
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps, usual_layers
from medad_plugins.networks.batch_noise import batch_normal
from medad_plugins.networks.blocks.flow import CouplingFlow, ResidualSubnet, Subnet, convolutional_subnet, log_density
from medad_plugins.networks.blocks.upsampling_decoder import UpsamplingDecoder
from medad_plugins.scorers import MapPool, residual_map

__all__ = ["AEFlow"]

SUBNETS: dict[str, Subnet] = {"convolution": convolutional_subnet, "residual": ResidualSubnet}


class AEFlow(AnomalyNetwork):
    """AE-FLOW: features of a frozen encoder become normally distributed by a flow and an image again by a decoder.

    A scan is abnormal where its features are unlikely and where its reconstruction, from the flow's output, differs in
    structure. Flow and decoder are trained together with `medad_plugins.methods.ae_flow.FlowReconstructionLoss`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: a key of `medad_plugins.networks.TAPS`; the paper's is ``wide_resnet50_2``, up to stage 3.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        steps: coupling steps of the flow.
        subnet: their sub-networks, ``"convolution"`` or ``"residual"``.
        clamp: soft bound of the couplings' log-scales.
        flow_share: of the flow in the score, 0..1; the rest is the reconstruction's.
        reduction: image score, see `medad_plugins.scorers.MapPool`; with ``"mean"`` it is the paper's.
        standardise: features are brought to mean 0 and deviation 1 channel by channel, by what training saw of them,
            before the flow. Those of a ResNet are half zeros, of deviations from 0.02 to 0.7: few channels decide.
        noise: standard deviation of the normal noise that training then adds to them; of zeros a flow learns spikes.
        layers: the one of the backbone that is taken, see `make_taps`; None for stage 3 of a ResNet, or the middle one
            of what `usual_layers` says of another backbone.

    Reference:
        Zhao, Ding and Zhang, "AE-FLOW: Autoencoders with Normalizing Flows for Medical Images Anomaly Detection",
        ICLR 2023.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "wide_resnet50_2",
        weights: str = "imagenet",
        steps: int = 8,
        subnet: str = "convolution",
        clamp: float = 2.0,
        flow_share: float = 0.9,
        reduction: str | float = "mean",
        layers: Sequence[int] | None = None,
        standardise: bool = False,
        noise: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        if subnet not in SUBNETS or not 0 <= flow_share <= 1:
            raise ValueError(
                f"subnet must be one of {tuple(SUBNETS)} and flow_share lie in 0..1, got {subnet!r} and {flow_share}."
            )
        self.flow_share = flow_share
        self.highest = 1 / math.sqrt(2 * math.pi)  # density of the standard normal at 0
        if layers is None:
            usual = usual_layers(backbone, (3,))
            layers = [usual[len(usual) // 2]]
        if len(layers) != 1:
            raise ValueError(f"layers must be one, got {list(layers)}.")
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        channels = self.features.channels[0]
        norm = Norm[Norm.BATCH, spatial_dims]
        self.standard: nn.Module = norm(channels, affine=False) if standardise else nn.Identity()
        self.noise = noise
        self.flow = CouplingFlow(channels, spatial_dims, steps, subnet=SUBNETS[subnet], clamp=clamp)
        doublings = max(2, math.ceil(math.log2(self.features.strides[0])))
        widths = [*(channels // 2**k for k in range(doublings - 1)), channels // 16]
        self.decoder = UpsamplingDecoder(spatial_dims, widths, in_channels, self.features.covers)
        self.mean_pool = MapPool("mean")
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latent features ``(B, C, *spatial / 16)``, log-determinants ``(B,)``, reconstruction and scan in -1..1."""
        features = self.standard(self.features.remembered(image)[0])
        if self.noise > 0:
            features = features + self.noise * batch_normal(features.shape, features)
        z, log_det = self.flow(features)
        return z, log_det, self.decoder(z, image.shape[2:]), image * 2 - 1

    def improbability(self, z: Tensor, size: list[int]) -> Tensor:
        """How far below its highest the density of latent features lies, ``(B, 1, *size)``, values 0..0.4.

        Its mean over a case is the paper's score, ``-exp(log p(z) / D)``, but for the constant that makes it positive.
        """
        log_p = log_density(z).mean(1, keepdim=True)
        local = functional.interpolate(self.highest - torch.exp(log_p), size, mode=self.mode, align_corners=False)
        return self.mean_pool.scaled_to(self.highest - torch.exp(log_p.flatten(1).mean(1)), local)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Weighted sum of the features' improbability and ``1 - SSIM`` of the reconstruction, not negative."""
        z, _ = self.flow(self.standard(self.features(image)[0]))
        reconstruction = (self.decoder(z, image.shape[2:]).float() + 1) / 2
        unlike = residual_map(reconstruction, image, "ssim")
        return self.flow_share * self.improbability(z, list(image.shape[2:])) + (1 - self.flow_share) * unlike
