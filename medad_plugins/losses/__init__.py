"""Losses."""

from __future__ import annotations

from medad_plugins.losses.aae import AAETerms
from medad_plugins.losses.adversarial import (
    ADVERSARIAL_LOSSES,
    critic_gap,
    discriminator_loss,
    generator_loss,
)
from medad_plugins.losses.anogan import anogan_discriminator, anogan_generator
from medad_plugins.losses.contrastive import info_nce, supervised_contrast
from medad_plugins.losses.deep_svdd import DeepSVDDTerms, autoencoder_terms
from medad_plugins.losses.draem import DRAEMLoss
from medad_plugins.losses.f_anogan import FAnoGANEncoderTerms, f_anogan_critic, f_anogan_generator
from medad_plugins.losses.flow_reconstruction import FlowReconstructionLoss, bits_per_dimension
from medad_plugins.losses.ganomaly import ganomaly_terms
from medad_plugins.losses.gaussian_ssim import gaussian_ssim
from medad_plugins.losses.glass import GlassLoss
from medad_plugins.losses.global_cosine import GlobalCosineLoss
from medad_plugins.losses.gradient_penalty import gradient_penalty, real_gradient_penalty
from medad_plugins.losses.hard_mining import HardMinedCosineLoss
from medad_plugins.losses.latent import feature_matching, gaussian_divergence, latent_distance
from medad_plugins.losses.local_cosine import LocalCosineLoss
from medad_plugins.losses.margin import TwoSidedMarginLoss
from medad_plugins.losses.memory import memory_entropy, memory_terms
from medad_plugins.losses.patchcl_ae import PatchCLAETerms
from medad_plugins.losses.pmsacl import PMSACLTerms
from medad_plugins.losses.rd_plus_plus import RDPlusPlusLoss
from medad_plugins.losses.realnet import RealNetLoss
from medad_plugins.losses.residual import ResidualLoss
from medad_plugins.losses.salad import SALADTerms
from medad_plugins.losses.sinkhorn import sinkhorn_divergence
from medad_plugins.losses.softmax_focal import softmax_focal
from medad_plugins.losses.squid import squid_discriminator_terms, squid_generator_terms
from medad_plugins.losses.variational import VariationalTerms
from medad_plugins.losses.view_consistency import ViewConsistencyLoss

__all__ = [
    "ADVERSARIAL_LOSSES",
    "AAETerms",
    "DRAEMLoss",
    "DeepSVDDTerms",
    "FAnoGANEncoderTerms",
    "FlowReconstructionLoss",
    "GlassLoss",
    "GlobalCosineLoss",
    "HardMinedCosineLoss",
    "LocalCosineLoss",
    "PMSACLTerms",
    "PatchCLAETerms",
    "RDPlusPlusLoss",
    "RealNetLoss",
    "ResidualLoss",
    "SALADTerms",
    "TwoSidedMarginLoss",
    "VariationalTerms",
    "ViewConsistencyLoss",
    "anogan_discriminator",
    "anogan_generator",
    "autoencoder_terms",
    "bits_per_dimension",
    "critic_gap",
    "discriminator_loss",
    "f_anogan_critic",
    "f_anogan_generator",
    "feature_matching",
    "ganomaly_terms",
    "gaussian_divergence",
    "gaussian_ssim",
    "generator_loss",
    "gradient_penalty",
    "info_nce",
    "latent_distance",
    "memory_entropy",
    "memory_terms",
    "real_gradient_penalty",
    "sinkhorn_divergence",
    "softmax_focal",
    "squid_discriminator_terms",
    "squid_generator_terms",
    "supervised_contrast",
]
