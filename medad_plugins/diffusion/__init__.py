"""Diffusion models: how they are taught and drawn from."""

from __future__ import annotations

from medad_plugins.diffusion.diffusion_file import DiffusionFile
from medad_plugins.diffusion.generated_scans import GeneratedScans
from medad_plugins.diffusion.noising import NoisingBatch, NoisingInferer
from medad_plugins.diffusion.respaced_scheduler import RespacedDDPMScheduler
from medad_plugins.diffusion.sampling import draw_samples

__all__ = ["DiffusionFile", "GeneratedScans", "NoisingBatch", "NoisingInferer", "RespacedDDPMScheduler", "draw_samples"]
