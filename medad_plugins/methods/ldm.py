"""Latent diffusion: a partial diffusion of an autoencoder's latents, decoded again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.nets import AutoencoderKL
from torch import Tensor, nn

from medad_plugins.diffusion import PartialDiffusion
from medad_plugins.errors import InputError
from medad_plugins.losses import gaussian_divergence, latent_distance
from medad_plugins.networks import batch_normal
from medad_plugins.networks.blocks.perceptual import PerceptualResidual

__all__ = ["LDM", "AutoencodingTerms"]

COMPARED = ("decoded", "scan")


def _groups(channels: Sequence[int]) -> int:
    """Most groups of a group norm, of two channels or more, that divide all widths; at most 32."""
    most = max(1, min(32, min(channels) // 2))
    return next(groups for groups in range(most, 0, -1) if all(width % groups == 0 for width in channels))


class LDM(PartialDiffusion):
    """Latent diffusion: MONAI's ``AutoencoderKL``, and a `PartialDiffusion` of its latents.

    Trained in two stages: the autoencoder by `AutoencodingTerms`; then, once its latents are known to have a standard
    deviation, by which they are divided from then on, the U-Net by `medad_plugins.losses.DenoisingTerms`. A scan's
    latent is noised in part, cleaned and decoded. The map is the residual between that and what the autoencoder makes
    of the scan without any noise, so that what the autoencoder cannot draw does not count, or the scan itself.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        channels: of the autoencoder's grids, finest first; each but the first halves the edges.
        latent_channels: of the latent.
        autoencoder_blocks: residual blocks of each of its grids.
        compared: to what the cleaned scan is compared, ``"decoded"`` or ``"scan"``.
        settings: see `PartialDiffusion`, all of the latent and its grid; ``boxes`` mean boxes of it.

    Raises:
        InputError: as `PartialDiffusion`; a scan's edges cannot be halved so many times.

    References:
        Rombach et al., "High-resolution image synthesis with latent diffusion models", CVPR 2022; for anomalies:
        Pinaya et al., "Fast unsupervised brain anomaly detection and segmentation with diffusion models", MICCAI 2022.
    """

    scale: Tensor

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        channels: Sequence[int] = (64, 128, 256),
        latent_channels: int = 3,
        autoencoder_blocks: int = 2,
        compared: str = "decoded",
        **settings: Any,
    ) -> None:
        super().__init__(spatial_dims, latent_channels, **settings)
        if compared not in COMPARED:
            raise ValueError(f"compared must be one of {COMPARED}, got {compared!r}.")
        self.compared = compared
        # of latents, which have no range
        self.scheduler.clip_sample = False
        self.autoencoder = AutoencoderKL(
            spatial_dims,
            in_channels,
            in_channels,
            num_res_blocks=[autoencoder_blocks] * len(channels),
            channels=channels,
            attention_levels=[False] * len(channels),
            latent_channels=latent_channels,
            norm_num_groups=_groups(channels),
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )
        self.step = 2 ** (len(channels) - 1)
        self.register_buffer("scale", torch.ones(()))

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of scans' latents, not scaled.

        Raises:
            InputError: an edge of the scans cannot be halved as often as the autoencoder does.
        """
        if any(edge % self.step for edge in image.shape[2:]):
            raise InputError(
                "the autoencoder cannot halve the scan so often",
                where="image_size",
                expected=f"multiples of {self.step}",
                found=" x ".join(str(edge) for edge in image.shape[2:]),
            )
        mean, deviation = self.autoencoder.encode(image)
        return mean, deviation

    def decode(self, latent: Tensor) -> Tensor:
        """Scans of scaled latents, intensities about 0..1."""
        scan: Tensor = self.autoencoder.decode(latent / self.scale)
        return scan

    def autoencoded(self, image: Tensor) -> Tensor:
        """What the autoencoder makes of scans, ``(B, C, *spatial)``."""
        return self.decode(self.encode(image)[0] * self.scale)

    def sampled(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents drawn from their distributions, and the means and standard deviations of these; none is scaled."""
        mean, deviation = self.encode(image)
        return mean + deviation * batch_normal(mean.shape, mean), mean, deviation

    def embed(self, image: Tensor) -> Tensor:
        """The first two moments of each scan's latent values, ``(B, 2)``."""
        mean, deviation = (part.flatten(1).double() for part in self.encode(image))
        return torch.stack([mean.mean(1), (mean.square() + deviation.square()).mean(1)], 1)

    def set_centre(self, mean: Tensor) -> None:
        """Take the mean moments ``(2,)`` of normal scans: their latents have unit variance from now on."""
        variance = mean[1] - mean[0].square()
        self.scale.copy_(variance.clamp_min(1e-12).rsqrt())

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The U-Net's prediction for latents noised to random times, and its target; the autoencoder does not learn."""
        with torch.no_grad():
            latent = self.sampled(image)[0].float() * self.scale
        # which it takes to -1..1, as it does scans
        scan, target, _, drawn = self.training_noise({"image": (latent + 1) / 2}, image.device)
        return self.noising(scan, self.unet, **drawn), target

    def _cleaned(self, image: Tensor, seed: int) -> Tensor:
        latent = self.encode(self.whole(image))[0] * self.scale
        return self.decode(self._back(latent, None, torch.Generator().manual_seed(seed), {}))

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The residual to what is compared, the mean over draws, perhaps with a median filter; float32."""
        self.require_eager()
        whole = self.whole(image)
        other = whole if self.compared == "scan" else self.autoencoded(whole)
        maps = [self.difference(self._cleaned(image, seed), other) for seed in range(self.draws)]
        values: Tensor = self.median(torch.stack(maps).mean(0))
        return values.float()


class AutoencodingTerms(nn.Module):
    """Terms of the first stage: ``residual``, absolute; ``divergence``, summed over a latent; perhaps ``looks``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: of the perceptual term, see `PerceptualResidual`.
        weights: of the backbone; ``"none"`` leaves the term out.
    """

    def __init__(
        self, spatial_dims: int = 2, in_channels: int = 1, backbone: str = "resnet18", weights: str = "none"
    ) -> None:
        super().__init__()
        self.looks: nn.Module | None = None
        if weights != "none":
            self.looks = PerceptualResidual(spatial_dims, in_channels, backbone, weights)

    def forward(self, network: LDM, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Of the scans ``batch["image"]``."""
        image = batch["image"]
        latent, mean, deviation = network.sampled(image)
        rebuilt = network.autoencoder.decode(latent)
        terms = {
            "residual": latent_distance(rebuilt, image, "l1"),
            "divergence": gaussian_divergence(mean, 2 * deviation.log(), "sum"),
        }
        if self.looks is not None:
            terms["looks"] = self.looks(rebuilt, image).mean()
        return terms
