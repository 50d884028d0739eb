"""GLASS: anomalous features by gradient ascent, and synthetic anomalies in the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ignite.distributed as idist
import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses.rank_gather import of_all_ranks
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps
from medad_plugins.networks.batch_noise import batch_normal, batch_uniform
from medad_plugins.networks.blocks.feature_discriminator import FeatureDiscriminator, init_linear
from medad_plugins.networks.blocks.location_means import LocationMeans
from medad_plugins.networks.blocks.patch_embedding import PatchEmbedding
from medad_plugins.scorers import MapToImage

__all__ = ["GLASS", "GlassLogits", "normal_spread", "truncated"]

HYPOTHESES = ("manifold", "hypersphere")


@dataclass(frozen=True)
class GlassLogits:
    """What the discriminator says, high for abnormal, of the inputs it is to classify.

    Attributes:
        normal: of locations of normal scans ``(N,)``.
        ascended: of the same locations' features after gradient ascent ``(N,)``.
        local: of all locations of scans with a synthetic anomaly ``(M,)``.
        mask: which of these hold some of it ``(M,)``, 0 or 1.
    """

    normal: Tensor
    ascended: Tensor
    local: Tensor
    mask: Tensor


def truncated(vectors: Tensor, origin: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Vectors ``(N, D)`` drawn towards or pushed from their origins to a distance between two radii."""
    offset = vectors - origin
    length = torch.linalg.vector_norm(offset, dim=1, keepdim=True)
    return origin + offset * (length.clamp(low, high) / length.clamp_min(1e-10))


