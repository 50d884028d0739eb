"""How far a scan's pooled features lie from those of normal scans, in a unit that needs no other scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.shrunk_gaussian import ShrunkGaussian
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["PooledGaussian"]


class PooledGaussian(FittedModule):
    """Mahalanobis distance of the signed square roots of a scan's vector, in deviations of what left-out scans have.

    The Gaussian is a `ShrunkGaussian`. The distance that a normal scan would have, had it been left out of the fit,
    follows from the one it has: leaving it out is a change of rank one, the shrinkage taken as that of all scans.

    Buffers:
        vectors ``(n, D)``: of the scans fitted on, kept, for the Gaussian of several sites is fitted to all of them.
        mean ``(D,)``, whitening ``(K, D)``: of the Gaussian. unit: the standard deviation of the left-out distances.

    Shape:
        vectors ``(B, D)`` to distances ``(B,)`` in units.
    """

    def __init__(self) -> None:
        super().__init__()
        self.vectors: Tensor = nn.Buffer(torch.empty(0))
        self.mean: Tensor = nn.Buffer(torch.empty(0))
        self.whitening: Tensor = nn.Buffer(torch.empty(0))
        self.unit: Tensor = nn.Buffer(torch.ones(()))
        self._begun = False

    def collect(self, vectors: Tensor) -> None:
        """Add vectors ``(n, D)`` of normal scans."""
        vectors = vectors.detach().float()
        self.vectors = torch.cat([self.vectors, vectors]) if self._begun else vectors
        self._begun = True

    def fit(self) -> None:
        """Fit the Gaussian to the vectors.

        Raises:
            InputError: there are fewer than three scans, or they are all alike.
        """
        self._begun = False
        if len(self.vectors) < 3:
            todo = "list more of them, or give --score local"
            reason = "the score of pooled features needs three normal scans"
            raise InputError(reason, found=len(self.vectors), todo=todo)
        gaussian = ShrunkGaussian().to(self.vectors.device)
        gaussian.collect(self.rooted(self.vectors))
        gaussian.fit()
        self.mean, self.whitening = gaussian.mean, gaussian.whitening
        n = len(self.vectors)
        own = self._distance(self.vectors).double().square()
        left = 1 - (1 - gaussian.shrinkage.double()) / (n - 1) * own
        left_out = (n / (n - 1) * own / left.clamp_min(1e-6)).sqrt()
        self.unit = left_out.std().to(self.unit.dtype).clamp_min(1e-6)

    def united_buffers(self) -> tuple[str, ...]:
        return ("vectors",)

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The vectors of several sites laid together; the Gaussian follows in `after_merge`."""
        return {**states[0], **super().merge_buffers(states)}

    def after_merge(self) -> None:
        """Fit the Gaussian to the vectors of all sites."""
        if self.vectors.numel():
            self.fit()

    @staticmethod
    def rooted(vectors: Tensor) -> Tensor:
        """Square roots with their sign: pooled features are skewed."""
        return vectors.sign() * vectors.abs().sqrt()

    def _distance(self, vectors: Tensor) -> Tensor:
        return torch.linalg.vector_norm((self.rooted(vectors) - self.mean) @ self.whitening.t(), dim=1)

    def forward(self, vectors: Tensor) -> Tensor:
        if self.whitening.numel() == 0:
            raise RuntimeError("the Gaussian has not been fitted.")
        return self._distance(vectors.float()) / self.unit
