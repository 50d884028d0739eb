"""Deep perceptual autoencoder: reconstructions that are to look like the scan to a frozen backbone."""

from __future__ import annotations

from medad_plugins.methods.deep_perceptual_ae.network import DeepPerceptualAE

__all__ = ["DeepPerceptualAE"]
