"""Plain convolutional autoencoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.utils import eval_mode
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.blocks.autoregressive_latent import AutoregressiveLatent
from medad_plugins.networks.blocks.best_hypothesis import BestHypothesis
from medad_plugins.networks.blocks.bottleneck import VectorExpansion
from medad_plugins.networks.blocks.input_gradient import input_gradient
from medad_plugins.networks.blocks.masked_conv_block import GATES, MaskedConvBlock
from medad_plugins.networks.blocks.outlier_part import OUTLIERS, OutlierPart
from medad_plugins.networks.blocks.perceptual import PerceptualResidual
from medad_plugins.networks.blocks.sparse_latent import SPARSITIES, SparseLatent
from medad_plugins.networks.blocks.subspace_latent import SubspaceLatent
from medad_plugins.networks.blocks.uncertain_residual import UncertainResidual
from medad_plugins.networks.coders.hypothesis_critic import HypothesisCritic
from medad_plugins.networks.families.judged_autoencoding import JudgedAutoencodingNetwork
from medad_plugins.networks.fitted.reconstruction_judge import LIKELIHOOD, VECTORS
from medad_plugins.scorers import RESIDUALS, ResidualMap

__all__ = ["AutoencodingLoss", "ConvAE"]

MAPS = ("residual", "gradient")
SCORES = ("map", "cosine", *VECTORS, LIKELIHOOD)
LATENTS = ("plain", "subspace", *SPARSITIES, "autoregressive")
BLOCKS = ("none", *GATES)
PERCEPTUAL = "perceptual"
UNCERTAINTY = "uncertainty"


class ConvAE(JudgedAutoencodingNetwork):
    """Autoencoder with a narrow bottleneck that rebuilds healthy anatomy only; the residual is the anomaly map.

    Args:
        spatial_dims, in_channels, image_size, channels, hidden_size, latent_size, reduction, bottleneck, mask_input:
            see `AutoencodingNetwork`. ``latent_size`` matters most (16, or 4 for chest radiographs);
            ``mask_input="one"`` is the context-encoding CeAE.
        residual: ``"l1"``, ``"l2"`` or ``"ssim"``, see `medad_plugins.scorers.residual_map`, or ``"perceptual"``, see
            `PerceptualResidual`, whose frozen backbone is then kept with the network; or ``"uncertainty"`` (AE-U): the
            decoder says how uncertain each pixel is, and squared residuals count in its variance, see
            `UncertainResidual`.
        map: ``"residual"``, or ``"gradient"``: the absolute gradient of the mean residual with respect to the scan.
        backbone: of the perceptual residual.
        weights: of that backbone.
        score: ``"map"``, the pooled map; ``"cosine"``, one minus the cosine of scan and reconstruction, which the
            map is scaled to; or one of a `ReconstructionJudge`'s vectors, ``"pathway"`` (RaPP),
            ``"statistics"`` (after MUSE), ``"code"`` or ``"code_errors"`` (DAGMM), which are collected and fitted after
            the training: the map is then scaled so that it pools to the detector's score.
            ``"likelihood"`` (LSA) needs an autoregressive latent.
        detector: of those vectors, e.g. ``"mahalanobis"``, ``"gmm"``, ``"knn"``.
        latent: what the latent is held to: ``"plain"`` nothing; ``"subspace"`` (RSRAE), a `SubspaceLatent` without
            hidden layers; ``"l1"``, ``"kl"`` or ``"winners"`` (sparse and winner-take-all autoencoders), see
            `SparseLatent`; ``"autoregressive"`` (LSA), see `AutoregressiveLatent`.
        latent_share: of a sparse latent, see `SparseLatent`.
        outliers: ``"pixels"`` or ``"scans"`` (robust autoencoder): what the training takes for outliers and leaves out
            of its scans, see `OutlierPart`; or ``"none"``.
        outlier_size: of it.
        hypotheses: reconstructions that the decoder gives, of which at every pixel the best counts (ConAD), see
            `BestHypothesis`; with ``residual="uncertainty"`` each is a mean and a variance.
        critic: whether a `HypothesisCritic` keeps all of them plausible.
        block: ``"sspcab"`` or ``"ssmctb"``, a `MaskedConvBlock` behind the encoder; or ``"none"``.

    References:
        Baur et al., "Autoencoders for unsupervised anomaly segmentation in brain MR images", MedIA 69, 2021; in the
        form of Cai et al., "MedIAnomaly", MedIA 102, 2025, whose variants the options are. AE-U: Mao et al.,
        "Abnormality detection in chest X-ray images using uncertainty prediction autoencoders", MICCAI 2020.

    Example:
        >>> network = ConvAE(image_size=32, channels=(8, 16), latent_size=4).eval()
        >>> image = torch.rand(2, 1, 32, 32)
        >>> network(image).shape, network.reconstruct(image).shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 1, 32, 32]))
    """

    __constants__ = ["judges", "needs_likelihood", "needs_taps", "several"]  # noqa: RUF012 - see the family

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        channels: Sequence[int] = (16, 32, 64, 64),
        hidden_size: int = 1024,
        latent_size: int = 16,
        residual: str = "l2",
        reduction: str | float = "mean",
        bottleneck: str = "vector",
        mask_input: str = "none",
        map: str = "residual",
        backbone: str = "resnet18",
        weights: str = "none",
        score: str = "map",
        detector: str = "mahalanobis",
        latent: str = "plain",
        latent_share: float = 0.05,
        outliers: str = "none",
        outlier_size: float = 0.1,
        hypotheses: int = 1,
        critic: bool = False,
        block: str = "none",
    ) -> None:
        for name, value, known in (
            ("latent", latent, LATENTS),
            ("outliers", outliers, OUTLIERS),
            ("block", block, BLOCKS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, got {value!r}.")
        if bottleneck != "vector" and latent in ("subspace", "autoregressive"):
            raise ValueError(f"latent {latent!r} is a vector: bottleneck must be 'vector', got {bottleneck!r}.")
        if hypotheses < 1 or (critic and hypotheses < 2):
            raise ValueError(f"hypotheses must be at least 1, with a critic 2, got {hypotheses}.")
        if score == LIKELIHOOD and latent != "autoregressive":
            raise ValueError(f"score {score!r} needs latent 'autoregressive', got {latent!r}.")
        if score not in SCORES:
            raise ValueError(f"score must be one of {SCORES}, got {score!r}.")
        if residual not in (*RESIDUALS, PERCEPTUAL, UNCERTAINTY):
            raise ValueError(f"residual must be one of {(*RESIDUALS, PERCEPTUAL, UNCERTAINTY)}, got {residual!r}.")
        if map not in MAPS:
            raise ValueError(f"map must be one of {MAPS}, got {map!r}.")
        super().__init__(
            spatial_dims,
            in_channels,
            image_size,
            score,
            detector,
            channels=channels,
            hidden_size=hidden_size,
            latent_size=latent_size,
            bottleneck=bottleneck,
            mask_input=mask_input,
            reduction=reduction,
            outputs=hypotheses * (2 if residual == UNCERTAINTY else 1),
        )
        self.by_cosine = score == "cosine"
        grid = self.encoder.grid
        self.bottleneck: Any = self.bottleneck
        if latent == "subspace":
            self.needs_several = False
            self.bottleneck = SubspaceLatent(grid, latent_size)
            self.expansion = VectorExpansion(grid, latent_size, hidden_size=0)
        elif latent in SPARSITIES:
            self.bottleneck = SparseLatent(self.bottleneck, latent, latent_share)
        elif latent == "autoregressive":
            pixels = in_channels * math.prod(ensure_tuple_rep(image_size, spatial_dims))
            self.bottleneck = AutoregressiveLatent(self.bottleneck, latent_size, pixels)
        self.block = nn.Identity() if block == "none" else MaskedConvBlock(spatial_dims, grid[0], block)
        self.outliers = nn.Identity() if outliers == "none" else OutlierPart(outliers, outlier_size)
        self.says_uncertainty = residual == UNCERTAINTY
        self.of_gradient = map == "gradient"
        self.difference: Any = UncertainResidual()
        if residual == PERCEPTUAL:
            self.difference = PerceptualResidual(spatial_dims, in_channels, backbone, weights)
        elif residual != UNCERTAINTY:
            self.difference = ResidualMap(residual)
        self.hypotheses, self.several = hypotheses, hypotheses > 1
        if hypotheses > 1:
            self.difference = BestHypothesis(self.difference, hypotheses)
        self.critic = HypothesisCritic(spatial_dims, in_channels, image_size, channels) if critic else nn.Identity()

    def encode(self, image: Tensor) -> Tensor:
        """The latents of scans ``(B, C, *spatial)`` with intensities 0..1."""
        if not torch.jit.is_scripting():
            self._require_several(image)
        latent: Tensor = self.bottleneck(self.block(self.encoder(image * 2 - 1)))
        return latent

    def unlikelihood(self, code: Tensor) -> Tensor:
        """Minus the logarithm of the probability of latents, ``(B,)``, of an autoregressive latent."""
        unlikely: Tensor = self.bottleneck.unlikelihood(code)
        return unlikely

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scan decoded from its latent, ``(B, C, *spatial)``, intensities about 0..1, by its best hypotheses."""
        if self.several:
            closest: Tensor = self.difference.closest(self.compared(image), image)
            return closest
        return self.decode(self.encode(image))

    def compared(self, image: Tensor) -> Tensor:
        """What is compared with the scan: its reconstruction, with uncertainty the logarithm of its variance behind.

        ``(B, C, *spatial)`` or ``(B, 2 * C, *spatial)``; of several hypotheses all, side by side along the channels.
        """
        # one branch a constant, or TorchScript would see both call each other
        if self.several:
            return self._compared(self.encode(image))
        else:
            return self._compared(self.encode(image)) if self.says_uncertainty else self.reconstruct(image)

    def _compared(self, code: Tensor) -> Tensor:
        values: Tensor = self.decoder(self.expansion(code))
        # intensities about 0..1; the variance is that of residuals on -1..1, where the network works
        if not self.says_uncertainty:
            return (values + 1) / 2
        found: list[Tensor] = []
        for both in values.chunk(self.hypotheses, 1):
            found += [(both[:, : self.in_channels] + 1) / 2, both[:, self.in_channels :]]
        return torch.cat(found, 1)

    def without_outliers(self, image: Tensor) -> Tensor:
        """Training scans ``(B, C, *spatial)`` less what of them is taken for outliers, by the network as it is."""
        if isinstance(self.outliers, nn.Identity):
            return image
        with torch.no_grad(), eval_mode(self):
            rebuilt = self.reconstruct(image)
            sparse: Tensor = self.outliers(image - rebuilt)
            return image - sparse

    def training_output(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor, dict[str, Tensor]]:
        """What is compared with the scan, from the masked scan: its target is the scan.

        Of a latent that is held to something, a block or a robust autoencoder the target, the scan less its outliers,
        and the terms of latent and block by name besides.
        """
        target = self.without_outliers(image)
        self._require_several(image)
        value: Any = self.masked(target) * 2 - 1
        terms: dict[str, Tensor] = {}
        parts: list[Any] = [self.encoder, self.block, self.bottleneck]
        for part in parts:
            if hasattr(part, "penalised"):
                value, found = part.penalised(value)
                terms |= found
            else:
                value = part(value)
        compared = self._compared(value)
        if isinstance(self.critic, HypothesisCritic):
            guesses = [each[:, : self.in_channels] for each in compared.chunk(self.hypotheses, 1)]
            terms["critic"] = self.critic(target, guesses)
        return (compared, target, terms) if terms or target is not image else compared

    def _residual(self, image: Tensor) -> Tensor:
        difference: Tensor = self.difference(self.compared(image), image)
        return difference

    def _gradient(self, image: Tensor) -> Tensor:
        return input_gradient(lambda scan: self._residual(scan).flatten(1).mean(1), image)

    def _plain_map(self, image: Tensor) -> Tensor:
        if self.of_gradient:
            if torch.jit.is_scripting():
                raise RuntimeError("a map of gradients cannot be computed by TorchScript")
            else:
                return self._gradient(image)
        return self._residual(image)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Residual between the scan and its reconstruction, averaged over channels, not negative; or its gradient.

        Scaled to the score of the detector where there is one; before that is fitted the residual is all there is.
        """
        values = self._plain_map(image)
        if self.by_cosine:
            x, y = image.float().flatten(1), self.reconstruct(image).float().flatten(1)
            return self.scaled_to(1 - functional.cosine_similarity(x, y, dim=1), values.float())
        return self.judged(image, values)


class AutoencodingLoss(nn.Module):
    """Mean of the map of residuals, and what latent and block are held to.

    Args:
        difference: what makes the map, the network's own.
        errors: ``"means"`` of the map; or ``"roots"``, the mean over scans of the root of each map's mean, so that a
            scan with a large residual, abnormal perhaps, counts less (RSRAE).
        weights: of the terms by name, 1 where there is none.

    Shape:
        what `ConvAE` gives in train mode, and the scan where that names no target, to a scalar.
    """

    def __init__(
        self, difference: nn.Module, errors: str = "means", weights: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        if errors not in ("means", "roots"):
            raise ValueError(f"errors must be 'means' or 'roots', got {errors!r}.")
        if errors == "roots" and any(isinstance(part, UncertainResidual) for part in difference.modules()):
            raise ValueError("a likelihood has no root: errors must be 'means' with residual 'uncertainty'.")
        self.difference, self.roots, self.weights = difference, errors == "roots", dict(weights or {})

    def forward(self, output: Tensor | tuple[Tensor, Tensor, dict[str, Tensor]], image: Tensor | None = None) -> Tensor:
        compared, target, terms = (output, image, {}) if isinstance(output, Tensor) else output
        assert target is not None
        values: Tensor = self.difference(compared, target)
        # the small number keeps the root's gradient finite
        loss = (values.flatten(1).mean(1) + 1e-8).sqrt().mean() if self.roots else values.mean()
        for name, value in terms.items():
            loss = loss + self.weights.get(name, 1.0) * value
        return loss
