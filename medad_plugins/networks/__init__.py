"""Parts of networks: blocks, coders, what is fitted and not trained, and the families that methods share."""

from __future__ import annotations

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import (
    BACKBONES,
    TAPS,
    EfficientNetLiteTaps,
    FeatureTaps,
    ResNetTaps,
    ScanToBackbone,
    VisionTransformerTaps,
    make_taps,
    usual_layers,
)
from medad_plugins.networks.backbones.tap_cache import TapCache
from medad_plugins.networks.backbones.weight_tensors import load_pretrained
from medad_plugins.networks.backbones.weights import KNOWN_WEIGHTS, find_weights, weights_found
from medad_plugins.networks.batch_noise import batch_drawn, batch_normal, batch_uniform
from medad_plugins.networks.blocks.bottleneck import make_bottleneck
from medad_plugins.networks.blocks.feature_discriminator import FeatureDiscriminator
from medad_plugins.networks.blocks.flow import CouplingFlow
from medad_plugins.networks.blocks.fourier_positions import FourierPositions, PositionedConvolution
from medad_plugins.networks.blocks.frozen_tokens import FrozenTokens
from medad_plugins.networks.blocks.linear_attention import LinearAttention
from medad_plugins.networks.blocks.location_means import LocationMeans
from medad_plugins.networks.blocks.memory_addressing import hard_shrink, look_up
from medad_plugins.networks.blocks.memory_module import MemoryModule
from medad_plugins.networks.blocks.one_class_bottleneck import OneClassBottleneck
from medad_plugins.networks.blocks.patch_embedding import PatchEmbedding
from medad_plugins.networks.blocks.perceptual import PerceptualResidual
from medad_plugins.networks.blocks.residual_decoder import ResidualDecoder
from medad_plugins.networks.blocks.scan_views import ScanViews
from medad_plugins.networks.blocks.self_attention import GatedSelfAttention
from medad_plugins.networks.blocks.spectral_norm import SpectralNorm
from medad_plugins.networks.blocks.tap_decoder import TapDecoder
from medad_plugins.networks.blocks.unit_tokens import UnitTokens
from medad_plugins.networks.blocks.upsampling_decoder import UpsamplingDecoder
from medad_plugins.networks.coders.attention_unet import AttentionUNet
from medad_plugins.networks.coders.conv_family import ConvDecoder, ConvEncoder, doubling_widths
from medad_plugins.networks.coders.dcgan import ConvDiscriminator, DCGANEncoder, DCGANGenerator, init_dcgan
from medad_plugins.networks.coders.plain_unet import PlainUNet
from medad_plugins.networks.coders.pooling_unet import PoolingUNet
from medad_plugins.networks.coders.residual_coder import ResidualCoder
from medad_plugins.networks.coders.residual_gan import CriticTrunk, ResidualCritic, ResidualGenerator
from medad_plugins.networks.coders.time_unet import TimeUNet
from medad_plugins.networks.coders.wide_residual import WideResidualCoder
from medad_plugins.networks.families.autoencoding import AutoencodingNetwork
from medad_plugins.networks.families.fine_tuned import FineTunedNetwork
from medad_plugins.networks.families.pixel_predictor import PixelPredictor
from medad_plugins.networks.families.pretext_classifier import PretextClassifier
from medad_plugins.networks.families.reverse_distillation import ReverseDistillation
from medad_plugins.networks.families.token_network import TokenNetwork
from medad_plugins.networks.families.token_reconstruction import TokenReconstruction
from medad_plugins.networks.fitted.cluster_distance import ClusterDistance
from medad_plugins.networks.fitted.density_ratio import DensityRatio
from medad_plugins.networks.fitted.gaussian_mixture import GaussianMixtureHead
from medad_plugins.networks.fitted.gaussians import PatchGaussians
from medad_plugins.networks.fitted.isolation_forest import IsolationTrees
from medad_plugins.networks.fitted.kernel_density import KernelDensityHead
from medad_plugins.networks.fitted.kernel_support import KernelSupport
from medad_plugins.networks.fitted.linear_support import LinearSupport
from medad_plugins.networks.fitted.local_outliers import LocalOutliers
from medad_plugins.networks.fitted.low_rank_gaussian import LowRankGaussian
from medad_plugins.networks.fitted.median_deviation import MedianDeviation
from medad_plugins.networks.fitted.memory_bank import MemoryBank
from medad_plugins.networks.fitted.mutual_bank import MutualBank
from medad_plugins.networks.fitted.nearest_neighbours import NearestNeighbours
from medad_plugins.networks.fitted.place_bank import PlaceBank
from medad_plugins.networks.fitted.pooled_gaussian import PooledGaussian
from medad_plugins.networks.fitted.pyod_head import PyODHead
from medad_plugins.networks.fitted.robust_gaussian import RobustGaussian
from medad_plugins.networks.fitted.scan_bank import ScanBank
from medad_plugins.networks.fitted.scan_score import ScanScore
from medad_plugins.networks.fitted.self_representation import SelfRepresentation
from medad_plugins.networks.fitted.shrunk_gaussian import ShrunkGaussian
from medad_plugins.networks.fitted.sketch_subspace import SketchSubspace
from medad_plugins.networks.fitted.token_dictionary import TokenDictionary
from medad_plugins.networks.fitted.token_head import TokenHead
from medad_plugins.networks.fitted.token_mixture import TokenMixture
from medad_plugins.networks.fitted.token_subspace import TokenSubspace
from medad_plugins.networks.fitted.vector_detector import VectorDetector
from medad_plugins.networks.fitted.vector_preparation import VectorPreparation
from medad_plugins.networks.scored_network import ScoredNetwork
from medad_plugins.networks.tile_networks import TileNetworks, by_tiles

