"""Sparse sums of a dictionary of normal patches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.fitted.sparse_coding import SparseCoding
from medad_plugins.networks.fitted.vector_detector import VectorDetector
from medad_plugins.networks.fitted.vector_preparation import VectorPreparation
from medad_plugins.scorers.smoothing import GaussianSmoothing

__all__ = ["SparsePatches"]

_FLAT = 0.02  # deviation of intensities in a patch in which nothing is to be seen, such as air


class SparsePatches(AnomalyNetwork):
    """How badly a few atoms of a dictionary of normal patches make each patch of a scan.

    Fitted in one pass by `medad_plugins.engines.FittingTrainer`: patches of normal scans are drawn, a dictionary is
    learnt of which they are sparse sums, and what a patch's sparse sum leaves is its place's value of the map. No
    weights and no gradient.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        patch: edge of the patches, in pixels.
        stride: from patch to patch.
        atoms, penalty, measure, steps, seed: see `SparseCoding`.
        centred: take its mean from every patch, so that brightness does not count.
        place: weight of where a patch lies, which is appended as coordinates of -1..1; 0 leaves it out.
        most_patches: that are kept to learn from.
        sigma: Gaussian smoothing of the map, in pixels; it does not change the score.
        reduction: image score, see `medad_plugins.scorers.MapPool`, on the grid of the patches.

    References:
        Boracchi, Carrera and Wohlberg, "Novelty detection in images by sparse representations", IES 2014; Carrera,
        Boracchi, Foi and Wohlberg, "Scale-invariant anomaly detection with multiscale group-sparse models", ICIP 2016.

    Example:
        >>> network = SparsePatches(patch=4, stride=2, atoms=16)
        >>> network.collect(torch.rand(8, 1, 16, 16))
        >>> network.fit()
        >>> network.eval()(torch.rand(2, 1, 16, 16)).shape
        torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        patch: int = 8,
        stride: int = 4,
        atoms: int = 128,
        penalty: float = 0.5,
        measure: str = "joint",
        steps: int = 40,
        centred: bool = True,
        place: float = 0.0,
        most_patches: int = 5000,
        sigma: float = 2.0,
        seed: int = 0,
        reduction: str | float = 0.05,
    ) -> None:
        super().__init__(reduction)
        if patch < 2 or not 1 <= stride <= patch:
            raise ValueError(f"patch must be at least 2 and stride lie in 1..patch, got {patch} and {stride}.")
        self.spatial_dims, self.patch, self.stride = spatial_dims, patch, stride
        self.flat = _FLAT  # TorchScript knows no module's constants
        self.centred, self.place, self.knows_places = centred, float(place), place > 0
        head = SparseCoding(atoms, penalty, measure, steps, seed)
        self.detector = VectorDetector(VectorPreparation("none"), head, most_patches, seed)
        self.smoothing = GaussianSmoothing(spatial_dims, sigma)

    def patches(self, image: Tensor) -> Tensor:
        """Patches ``(B, *grid, C * patch ** spatial_dims)`` that lie whole in scans ``(B, C, *spatial)``."""
        found = image.float()
        for axis in range(2, 2 + self.spatial_dims):
            found = found.unfold(axis, self.patch, self.stride)
        # (B, C, *grid, *patch)
        return found.movedim(1, 1 + self.spatial_dims).flatten(1 + self.spatial_dims)

    def vectors(self, patches: Tensor) -> Tensor:
        """Vectors ``(n, D)`` of patches ``(B, *grid, P)``, those of a case in row-major order."""
        found = patches - patches.mean(-1, keepdim=True) if self.centred else patches
        if self.place > 0:
            grid = patches.shape[1:-1]
            places = [torch.linspace(-1.0, 1.0, edge, device=patches.device) for edge in grid]
            coordinates = torch.stack(torch.meshgrid(places, indexing="ij"), -1) * self.place
            coordinates = coordinates.unsqueeze(0).expand([patches.shape[0]] + [-1] * (self.spatial_dims + 1))
            found = torch.cat([found, coordinates.to(found.dtype)], -1)
        return found.flatten(0, self.spatial_dims)

    def seen(self, patches: Tensor) -> Tensor:
        """Whether there is anything in patches ``(B, *grid, P)``, ``(n,)``: flat ones are neither learnt nor judged."""
        return patches.flatten(0, self.spatial_dims).std(1, correction=0) > self.flat

    def collect(self, image: Tensor) -> None:
        """Draw from the patches of normal scans ``(B, C, *spatial)``, without those in which nothing is to be seen."""
        if min(image.shape[2:]) < self.patch:
            raise InputError(
                "the patches are larger than the scans",
                where=f"--patch {self.patch}",
                expected=f"at most {min(image.shape[2:])}",
                todo="raise --image_size or lower --patch",
            )
        patches = self.patches(image)
        self.detector.collect(self.vectors(patches)[self.seen(patches)])

    def fit(self) -> None:
        """Learn the dictionary."""
        self.detector.fit()

    def _spread(self, values: Tensor, size: list[int]) -> Tensor:
        """Values ``(B, 1, *grid)`` of patches at each pixel, the mean of those that it lies in, ``(B, 1, *size)``."""
        ones = torch.ones([1, 1] + [self.patch] * self.spatial_dims, device=values.device)
        if self.spatial_dims == 2:
            total = functional.conv_transpose2d(values, ones, stride=self.stride)
            count = functional.conv_transpose2d(torch.ones_like(values), ones, stride=self.stride)
        else:
            total = functional.conv_transpose3d(values, ones, stride=self.stride)
            count = functional.conv_transpose3d(torch.ones_like(values), ones, stride=self.stride)
        spread = total / count
        # the last pixels may be in no patch
        padding: list[int] = []
        for axis in range(self.spatial_dims):
            padding += [0, size[-1 - axis] - spread.shape[-1 - axis]]
        return functional.pad(spread, padding, mode="replicate")

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The patches' scores, 0 of flat ones, spread over their pixels and smoothed; the score is theirs."""
        patches = self.patches(image)
        values = self.detector(self.vectors(patches)) * self.seen(patches)
        values = values.reshape([-1, 1] + list(patches.shape[1:-1]))
        spread: Tensor = self.smoothing(self._spread(values, list(image.shape[2:])))
        return self.scaled_to(self.pool(values), spread)
