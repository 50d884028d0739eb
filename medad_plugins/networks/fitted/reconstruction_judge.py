"""Vectors that say how a scan was rebuilt, and a detector that is fitted to those of normal scans."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Pool
from torch import Tensor, nn

from medad_plugins.networks.fitted.manifold_density import ManifoldDensity
from medad_plugins.networks.fitted.summed_ranges import SummedRanges
from medad_plugins.networks.fitted.vector_detector import VectorDetector
from medad_plugins.networks.fitted.vector_heads import vector_head
from medad_plugins.networks.fitted.vector_preparation import VectorPreparation
from medad_plugins.scorers import ResidualMap

__all__ = ["LIKELIHOOD", "VECTORS", "ReconstructionJudge"]

VECTORS = ("pathway", "statistics", "code", "code_errors", "manifold")
LIKELIHOOD = "likelihood"


class ReconstructionJudge(nn.Module):
    """How unlike normal scans' a reconstruction is, by a vector of it and a detector of vectors.

    A residual is large where an autoencoder blurs edges, in normal scans as in others; what is abnormal is a scan whose
    reconstruction errs in another way than those of normal scans do. The vectors:

    - ``"pathway"``: the differences that scan and reconstruction have in the encoder's blocks (RaPP; by
      ``mahalanobis`` its normalised form NAP). Each block's are averaged on a coarse grid: the paper joins all values
      of small dense layers, of which scans have millions.
    - ``"statistics"``: the logarithms of mean, deviation and mean of the highest 5 % of the absolute residual and of
      one minus the structural similarity (after MUSE, whose detector of such vectors is an autoencoder; an anomaly may
      also be rebuilt too well).
    - ``"code"``: the latent itself.
    - ``"code_errors"``: the latent with the relative error and the cosine of scan and reconstruction (DAGMM; by ``gmm``
      its mixture, fitted after the autoencoder rather than with it).
    - ``"manifold"``: the latent and the length of the residual, judged by a `ManifoldDensity` whatever the detector
      (GPND).
    - ``"likelihood"``: how unlikely the latent is, by a network that says so, and the mean squared residual; both in
      units of their ranges over normal scans and added up, whatever the detector (LSA).

    Args:
        spatial_dims: 2 or 3.
        vectors: one of `VECTORS`, or `LIKELIHOOD`.
        detector: see `medad_plugins.networks.fitted.vector_heads.vector_head`.
        grid: edge of the coarse grid of ``"pathway"``.

    References:
        Kim et al., "RaPP: novelty detection with reconstruction along projection pathway", ICLR 2020; Kim et al.,
        "Rethinking reconstruction-based graph-level anomaly detection", NeurIPS 2024 (MUSE); Zong et al., "Deep
        autoencoding Gaussian mixture model", ICLR 2018; Pidhorskyi et al., "Generative probabilistic novelty detection
        with adversarial autoencoders", NeurIPS 2018; Abati et al., "Latent space autoregression for novelty
        detection", CVPR 2019.
    """

    def __init__(self, spatial_dims: int, vectors: str, detector: str = "mahalanobis", grid: int = 4) -> None:
        super().__init__()
        if vectors not in (*VECTORS, LIKELIHOOD):
            raise ValueError(f"vectors must be one of {(*VECTORS, LIKELIHOOD)}, got {vectors!r}.")
        self.kind = vectors
        self.absolute, self.structural = ResidualMap("l1"), ResidualMap("ssim")
        self.coarse = Pool[Pool.ADAPTIVEAVG, spatial_dims](grid)
        # every value counts alike whatever its unit is; a Gaussian needs none of this, neighbours and clusters do
        self.detector = VectorDetector(VectorPreparation("standard"), vector_head(detector))
        if vectors == "manifold":
            self.detector = VectorDetector(VectorPreparation("none"), ManifoldDensity())
        if vectors == LIKELIHOOD:
            self.detector = VectorDetector(VectorPreparation("none"), SummedRanges())

    def is_fitted(self) -> bool:
        """Whether there are normal scans to compare with."""
        return self.detector.vectors.numel() > 0

    def vectors(
        self, image: Tensor, rebuilt: Tensor, code: Tensor, taps: list[Tensor], rebuilt_taps: list[Tensor]
    ) -> Tensor:
        """Vectors ``(B, D)``, float32.

        Args:
            image, rebuilt: ``(B, C, *spatial)``.
            code: latents ``(B, L[, *edges])``; for ``"likelihood"`` how unlikely they are, ``(B, 1)``.
            taps, rebuilt_taps: of both by the encoder's blocks, ``(B, C_k, *grid_k)``; may be empty but for
                ``"pathway"``.
        """
        image, rebuilt = image.float(), rebuilt.float()
        if self.kind == "pathway":
            found = [self._on_grid((b - a).float()) for a, b in zip(taps, rebuilt_taps)]
            return torch.cat(found, 1)
        if self.kind == "statistics":
            residuals = [self.absolute(rebuilt, image), self.structural(rebuilt, image)]
            return torch.cat([_statistics(residual) for residual in residuals], 1)
        flat = code.float().flatten(1)
        if self.kind == "code":
            return flat
        if self.kind == "likelihood":
            return torch.stack([flat[:, 0], (image - rebuilt).square().flatten(1).mean(1)], 1)
        x, y = image.flatten(1), rebuilt.flatten(1)
        if self.kind == "manifold":
            return torch.cat([flat, torch.linalg.vector_norm(x - y, dim=1)[:, None]], 1)
        length = torch.linalg.vector_norm(x, dim=1).clamp_min(1e-6)
        relative = torch.linalg.vector_norm(x - y, dim=1) / length
        cosine = (x * y).sum(1) / (length * torch.linalg.vector_norm(y, dim=1).clamp_min(1e-6))
        return torch.cat([flat, relative[:, None], cosine[:, None]], 1)

    def _on_grid(self, difference: Tensor) -> Tensor:
        """Averages on the coarse grid, in a row; of a grid that is no finer all values."""
        coarse: Tensor = self.coarse(difference)
        return coarse.flatten(1)

    def forward(self, vectors: Tensor) -> Tensor:
        scores: Tensor = self.detector(vectors)
        return scores


def _statistics(residual: Tensor, top_share: float = 0.05) -> Tensor:
    """Logarithms ``(B, 3)`` of mean, standard deviation and mean of the highest values of a residual map."""
    values = residual.float().flatten(1)
    count = max(1, int(top_share * values.shape[1]))
    top = torch.topk(values, count, dim=1).values.mean(1)
    return torch.stack([values.mean(1), values.std(1, correction=0), top], 1).clamp_min(1e-8).log()
