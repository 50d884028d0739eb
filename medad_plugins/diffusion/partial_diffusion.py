"""A scan is noised in part and cleaned again, and what does not come back is abnormal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from monai.networks.nets import DiffusionModelUNet
from monai.utils import OptionalImportError
from torch import Tensor, nn

from medad_plugins.diffusion.box_grid import box_grid
from medad_plugins.diffusion.noise_kinds import draw_noise
from medad_plugins.diffusion.noising import NoisingBatch, NoisingInferer
from medad_plugins.diffusion.respaced_scheduler import RespacedDDPMScheduler
from medad_plugins.errors import InputError
from medad_plugins.networks import AnomalyNetwork, TimeUNet
from medad_plugins.scorers import MedianSmoothing, ResidualMap

__all__ = ["UNETS", "PartialDiffusion"]

UNETS = ("own", "monai")


def _monai_unet(
    spatial_dims: int,
    in_channels: int,
    width: int,
    multipliers: Sequence[int],
    blocks: int,
    attention_levels: Collection[int],
) -> nn.Module:
    """MONAI's U-Net of the same settings as `TimeUNet`."""
    channels = [width * factor for factor in multipliers]
    try:
        return DiffusionModelUNet(
            spatial_dims,
            in_channels,
            in_channels,
            num_res_blocks=blocks,
            channels=channels,
            attention_levels=[level in attention_levels for level in range(len(channels))],
            norm_num_groups=next(groups for groups in range(min(32, width), 0, -1) if width % groups == 0),
            num_head_channels=[64 if count % 64 == 0 else count for count in channels],
        )
    except OptionalImportError as error:
        todo = "pip install einops (or medad-plugins[diffusion]), or leave --unet at own"
        raise InputError("MONAI's diffusion network needs the package einops", where="unet", todo=todo) from error


