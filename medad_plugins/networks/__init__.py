"""Networks: scan in, anomaly map out."""

from __future__ import annotations

from medad_plugins.networks.ae_flow import AEFlow
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import BACKBONES, ResNetTaps, ScanToBackbone
from medad_plugins.networks.conv_ae import ConvAE
from medad_plugins.networks.ea2d import EA2D
from medad_plugins.networks.edc import EDC
from medad_plugins.networks.feature_discriminator import FeatureDiscriminator
from medad_plugins.networks.fine_tuned import FineTunedNetwork
from medad_plugins.networks.flow import CouplingFlow
from medad_plugins.networks.gaussian_mahalanobis import GaussianMahalanobis
from medad_plugins.networks.gaussians import PatchGaussians
from medad_plugins.networks.memory_bank import MemoryBank
from medad_plugins.networks.one_class_bottleneck import OneClassBottleneck
from medad_plugins.networks.p_vq import PVQ
from medad_plugins.networks.padim import PaDiM
from medad_plugins.networks.patch_embedding import PatchEmbedding
from medad_plugins.networks.patch_quantizer import PatchQuantizer
from medad_plugins.networks.patchcore import PatchCore
from medad_plugins.networks.projection import Projection
from medad_plugins.networks.rd_plus_plus import RDPlusPlus
from medad_plugins.networks.recontrast import ReContrast
from medad_plugins.networks.residual_decoder import ResidualDecoder
from medad_plugins.networks.reverse_distillation import RD4AD, ReverseDistillation
from medad_plugins.networks.self_attention import GatedSelfAttention
from medad_plugins.networks.shrunk_gaussian import ShrunkGaussian
from medad_plugins.networks.simplenet import SimpleNet
from medad_plugins.networks.stfpm import STFPM
from medad_plugins.networks.upsampling_decoder import UpsamplingDecoder
from medad_plugins.networks.weights import KNOWN_WEIGHTS, find_weights, load_pretrained

__all__ = [
    "BACKBONES",
    "EA2D",
    "EDC",
    "KNOWN_WEIGHTS",
    "PVQ",
    "RD4AD",
    "STFPM",
    "AEFlow",
    "AnomalyNetwork",
    "ConvAE",
    "CouplingFlow",
    "FeatureDiscriminator",
    "FineTunedNetwork",
    "GatedSelfAttention",
    "GaussianMahalanobis",
    "MemoryBank",
    "OneClassBottleneck",
    "PaDiM",
    "PatchCore",
    "PatchEmbedding",
    "PatchGaussians",
    "PatchQuantizer",
    "Projection",
    "RDPlusPlus",
    "ReContrast",
    "ResNetTaps",
    "ResidualDecoder",
    "ReverseDistillation",
    "ScanToBackbone",
    "ShrunkGaussian",
    "SimpleNet",
    "UpsamplingDecoder",
    "find_weights",
    "load_pretrained",
]