__all__ = [
    "BACKBONES",
    "KNOWN_WEIGHTS",
    "TAPS",
    "AnomalyNetwork",
    "AttentionUNet",
    "AutoencodingNetwork",
    "ClusterDistance",
    "ConvDecoder",
    "ConvDiscriminator",
    "ConvEncoder",
    "CouplingFlow",
    "CriticTrunk",
    "DCGANEncoder",
    "DCGANGenerator",
    "DensityRatio",
    "EfficientNetLiteTaps",
    "FeatureDiscriminator",
    "FeatureTaps",
    "FineTunedNetwork",
    "FourierPositions",
    "FrozenTokens",
    "GatedSelfAttention",
    "GaussianMixtureHead",
    "IsolationTrees",
    "KernelDensityHead",
    "KernelSupport",
    "LinearAttention",
    "LinearSupport",
    "LocalOutliers",
    "LocationMeans",
    "LowRankGaussian",
    "MedianDeviation",
    "MemoryBank",
    "MemoryModule",
    "MutualBank",
    "NearestNeighbours",
    "OneClassBottleneck",
    "PatchEmbedding",
    "PatchGaussians",
    "PerceptualResidual",
    "PixelPredictor",
    "PlaceBank",
    "PlainUNet",
    "PooledGaussian",
    "PoolingUNet",
    "PositionedConvolution",
    "PretextClassifier",
    "PyODHead",
    "ResNetTaps",
    "ResidualCoder",
    "ResidualCritic",
    "ResidualDecoder",
    "ResidualGenerator",
    "ReverseDistillation",
    "RobustGaussian",
    "ScanBank",
    "ScanScore",
    "ScanToBackbone",
    "ScanViews",
    "ScoredNetwork",
    "SelfRepresentation",
    "ShrunkGaussian",
    "SketchSubspace",
    "SpectralNorm",
    "TapCache",
    "TapDecoder",
    "TileNetworks",
    "TimeUNet",
    "TokenDictionary",
    "TokenHead",
    "TokenMixture",
    "TokenNetwork",
    "TokenReconstruction",
    "TokenSubspace",
    "UnitTokens",
    "UpsamplingDecoder",
    "VectorDetector",
    "VectorPreparation",
    "VisionTransformerTaps",
    "WideResidualCoder",
    "batch_drawn",
    "batch_normal",
    "batch_uniform",
    "by_tiles",
    "doubling_widths",
    "find_weights",
    "hard_shrink",
    "init_dcgan",
    "load_pretrained",
    "look_up",
    "make_bottleneck",
    "make_taps",
    "usual_layers",
    "weights_found",
]