class PartialDiffusion(AnomalyNetwork):
    """A diffusion model of normal scans that removes the noise which was added to a scan.

    Trained with `medad_plugins.losses.DenoisingTerms`. A scan gets the noise of time ``level - 1`` and goes back in
    ``steps``; the map is the residual between the scan and what has become of it. The noise is drawn anew from a fixed
    seed in every call and is the same for every case, so that a scan has one map; it cannot be exported.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        unet: ``"own"``, `TimeUNet`, or ``"monai"``, ``DiffusionModelUNet``, which needs the package einops and edges
            that can be halved ``len(multipliers) - 1`` times.
        width, multipliers, blocks, attention_levels: of the U-Net, see `TimeUNet`.
        num_train_timesteps: times of the whole diffusion.
        trained_timesteps: how many of the first times are trained; None trains all.
        schedule: of the betas, see MONAI's ``NoiseSchedules``.
        predicts: ``"epsilon"``, the noise, or ``"sample"``, the clean scan.
        noise: its kind, see `draw_noise`.
        noise_period: of simplex noise, in pixels, see `draw_noise`; AnoDDPM's is a quarter of the image.
        boxes: with 2 or more, the boxes of a grid of so many along every axis are noised and cleaned one at a time,
            with the others as they are; 1 noises the whole scan.
        level: how far a scan is noised.
        steps: in which it goes back; ``level`` takes all times, 1 is the network's first answer.
        eta: share of the noise that every step adds again: 1 (DDPM) or 0 (DDIM), see `RespacedDDPMScheduler`.
        draws: of the noise, whose maps are averaged.
        residual: of the map, see `medad_plugins.scorers.residual_map`.
        median: edge of a median filter on the map, odd; 1 for none.
        reduction: of the map, see `medad_plugins.scorers.MapPool`.
        scored_noise: the kind of a scan that is judged; None is that of the training.
        noise_settings: further arguments of the training's noise, see `draw_noise`.
        condition: length of a vector that ``"own"`` is told besides the time, which a subclass gives in `told`.

    Raises:
        InputError: level and steps do not fit the diffusion, or a package is missing.

    References:
        Ho et al., "Denoising diffusion probabilistic models", NeurIPS 2020; noised in part for anomalies: Wyatt et al.,
        "AnoDDPM", CVPR workshops 2022, also of simplex noise; ``boxes``: Behrendt et al., "Patched diffusion models for
        unsupervised anomaly detection in brain MRI", MIDL 2023.
    """

    # constructor keywords of older model files
    renamed_settings: ClassVar[dict[str, str]] = {"taught_timesteps": "trained_timesteps"}

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        unet: str = "own",
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 4),
        blocks: int = 2,
        attention_levels: Collection[int] = (2,),
        num_train_timesteps: int = 1000,
        trained_timesteps: int | None = None,
        schedule: str = "linear_beta",
        predicts: str = "epsilon",
        noise: str = "gaussian",
        boxes: int = 1,
        level: int = 250,
        steps: int = 250,
        eta: float = 1.0,
        draws: int = 1,
        residual: str = "l1",
        median: int = 1,
        reduction: str | float = "mean",
        noise_period: float = 64.0,
        scored_noise: str | None = None,
        noise_settings: Mapping[str, Any] | None = None,
        condition: int = 0,
    ) -> None:
        super().__init__(reduction)
        if unet not in UNETS or (condition and unet != "own"):
            raise ValueError(f"unet must be one of {UNETS}, with a condition 'own', got {unet!r}.")
        if draws < 1 or boxes < 1 or median < 1 or median % 2 == 0:
            raise ValueError(f"draws, boxes and median must be positive, median odd: {draws}, {boxes}, {median}.")
        trained = num_train_timesteps if trained_timesteps is None else trained_timesteps
        if not level <= trained <= num_train_timesteps:
            expected = f"{level}, the level, to {num_train_timesteps}"
            raise InputError(
                "the level is not among the trained times", where="trained_timesteps", expected=expected, found=trained
            )
        make = partial(TimeUNet, condition=condition) if unet == "own" else _monai_unet
        self.unet = make(spatial_dims, in_channels, width, multipliers, blocks, attention_levels)
        self.scheduler = RespacedDDPMScheduler(
            steps,
            num_train_timesteps=num_train_timesteps,
            schedule=schedule,
            prediction_type=predicts,
            level=level,
            eta=eta,
        )
        self.training_noise = NoisingBatch(trained, noise, predicts, boxes, noise_period, noise_settings)
        self.noising = NoisingInferer(self.scheduler)
        self.boxes, self.level, self.draws = boxes, level, draws
        settings = noise_settings if scored_noise in (None, noise) else None
        self.draw_noise: Callable[..., Tensor] = partial(
            draw_noise, scored_noise or noise, period=noise_period, **(settings or {})
        )
        self.difference = ResidualMap(residual)
        self.median = MedianSmoothing(spatial_dims, median)

    @staticmethod
    def whole(image: Tensor) -> Tensor:
        """Scans of half precision as float32; others as they are."""
        return image.to(torch.promote_types(image.dtype, torch.float32))

    @staticmethod
    def require_eager() -> None:
        """Refuse to be exported."""
        if torch.jit.is_scripting() or torch.compiler.is_exporting():
            raise RuntimeError("noise is drawn anew in every call: the map cannot be exported")

    def told(self, image: Tensor) -> dict[str, Tensor]:
        """What the U-Net is told of scans without noise, 0..1, besides the time, as its arguments: nothing."""
        return {}

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The U-Net's prediction for scans noised to random times, and its target."""
        scan, target, _, drawn = self.training_noise({"image": image}, image.device)
        return self.noising(scan, self.unet, **drawn, **self.told(image)), target

    def _back(
        self,
        scan: Tensor,
        noised: Tensor | None,
        generator: torch.Generator,
        told: Mapping[str, Tensor],
        scheduler: RespacedDDPMScheduler | None = None,
    ) -> Tensor:
        """Scans of -1..1 noised to a level and cleaned, all with the same noise; a scheduler is that of another one."""
        scheduler = self.scheduler if scheduler is None else scheduler
        shape = [1, *scan.shape[1:]]

        def noise() -> Tensor:
            # of no case, so that a map does not depend on a place in the batch
            return self.draw_noise(shape, generator).to(scan)

        start = torch.full((len(scan),), scheduler.level - 1, device=scan.device)
        sample: Tensor = scheduler.add_noise(scan, noise().expand_as(scan), start)
        for time in scheduler.timesteps.tolist():
            sample = sample if noised is None else torch.where(noised, sample, scan)
            output = self.unet(sample, torch.full_like(start, time), **told)
            sample, deviation, _ = scheduler.posterior(output.to(sample.dtype), time, sample)
            if deviation is not None:
                sample = sample + deviation * noise()
        return sample

    def _cleaned(self, image: Tensor, seed: int) -> Tensor:
        """Scans ``(B, C, *spatial)`` of 0..1 as one draw of noise leaves them."""
        whole = self.whole(image)
        scan, told = whole * 2 - 1, self.told(whole)
        if self.boxes == 1:
            return (self._back(scan, None, torch.Generator().manual_seed(seed), told) + 1) / 2
        cleaned = scan
        for box in box_grid(scan.shape[2:], self.boxes).to(scan.device):
            # every box with the same noise
            cleaned = torch.where(box, self._back(scan, box, torch.Generator().manual_seed(seed), told), cleaned)
        return (cleaned + 1) / 2

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scans noised and cleaned again, ``(B, C, *spatial)``, intensities 0..1, the mean over draws."""
        return torch.stack([self._cleaned(image, seed) for seed in range(self.draws)]).mean(0)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The residual on 0..1, the mean over draws, perhaps with a median filter; float32."""
        self.require_eager()
        whole = self.whole(image)
        maps = [self.difference(self._cleaned(image, seed), whole) for seed in range(self.draws)]
        values: Tensor = self.median(torch.stack(maps).mean(0))
        return values.float()
