"""Networks that train an encoder, whose features of normal scans then get a Gaussian."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medad_plugins.networks.blocks.location_means import LocationMeans
from medad_plugins.networks.families.fine_tuned import FineTunedNetwork
from medad_plugins.networks.fitted.shrunk_gaussian import ShrunkGaussian
from medad_plugins.scorers import MapToImage

__all__ = ["FeatureGaussian"]


class FeatureGaussian(FineTunedNetwork):
    """Base of methods whose score is how far a trained encoder's features lie from those of normal scans.

    Two stages: by gradient, which is the method's own, then `collect` and `fit` of a Gaussian with shrunk covariance
    over the averaged features, brought to length one, e.g. by `medad_plugins.handlers.FitAfterTraining`.

    The Mahalanobis distance belongs to the whole scan, yet it is exactly the mean over the locations of what each adds
    to it along the direction in which this scan differs: its feature vector less what is usual at that location. That
    is the map.

    Args:
        spatial_dims, in_channels, backbone, weights, encoder_norm, norm_momentum: see `FineTunedNetwork`.
        stages: of the encoder, 4, or 3 for a map twice as fine and for weights that end there.
        sigma: Gaussian smoothing of the map, in pixels of the image.
        reduction: of the map, see `medad_plugins.scorers.MapPool`; whatever it is, the map is shifted so that it
            gives the distance.

    Reference:
        The Gaussian: Li et al., "CutPaste", CVPR 2021.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        backbone: str,
        weights: str,
        *,
        stages: int = 4,
        encoder_norm: str = "train",
        norm_momentum: float = 0.1,
        sigma: float = 4.0,
        reduction: str | float = "mean",
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            backbone,
            weights,
            stages=stages,
            encoder_norm=encoder_norm,
            norm_momentum=norm_momentum,
            reduction=reduction,
        )
        if stages not in (3, 4):
            raise ValueError(f"stages must be 3 or 4, got {stages}.")
        self.gaussian = ShrunkGaussian()
        self.usual = LocationMeans(spatial_dims)
        self.to_image = MapToImage(spatial_dims, self.pool, sigma, keep_score="none")

    def pooled(self, image: Tensor) -> Tensor:
        """Averaged features ``(B, D)`` of scans ``(B, C, *spatial)``, intensities 0..1, as they are."""
        features: Tensor = self.encoder(image)[-1]
        return features.flatten(2).mean(2)

    def _features(self, image: Tensor) -> Tensor:
        """Features ``(B, D, *grid)``, scaled so that the length of their mean over the locations is one."""
        features = self.encoder(image)[-1].to(self.gaussian.mean.dtype)
        lengths = torch.linalg.vector_norm(features.flatten(2).mean(2), dim=1).clamp_min(1e-12)
        return features / lengths.reshape([-1] + [1] * (features.dim() - 1))

    def detector(self) -> Any:
        """What is fitted to the averaged features, with ``collect`` and ``fit``."""
        return self.gaussian

    @torch.no_grad()
    def collect(self, image: Tensor) -> None:
        """Add a batch of normal scans ``(B, C, *spatial)``, seen in eval mode, to what is fitted."""
        was_training = self.training
        self.eval()
        features = self._features(image)
        self.train(was_training)
        self.detector().collect(features.flatten(2).mean(2))
        self.usual.collect(features)

    def fit(self) -> None:
        """Fit the detector and the usual features to what was collected."""
        self.detector().fit()
        self.usual.fit()

    def anomaly_map(self, image: Tensor) -> Tensor:
        """What each location adds to the Mahalanobis distance, over the number of features; of any sign."""
        features = self._features(image)
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if torch.is_autocast_enabled(image.device.type):
                # a distance is a small difference in many dimensions: half precision would drown it
                with torch.autocast(image.device.type, enabled=False):
                    return self._explained(features, list(image.shape[2:]))
        return self._explained(features, list(image.shape[2:]))

    def judged(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``(B,)`` of averaged features of length one ``(B, D)``, and the directions ``(B, D)`` they grow in."""
        return self.judged_by_gaussian(vectors)

    def judged_by_gaussian(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """`judged` by the Mahalanobis distance.

        Both over the number of features: what far scans' locations add, of both signs, is many times the distance, and
        small numbers keep rounding small.
        """
        whitening = self.gaussian.whitening
        if whitening.numel() == 0:
            raise RuntimeError("the Gaussian has not been fitted.")
        whitened = (vectors - self.gaussian.mean) @ whitening.t()
        distance = torch.linalg.vector_norm(whitened, dim=1, keepdim=True)
        direction = (whitened / distance.clamp_min(1e-12)) @ whitening
        scale = max(float(whitening.shape[0]), 1.0)
        return distance.squeeze(1) / scale, direction / scale

    def _explained(self, features: Tensor, size: list[int]) -> Tensor:
        score, direction = self.judged(features.flatten(2).mean(2))
        unusual = features - self.usual(list(features.shape[2:]))
        shares = (unusual * direction.reshape([-1, direction.shape[1]] + [1] * (features.dim() - 2))).sum(1, True)
        return self.pool.shifted_to(score, self.to_image(shares, size))
