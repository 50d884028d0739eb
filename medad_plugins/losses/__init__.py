"""Losses that several methods use."""

from __future__ import annotations

from medad_plugins.losses.adversarial import ADVERSARIAL_LOSSES, discriminator_loss, generator_loss
from medad_plugins.losses.contrastive import info_nce, supervised_contrast
from medad_plugins.losses.denoising import DenoisingTerms
from medad_plugins.losses.flow_likelihood import FlowLikelihoodLoss, bits_per_dimension
from medad_plugins.losses.gaussian_ssim import gaussian_ssim
from medad_plugins.losses.global_cosine import GlobalCosineLoss
from medad_plugins.losses.gradient_penalty import gradient_penalty
from medad_plugins.losses.latent import feature_matching, gaussian_divergence, latent_distance
from medad_plugins.losses.local_cosine import LocalCosineLoss
from medad_plugins.losses.margin import TwoSidedMarginLoss
from medad_plugins.losses.memory import memory_entropy, memory_weight_terms
from medad_plugins.losses.mined_cosine import DistanceMinedCosineLoss, MinedCosineLoss, ShareMinedCosineLoss
from medad_plugins.losses.normalised_reconstruction import normalised_reconstruction
from medad_plugins.losses.relative_perceptual import RelativePerceptualL1
from medad_plugins.losses.residual import ResidualLoss
from medad_plugins.losses.sinkhorn import sinkhorn_divergence
from medad_plugins.losses.softmax_focal import softmax_focal

__all__ = [
    "ADVERSARIAL_LOSSES",
    "DenoisingTerms",
    "DistanceMinedCosineLoss",
    "FlowLikelihoodLoss",
    "GlobalCosineLoss",
    "LocalCosineLoss",
    "MinedCosineLoss",
    "RelativePerceptualL1",
    "ResidualLoss",
    "ShareMinedCosineLoss",
    "TwoSidedMarginLoss",
    "bits_per_dimension",
    "discriminator_loss",
    "feature_matching",
    "gaussian_divergence",
    "gaussian_ssim",
    "generator_loss",
    "gradient_penalty",
    "info_nce",
    "latent_distance",
    "memory_entropy",
    "memory_weight_terms",
    "normalised_reconstruction",
    "sinkhorn_divergence",
    "softmax_focal",
    "supervised_contrast",
]
