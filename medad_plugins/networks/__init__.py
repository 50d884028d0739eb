"""Networks: scan in, anomaly map out."""

from __future__ import annotations

from medad_plugins.networks.aae import AAE
from medad_plugins.networks.ae_flow import AEFlow
from medad_plugins.networks.anogan import AnoGAN
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.attention_unet import AttentionUNet
from medad_plugins.networks.autoencoding import AutoencodingNetwork
from medad_plugins.networks.backbones import BACKBONES, ResNetTaps, ScanToBackbone
from medad_plugins.networks.batch_noise import batch_drawn, batch_normal, batch_uniform
from medad_plugins.networks.bottleneck import make_bottleneck
from medad_plugins.networks.channel_selection import ChannelSelection
from medad_plugins.networks.class_centres import ClassCentres
from medad_plugins.networks.classic import DETECTORS, ClassicDetector
from medad_plugins.networks.conv_ae import ConvAE
from medad_plugins.networks.conv_family import ConvDecoder, ConvEncoder, doubling_widths
from medad_plugins.networks.dcgan import ConvDiscriminator, DCGANEncoder, DCGANGenerator, init_dcgan
from medad_plugins.networks.deep_svdd import DeepSVDD
from medad_plugins.networks.draem import DRAEM
from medad_plugins.networks.dropout_unet import DropoutUNet
from medad_plugins.networks.ea2d import EA2D
from medad_plugins.networks.edc import EDC
from medad_plugins.networks.f_anogan import FAnoGAN
from medad_plugins.networks.feature_discriminator import FeatureDiscriminator
from medad_plugins.networks.fine_tuned import FineTunedNetwork
from medad_plugins.networks.flow import CouplingFlow
from medad_plugins.networks.fourier_positions import FourierPositions, PositionedConvolution
from medad_plugins.networks.ganomaly import GANomaly, RestartDiscriminator
from medad_plugins.networks.gaussian_mahalanobis import GaussianMahalanobis
from medad_plugins.networks.gaussians import PatchGaussians
from medad_plugins.networks.glass import GLASS, GlassLogits
from medad_plugins.networks.inpainting_block import InpaintingBlock
from medad_plugins.networks.isolation_forest import IsolationTrees
from medad_plugins.networks.kernel_density import KernelDensityHead
from medad_plugins.networks.kernel_support import KernelSupport
from medad_plugins.networks.latent_critic import LatentCritic
from medad_plugins.networks.local_outliers import LocalOutliers
from medad_plugins.networks.location_means import LocationMeans
from medad_plugins.networks.low_rank_gaussian import LowRankGaussian
from medad_plugins.networks.many_tasks import ManyTasks
from medad_plugins.networks.memae import MemAE
from medad_plugins.networks.memory_addressing import hard_shrink, look_up
from medad_plugins.networks.memory_bank import MemoryBank
from medad_plugins.networks.memory_module import MemoryModule
from medad_plugins.networks.one_class_bottleneck import OneClassBottleneck
from medad_plugins.networks.p_vq import PVQ
from medad_plugins.networks.padim import PaDiM
from medad_plugins.networks.patch_embedding import PatchEmbedding
from medad_plugins.networks.patch_quantizer import PatchQuantizer
from medad_plugins.networks.patchcl_ae import PatchCLAE
from medad_plugins.networks.patchcore import PatchCore
from medad_plugins.networks.perceptual import PerceptualResidual
from medad_plugins.networks.pixel_predictor import PixelPredictor
from medad_plugins.networks.plain_unet import PlainUNet
from medad_plugins.networks.pmsacl import PMSACL
from medad_plugins.networks.pooling_unet import PoolingUNet
from medad_plugins.networks.position_memory import MemoryMatrices, MemoryQueues
from medad_plugins.networks.pretext_classifier import PretextClassifier
from medad_plugins.networks.projection import Projection
from medad_plugins.networks.ranked_residuals import RankedResiduals
from medad_plugins.networks.rd_plus_plus import RDPlusPlus
from medad_plugins.networks.realnet import RealNet
from medad_plugins.networks.recontrast import ReContrast
from medad_plugins.networks.residual_coder import ResidualCoder
from medad_plugins.networks.residual_decoder import ResidualDecoder
from medad_plugins.networks.residual_gan import CriticTrunk, ResidualCritic, ResidualGenerator
from medad_plugins.networks.reverse_distillation import RD4AD, ReverseDistillation
from medad_plugins.networks.salad import SALAD
from medad_plugins.networks.self_attention import GatedSelfAttention
from medad_plugins.networks.shrunk_gaussian import ShrunkGaussian
from medad_plugins.networks.simplenet import SimpleNet
from medad_plugins.networks.spectral_norm import SpectralNorm
from medad_plugins.networks.squid import SQUID
from medad_plugins.networks.stfpm import STFPM
from medad_plugins.networks.time_unet import TimeUNet
from medad_plugins.networks.upsampling_decoder import UpsamplingDecoder
from medad_plugins.networks.vae import VAE
from medad_plugins.networks.vector_detector import VectorDetector
from medad_plugins.networks.vector_preparation import VectorPreparation
from medad_plugins.networks.weights import KNOWN_WEIGHTS, find_weights, load_pretrained
from medad_plugins.networks.wide_residual import WideResidualCoder

