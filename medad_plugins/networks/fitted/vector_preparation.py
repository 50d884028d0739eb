"""What is done to feature vectors before a detector judges them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["SCALINGS", "VectorPreparation"]

SCALINGS = ("none", "unit", "standard")


class VectorPreparation(FittedModule):
    """Length one, principal components, or mean 0 and standard deviation 1 of every value, fitted to normal vectors.

    Args:
        scaling: ``"unit"`` brings every vector to length 1, before the components are taken; ``"standard"`` brings
            every value, after that, to mean 0 and standard deviation 1; or ``"none"``.
        components: how many principal components are taken, or the share of the variance that they hold (a float
            below 1); None leaves the vectors as they are.

    Buffers:
        mean ``(D,)``, axes ``(K, D)``: of the principal components. shift, scale ``(K,)``: of the standardisation.

    Shape:
        ``(n, D)`` to ``(n, K)``, float32; K is D without components.

    Raises:
        InputError: there are more components than the vectors allow.
    """

    def __init__(self, scaling: str = "none", components: float | None = None) -> None:
        super().__init__()
        if scaling not in SCALINGS:
            raise ValueError(f"scaling must be one of {SCALINGS}, got {scaling!r}.")
        if components is not None and (components <= 0 or (components > 1 and components != int(components))):
            raise ValueError(f"components must be a number of them or a share below 1, got {components!r}.")
        self.unit, self.standard = scaling == "unit", scaling == "standard"
        self.components = components
        self.projects = components is not None
        self.mean: Tensor = nn.Buffer(torch.empty(0))
        self.axes: Tensor = nn.Buffer(torch.empty(0))
        self.shift: Tensor = nn.Buffer(torch.empty(0))
        self.scale: Tensor = nn.Buffer(torch.empty(0))

    def fit(self, vectors: Tensor) -> None:
        """Fit to vectors ``(n, D)``, in double precision."""
        x = functional.normalize(vectors, dim=1) if self.unit else vectors
        x = x.double()
        if self.components is not None:
            x = self._fit_components(x, self.components)
        if self.standard:
            self.shift, deviation = x.mean(0).float(), x.std(0, correction=0)
            # a value that never changes, e.g. of the air around a head, stays as it is
            constant = deviation <= 1e-6 * deviation.amax().clamp_min(1e-12)
            self.scale = torch.where(constant, 1.0, deviation).float()

    def _fit_components(self, x: Tensor, components: float) -> Tensor:
        most = min(len(x) - 1, x.shape[1])
        if components >= 1 and components > most:
            raise InputError(
                "there are more components than the normal scans allow",
                where=f"--components {components:g}",
                expected=f"at most {most}, one less than the scans and not more than their values",
                found=f"{len(x)} scans of {x.shape[1]} values",
                todo="list more normal scans or lower --components",
            )
        from sklearn.decomposition import PCA  # takes a second, and only fitting needs it

        count = int(components) if components >= 1 else components
        found = PCA(n_components=count, svd_solver="full").fit(x.cpu().numpy())
        self.mean = torch.from_numpy(found.mean_).float().to(x.device)
        self.axes = torch.from_numpy(found.components_).float().contiguous().to(x.device)
        return (x - self.mean) @ self.axes.double().t()

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Those of one site: who holds the vectors of all fits again."""
        return dict(states[0])

    def forward(self, vectors: Tensor) -> Tensor:
        x = vectors.float()
        if self.unit:
            x = functional.normalize(x, dim=1)
        if self.projects:
            x = (x - self.mean) @ self.axes.t()
        if self.standard:
            x = (x - self.shift) / self.scale
        return x
