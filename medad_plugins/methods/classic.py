"""Classic one-class detectors on raw intensities, their principal components, or deep features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps, usual_layers
from medad_plugins.networks.blocks.patch_embedding import PatchEmbedding
from medad_plugins.networks.fitted.vector_detector import VectorDetector
from medad_plugins.networks.fitted.vector_heads import DETECTORS, vector_head
from medad_plugins.networks.fitted.vector_preparation import VectorPreparation
from medad_plugins.scorers import MapToImage

__all__ = ["DETECTORS", "ClassicDetector"]

FEATURES = ("raw", "pca", "deep")


class RawVectors(nn.Module):
    """A scan's intensities in one row: ``(B, C, *spatial)`` to ``(B, D)``."""

    def forward(self, image: Tensor) -> Tensor:
        return image.flatten(1)


class DeepVectors(nn.Module):
    """Features of a frozen pretrained network at several depths, joined.

    Args:
        backbone, spatial_dims, in_channels, weights: see `make_taps`.
        layers: those whose features are joined, finest first, see `make_taps`; the first one's grid is that of the
            locations. None for all stages of a ResNet, or what `usual_layers` says of another backbone.
        locations: a vector for every location, deeper features interpolated to the grid, rather than the means.

    Shape:
        ``(B, C, *spatial)`` to ``(B, D)``, or with locations ``(B, D, *grid)``.
    """

    def __init__(
        self,
        backbone: str,
        spatial_dims: int,
        in_channels: int,
        weights: str,
        layers: Sequence[int] | None,
        locations: bool,
    ) -> None:
        super().__init__()
        self.locations = locations
        layers = usual_layers(backbone, (1, 2, 3, 4)) if layers is None else layers
        self.taps = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        self.embedding = PatchEmbedding(self.taps.channels, spatial_dims, interpolation="linear")

    def forward(self, image: Tensor) -> Tensor:
        taps = self.taps(image)
        if self.locations:
            joined: Tensor = self.embedding(taps)
            return joined
        return torch.cat([tap.flatten(2).mean(2) for tap in taps], 1)


class ClassicDetector(AnomalyNetwork):
    """How far a scan's vector lies from those of normal scans, by one of the classic detectors.

    Fitted in one pass by `medad_plugins.engines.FittingTrainer`; nothing is trained by gradient. A scan is one vector
    and its map is constant, the score everywhere, unless every location of deep features is judged.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        detector: one of `DETECTORS`, or ``pyod:NAME``, see `PyODHead`.
        features: ``"raw"`` intensities, ``"pca"`` their principal components, or ``"deep"`` features.
        backbone: a key of `medad_plugins.networks.TAPS`, for deep features.
        weights: of it: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: of it, see `DeepVectors`.
        locations: judge every location of the first one's grid, by the vectors of all locations of normal scans.
        components: of ``"pca"``, see `VectorPreparation`.
        reduced: principal components that are taken of deep features, as ``components``; None takes the features.
        scaling: of the vectors, see `VectorPreparation`.
        gamma: of the kernel of ocsvm, svdd, kde, ulsif and kliep, see `KernelSupport`.
        nu: of ocsvm, svdd and linear_ocsvm.
        neighbours: of lof, knn and kth_neighbour.
        clusters: of k_means and gmm.
        directions: of sketch, see `SketchSubspace`.
        penalty: of self_representation, see `SelfRepresentation`.
        trees, tree_samples: of isolation_forest, see `IsolationTrees`.
        most_vectors: that are kept to fit on, see `VectorDetector`.
        sigma: Gaussian smoothing of the map of locations, in pixels of the image; it does not change the score.
        seed: of all that is drawn.
        reduction: image score, see `medad_plugins.scorers.MapPool`, on the feature grid; without locations the same
            for all.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        detector: str = "mahalanobis",
        features: str = "deep",
        backbone: str = "resnet50",
        weights: str = "imagenet",
        layers: Sequence[int] | None = None,
        locations: bool = False,
        components: float = 64,
        scaling: str = "none",
        gamma: float = 1.0,
        nu: float = 0.1,
        neighbours: int = 20,
        trees: int = 100,
        tree_samples: int = 256,
        most_vectors: int = 5000,
        sigma: float = 4.0,
        seed: int = 0,
        reduction: str | float = "max",
        reduced: float | None = None,
        clusters: int = 5,
        directions: int = 32,
        penalty: float = 0.1,
    ) -> None:
        super().__init__(reduction)
        if features not in FEATURES:
            raise ValueError(f"features must be one of {FEATURES}, got {features!r}.")
        if locations and features != "deep":
            raise ValueError(f"only deep features have locations, got features {features!r}.")
        # raw intensities are compared pixel by pixel
        self.locations, self.knows_places = locations, features != "deep"
        self.vectors: nn.Module = RawVectors()
        if features == "deep":
            self.vectors = DeepVectors(backbone, spatial_dims, in_channels, weights, layers, locations)
        head = vector_head(
            detector,
            gamma=gamma,
            nu=nu,
            neighbours=neighbours,
            clusters=clusters,
            directions=directions,
            penalty=penalty,
            trees=trees,
            tree_samples=tree_samples,
            seed=seed,
        )
        preparation = VectorPreparation(scaling, {"pca": components, "deep": reduced}.get(features))
        self.detector = VectorDetector(preparation, head, most_vectors, seed)
        self.to_image = MapToImage(spatial_dims, self.pool, sigma)

    def collect(self, image: Tensor) -> None:
        """Add the vectors of normal scans ``(B, C, *spatial)``."""
        with torch.no_grad():
            self.detector.collect(self._rows(self.vectors(image)))

    def fit(self) -> None:
        """Fit the detector to what was collected."""
        self.detector.fit()

    def _rows(self, vectors: Tensor) -> Tensor:
        """Vectors ``(n, D)``, with locations those of a case in row-major order."""
        return vectors.flatten(2).transpose(1, 2).flatten(0, 1) if self.locations else vectors

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The detector's score, of every location interpolated to the image and smoothed, or the same everywhere."""
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if torch.is_autocast_enabled(image.device.type):
                # distances are differences: rounded to bfloat16, near vectors would be the same
                with torch.autocast(image.device.type, enabled=False):
                    return self._judged(image.float())
        return self._judged(image)

    def _judged(self, image: Tensor) -> Tensor:
        vectors = self.vectors(image)
        scores = self.detector(self._rows(vectors))
        if self.locations:
            return self.to_image(scores.reshape([-1, 1] + list(vectors.shape[2:])), image.shape[2:])
        return scores.reshape([-1] + [1] * (image.dim() - 1)) + torch.zeros_like(image[:, :1])
