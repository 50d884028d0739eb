"""Diffusion models: how they are trained, sampled, and used to score a scan."""

from __future__ import annotations

from medad_plugins.diffusion.box_grid import box_grid
from medad_plugins.diffusion.diffusion_file import DiffusionFile
from medad_plugins.diffusion.generated_scans import GeneratedScans
from medad_plugins.diffusion.noise_kinds import NOISES, coarse_noise, draw_noise, pyramid_noise, synomaly_noise
from medad_plugins.diffusion.noising import NoisingBatch, NoisingInferer
from medad_plugins.diffusion.partial_diffusion import PartialDiffusion
from medad_plugins.diffusion.respaced_scheduler import RespacedDDPMScheduler
from medad_plugins.diffusion.sampling import draw_samples

__all__ = [
    "NOISES",
    "DiffusionFile",
    "GeneratedScans",
    "NoisingBatch",
    "NoisingInferer",
    "PartialDiffusion",
    "RespacedDDPMScheduler",
    "box_grid",
    "coarse_noise",
    "draw_noise",
    "draw_samples",
    "pyramid_noise",
    "synomaly_noise",
]