__all__ = [
    "AAE",
    "BACKBONES",
    "DETECTORS",
    "DRAEM",
    "EA2D",
    "EDC",
    "GLASS",
    "KNOWN_WEIGHTS",
    "PMSACL",
    "PVQ",
    "RD4AD",
    "SALAD",
    "SQUID",
    "STFPM",
    "VAE",
    "AEFlow",
    "AnoGAN",
    "AnomalyNetwork",
    "AttentionUNet",
    "AutoencodingNetwork",
    "ChannelSelection",
    "ClassCentres",
    "ClassicDetector",
    "ConvAE",
    "ConvDecoder",
    "ConvDiscriminator",
    "ConvEncoder",
    "CouplingFlow",
    "CriticTrunk",
    "DCGANEncoder",
    "DCGANGenerator",
    "DeepSVDD",
    "DropoutUNet",
    "FAnoGAN",
    "FeatureDiscriminator",
    "FineTunedNetwork",
    "FourierPositions",
    "GANomaly",
    "GatedSelfAttention",
    "GaussianMahalanobis",
    "GlassLogits",
    "InpaintingBlock",
    "IsolationTrees",
    "KernelDensityHead",
    "KernelSupport",
    "LatentCritic",
    "LocalOutliers",
    "LocationMeans",
    "LowRankGaussian",
    "ManyTasks",
    "MemAE",
    "MemoryBank",
    "MemoryMatrices",
    "MemoryModule",
    "MemoryQueues",
    "OneClassBottleneck",
    "PaDiM",
    "PatchCLAE",
    "PatchCore",
    "PatchEmbedding",
    "PatchGaussians",
    "PatchQuantizer",
    "PerceptualResidual",
    "PixelPredictor",
    "PlainUNet",
    "PoolingUNet",
    "PositionedConvolution",
    "PretextClassifier",
    "Projection",
    "RDPlusPlus",
    "RankedResiduals",
    "ReContrast",
    "RealNet",
    "ResNetTaps",
    "ResidualCoder",
    "ResidualCritic",
    "ResidualDecoder",
    "ResidualGenerator",
    "RestartDiscriminator",
    "ReverseDistillation",
    "ScanToBackbone",
    "ShrunkGaussian",
    "SimpleNet",
    "SpectralNorm",
    "TimeUNet",
    "UpsamplingDecoder",
    "VectorDetector",
    "VectorPreparation",
    "WideResidualCoder",
    "batch_drawn",
    "batch_normal",
    "batch_uniform",
    "doubling_widths",
    "find_weights",
    "hard_shrink",
    "init_dcgan",
    "load_pretrained",
    "look_up",
    "make_bottleneck",
]