@torch.no_grad()
def normal_spread(vectors: Tensor, most: int = 128) -> float:
    """How far half of the locations of scans ``(B, P, D)`` are from the nearest one of another scan.

    Of a single scan it is that to the nearest other location. At most ``most`` locations of each are looked at.
    """
    cases, places = vectors.shape[:2]
    some = vectors[:, :: max(1, places // most)].float()
    scan = torch.arange(cases, device=some.device).repeat_interleave(some.shape[1])
    own = scan[:, None] == scan if cases > 1 else torch.eye(len(scan), dtype=torch.bool, device=some.device)
    flat = some.flatten(0, 1)
    return float(torch.cdist(flat, flat).masked_fill(own, torch.inf).amin(1).median().clamp_min(1e-6))


class GLASS(AnomalyNetwork):
    """GLASS: a discriminator of adapted features that learns from global and local anomalies.

    The backbone is frozen; one linear layer adapts the embeddings of its stages 2 and 3 (stride 8). Global anomalies
    are normal features with noise that climb the discriminator's loss, so that it takes them for normal as far as a
    hypothesis about where normal features end allows; local ones are placed in the image. Trained with
    `medad_plugins.methods.glass.GlassLoss`; noise and locations come from PyTorch's generator.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: a key of `medad_plugins.networks.TAPS`; the paper's is ``wide_resnet50_2``.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        dimensions: length of the embeddings; the paper's is 1536.
        hidden: width of the discriminator's hidden layer.
        hypothesis: ``"manifold"``: a global anomaly lies at a distance of ``radius`` to twice that from its own normal
            feature; ``"hypersphere"``: at r to 2 r from what is usual at its location, where r holds 75 % of the
            batch's normal features, and local anomalies at 2 r to 4 r. The latter needs aligned scans and `collect`
            and `fit` before every epoch.
        noise: standard deviation, in the units of the adapted features.
        radius: of the manifold hypothesis, likewise; None takes it from each batch: how far half of the normal features
            are from the nearest one of another scan. A global anomaly nearer than that is as normal as its own scan.
        steps: of the ascent; after every fifth the distance is restored.
        step_size: length of a step, likewise.
        points: locations of a batch, drawn at random and as many of each scan, that take part in the global branch;
            None takes all.
        sigma: Gaussian smoothing of the map, in pixels of the image; the score is taken before it.
        reduction: image score, see `medad_plugins.scorers.MapPool`.
        layers: of the backbone whose features are joined, finest first, see `make_taps`; None for stages 2 and 3 of a
            ResNet, or what `usual_layers` says of another backbone.

    Reference:
        Chen et al., "A Unified Anomaly Synthesis Strategy with Gradient Ascent for Industrial Anomaly Detection and
        Localization", ECCV 2024.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "wide_resnet50_2",
        weights: str = "imagenet",
        dimensions: int = 1536,
        hidden: int = 1024,
        hypothesis: str = "manifold",
        noise: float = 0.015,
        radius: float | None = 0.5,
        steps: int = 20,
        step_size: float = 0.001,
        points: int | None = None,
        sigma: float = 4.0,
        reduction: str | float = "max",
        layers: Sequence[int] | None = None,
    ) -> None:
        super().__init__(reduction)
        if hypothesis not in HYPOTHESES:
            raise ValueError(f"hypothesis must be one of {HYPOTHESES}, got {hypothesis!r}.")
        if min(dimensions, hidden, 1 if points is None else points) < 1 or min(noise, radius or 1.0, step_size) <= 0:
            raise ValueError("dimensions, hidden, points, noise, radius and step_size must be positive.")
        self.dimensions, self.hypothesis, self.spatial_dims = dimensions, hypothesis, spatial_dims
        self.noise, self.radius, self.steps, self.step_size, self.points = noise, radius, steps, step_size, points
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        self.stride = self.features.strides[0]
        self.embedding = PatchEmbedding(
            self.features.channels, spatial_dims, neighbourhood=3, dimensions=dimensions, interpolation="linear"
        )
        self.projection = nn.Linear(dimensions, dimensions)
        init_linear(self.projection)
        # high for what is abnormal here
        self.discriminator = FeatureDiscriminator(dimensions, hidden)
        self.centre = LocationMeans(spatial_dims) if hypothesis == "hypersphere" else None
        self.to_image = MapToImage(spatial_dims, self.pool, sigma)

    def adapted(self, taps: list[Tensor]) -> Tensor:
        """Adapted embeddings ``(B, P, dimensions)`` of the locations of the first map's grid in row-major order."""
        embedded = self.embedding(taps).flatten(2).transpose(1, 2)
        # not in half precision, where autocast gives that: noise and steps are small beside the features
        return self.projection(embedded).to(self.projection.weight.dtype)

    def _grid(self, image: Tensor) -> list[int]:
        """The grid of the first layer."""
        return [-(-edge // self.stride) for edge in image.shape[2:]]

    @torch.no_grad()
    def collect(self, image: Tensor) -> None:
        """Add a batch of normal scans ``(B, C, *spatial)`` to the mean of each location."""
        if self.centre is not None:
            self.centre.collect(
                self.adapted(self.features.remembered(image)).transpose(1, 2).unflatten(2, self._grid(image))
            )

    def fit(self) -> None:
        """Set the centres to the mean of what was collected."""
        if self.centre is not None:
            self.centre.fit()

    def training_output(self, image: Tensor) -> GlassLogits:
        """The discriminator's logits of normal, ascended and locally changed features.

        Args:
            image: normal scan, the same with a synthetic anomaly, and its mask, joined along the channels
                ``(B, 2 C + 1, *spatial)``.
        """
        channels = (image.shape[1] - 1) // 2
        clean, anomalous, mask = image.split([channels, channels, 1], 1)
        grid = self._grid(clean)
        # of the scans as they are the frozen backbone's features are always the same
        pairs = zip(self.features.remembered(clean), self.features(anomalous), strict=True)
        normal, local = self.adapted([torch.cat(pair) for pair in pairs]).flatten(0, 1).chunk(2)
        pool = functional.adaptive_max_pool2d if self.spatial_dims == 2 else functional.adaptive_max_pool3d
        changed = pool(mask, grid).flatten()
        usual = self._usual(len(clean), grid)
        bounds = self._bounds(normal, local[changed == 0], usual, changed == 0, len(clean))

        chosen = self._chosen(normal.unflatten(0, [len(clean), -1]))
        origin = normal[chosen].detach() if usual is None else usual[chosen]
        ascended = self._ascended(normal[chosen].detach(), origin, bounds, len(clean))
        # what the ascent has added is given; the adapted features themselves go on learning
        moved = normal[chosen] + (ascended - normal[chosen].detach())
        said = self.discriminator(torch.cat([normal[chosen], moved]))
        if usual is not None:
            far = truncated(local, usual, 2 * bounds[0], 4 * bounds[0])
            local = torch.where(changed.unsqueeze(1) > 0, far, local)
        return GlassLogits(said[: len(chosen)], said[len(chosen) :], self.discriminator(local), changed)

    def _usual(self, batch: int, grid: list[int]) -> Tensor | None:
        """What is usual at each location of a batch ``(B * P, dimensions)``; None where it is not needed."""
        if self.centre is None:
            return None
        means: Tensor = self.centre(grid).flatten(2).transpose(1, 2)
        return means.expand(batch, -1, -1).flatten(0, 1).to(self.projection.weight.dtype)

    def _bounds(
        self, normal: Tensor, unchanged: Tensor, usual: Tensor | None, where: Tensor, cases: int
    ) -> tuple[float, float]:
        """The radii that global anomalies lie between."""
        if usual is None:
            radius = self.radius
            if radius is None:
                radius = normal_spread(of_all_ranks(normal.detach().unflatten(0, [cases, -1])))
            return radius, 2 * radius
        with torch.no_grad():
            offsets = torch.cat([normal - usual, unchanged - usual[where]])
            radius = float(torch.linalg.vector_norm(offsets, dim=1).quantile(0.75))
        return radius, 2 * radius

    def _chosen(self, vectors: Tensor) -> Tensor:
        """Which locations of ``(B, P, dimensions)`` take part in the global branch, as many of each scan."""
        cases, places = vectors.shape[:2]
        of_each = places if self.points is None else max(1, self.points // (cases * idist.get_world_size()))
        if of_each >= places:
            return torch.arange(cases * places, device=vectors.device)
        drawn = batch_uniform((cases, places), vectors).argsort(1)[:, :of_each]
        return (drawn + places * torch.arange(cases, device=drawn.device).unsqueeze(1)).flatten()

    def _ascended(self, normal: Tensor, origin: Tensor, bounds: tuple[float, float], cases: int) -> Tensor:
        """Global anomalies ``(N, dimensions)``: noise, then steps uphill on the loss of being called abnormal."""
        by_scan = normal.unflatten(0, [cases, -1])
        found = normal + self.noise * batch_normal(by_scan.shape, normal).flatten(0, 1)
        for step in range(1, self.steps + 1):
            with torch.enable_grad():
                found = found.detach().requires_grad_()
                said = self.discriminator(torch.cat([normal, found]))[len(normal) :]
                (uphill,) = torch.autograd.grad(functional.softplus(-said).sum(), found)
            length = torch.linalg.vector_norm(uphill, dim=1, keepdim=True)
            found = found.detach() + self.step_size * uphill / (length + 1e-10)
            if step % 5 == 0:
                found = truncated(found, origin, *bounds)
        return found.detach()

    def anomaly_map(self, image: Tensor) -> Tensor:
        """How abnormal a location looks: ``log(1 + exp(d))`` of what the discriminator says, positive.

        It rises with the paper's ``sigmoid(d)`` everywhere, so that maxima keep their order, and does not tie near one.
        """
        said = self.discriminator(self.adapted(self.features(image)).flatten(0, 1))
        grid_map = functional.softplus(said).reshape([-1, 1] + self._grid(image))
        return self.to_image(grid_map, image.shape[2:])
