"""Gaussians of feature vectors, fitted in one pass by running moments."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["PatchGaussians"]

logger = logging.getLogger(__name__)


class PatchGaussians(FittedModule):
    """One Gaussian for each location of a grid, fitted by running moments: memory does not grow with the scans.

    Args:
        regularisation: added to the diagonal of every covariance.

    Buffers:
        count: scans seen. moment_1 ``(P, D)``, moment_2 ``(P, D, D)``: float64 sums while collecting, empty after
        `fit`. mean ``(P, D)``; whitening ``(P, D, D)``: inverse Cholesky factors, so that
        ``|whitening @ (x - mean)|`` is the Mahalanobis distance.
    """

    def __init__(self, regularisation: float = 0.01) -> None:
        super().__init__()
        self.regularisation = regularisation
        self.count: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.moment_1: Tensor = nn.Buffer(torch.empty(0, dtype=torch.float64))
        self.moment_2: Tensor = nn.Buffer(torch.empty(0, dtype=torch.float64))
        self.mean: Tensor = nn.Buffer(torch.empty(0))
        self.whitening: Tensor = nn.Buffer(torch.empty(0))

    def additive_buffers(self) -> tuple[str, ...]:
        return ("count", "moment_1", "moment_2")

    def collect(self, patches: Tensor) -> None:
        """Add the embeddings ``(B, P, D)`` of a batch to the running moments."""
        by_location = patches.detach().double().transpose(0, 1)
        if self.moment_1.numel() == 0:
            locations, _, dimensions = by_location.shape
            self.count = torch.zeros_like(self.count)
            self.moment_1 = by_location.new_zeros(locations, dimensions)
            self.moment_2 = by_location.new_zeros(locations, dimensions, dimensions)
        self.count += by_location.shape[1]
        self.moment_1 += by_location.sum(1)
        self.moment_2.baddbmm_(by_location.transpose(1, 2), by_location)

    def fit(self) -> None:
        """Turn the moments into means and whitening matrices, and drop them.

        Raises:
            InputError: with fewer than two scans.
        """
        n = int(self.count)
        if n < 2 or self.moment_1.numel() == 0:
            todo = "list more normal scans to train on"
            raise InputError("a covariance needs at least two normal scans", found=n, todo=todo)
        if n <= self.moment_1.shape[1]:
            logger.warning(
                "covariances of %d dimensions are fitted to %d normal scans and rest on their regularisation: list more"
                " scans or lower --dimensions.",
                self.moment_1.shape[1],
                n,
            )
        mean = self.moment_1 / n
        self.mean = mean.float()
        identity = torch.eye(mean.shape[1], dtype=torch.float64, device=mean.device)
        whitening = torch.empty(self.moment_2.shape, dtype=torch.float32, device=mean.device)
        # in blocks, so that the solve needs little beside the moments themselves
        for block in torch.arange(len(mean), device=mean.device).split(256):
            scatter = self.moment_2[block] - n * mean[block].unsqueeze(2) * mean[block].unsqueeze(1)
            factor = torch.linalg.cholesky(scatter / (n - 1) + self.regularisation * identity)
            inverse = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
            whitening[block] = inverse.float()
        self.whitening = whitening
        self.moment_1 = self.moment_1.new_empty(0)
        self.moment_2 = self.moment_2.new_empty(0)

    def left_out(self, patches: Tensor) -> Tensor:
        """Distances ``(B, P)`` that scans fitted on ``(B, P, D)`` would have, had each been left out of the fit.

        Leaving one out is a change of rank one of mean and scatter; the regularisation is taken as growing with n.
        """
        n = int(self.count)
        share = self(patches).double().square() / (n - 1)
        left = (1 - n / (n - 1) * share).clamp_min(1e-3)
        return ((n - 2) * (n / (n - 1)) ** 2 * share / left).sqrt().float()

    def forward(self, patches: Tensor) -> Tensor:
        """Mahalanobis distances ``(B, P)`` of embeddings ``(B, P, D)``."""
        if self.whitening.numel() == 0:
            raise RuntimeError("PaDiM has not been fitted.")
        if patches.shape[1] != self.mean.shape[0]:
            raise RuntimeError("PaDiM was fitted on another image size.")
        difference = (patches.float() - self.mean).transpose(0, 1)
        whitened = torch.bmm(difference, self.whitening.transpose(1, 2))
        return torch.linalg.vector_norm(whitened, dim=2).transpose(0, 1)
