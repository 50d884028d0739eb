"""Brightness changed tissue by tissue."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.cluster import KMeans

from medad_plugins.synthesis.blenders import Blended
from medad_plugins.synthesis.host import Host, Region
from medad_plugins.synthesis.sizes import Sampler, Uniform

__all__ = ["ClusterBias"]

# enough to find a few clusters of intensities by
_SAMPLES = 1000


class ClusterBias:
    """Clusters of the scan's intensities, about its tissues, made brighter or darker in the region, each by chance.

    Args:
        factor: draws how much, as a share of the largest change; it is the factor that labels tell.
        largest: change, on the image's scale.
        clusters: of k-means on the intensities in the body.
        sigma: of the Gaussian that smooths the change, in voxels.

    Reference:
        Naval Marimont et al., "Ensembled Cold-Diffusion Restorations for Unsupervised Anomaly Detection", MICCAI 2024.
    """

    def __init__(
        self, factor: Sampler = Uniform(0, 1), largest: float = 0.5, clusters: int = 5, sigma: float = 1.0
    ) -> None:
        self.factor, self.largest, self.clusters, self.sigma = factor, largest, clusters, sigma

    def __call__(self, rng: RandomState, host: Host, region: Region, content: NDArray[np.float32] | None) -> Blended:
        own = host.image[(slice(None), *region.box)]
        body = np.ones(host.shape, dtype=bool) if host.body is None else host.body
        factor = self.factor(rng)
        changed: list[NDArray[np.float32]] = []
        for channel, values in zip(host.image, own):
            middles = self._middles(rng, channel[body])
            bias = rng.choice([-1.0, 1.0], len(middles)) * factor * self.largest
            nearest = np.abs(values[..., None] - middles).argmin(-1)
            smooth = ndimage.gaussian_filter(bias[nearest], self.sigma) * region.alpha
            changed.append(np.clip(values + smooth, channel.min(), channel.max()).astype(np.float32))
        return np.stack(changed), factor

    def _middles(self, rng: RandomState, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Middles of the clusters, fewer where there are not so many intensities."""
        drawn = rng.choice(values, _SAMPLES) if values.size else np.zeros(1, dtype=np.float32)
        count = min(self.clusters, len(np.unique(drawn)))
        found = KMeans(count, n_init=1, random_state=int(rng.randint(2**31))).fit(drawn[:, None])
        middles: NDArray[np.float32] = found.cluster_centers_[:, 0]
        return middles
