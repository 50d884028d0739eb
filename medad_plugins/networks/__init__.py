"""Networks: scan in, anomaly map out."""

from __future__ import annotations

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import BACKBONES, ResNetTaps, ScanToBackbone
from medad_plugins.networks.conv_ae import ConvAE
from medad_plugins.networks.edc import EDC
from medad_plugins.networks.padim import PaDiM, PatchGaussians
from medad_plugins.networks.residual_decoder import ResidualDecoder
from medad_plugins.networks.weights import KNOWN_WEIGHTS, find_weights, load_pretrained

__all__ = [
    "BACKBONES",
    "EDC",
    "KNOWN_WEIGHTS",
    "AnomalyNetwork",
    "ConvAE",
    "PaDiM",
    "PatchGaussians",
    "ResNetTaps",
    "ResidualDecoder",
    "ScanToBackbone",
    "find_weights",
    "load_pretrained",
]
