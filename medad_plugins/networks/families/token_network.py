"""Methods that judge every token of a frozen backbone by what is fitted to normal tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.blocks.frozen_tokens import FrozenTokens
from medad_plugins.networks.blocks.scan_views import ScanViews
from medad_plugins.networks.fitted.token_head import TokenHead
from medad_plugins.scorers import MapToImage

__all__ = ["TokenNetwork"]


class TokenNetwork(AnomalyNetwork):
    """Tokens of a frozen backbone become a map by a `TokenHead`; the score is pooled on the token grid.

    Fitted in one pass by `medad_plugins.engines.FittingTrainer`; nothing is trained by gradient.

    Args:
        head: what is fitted.
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone, weights, layers: see `medad_plugins.networks.make_taps`; layers None, see `FrozenTokens`.
        blocks, neighbourhood: see `FrozenTokens`.
        mirrored, rotations: views in which normal scans are shown, see `ScanViews`.
        foreground: places whose mean intensity is not above this count as normal; None leaves none out.
        sigma: Gaussian smoothing of the map, in pixels of the image; it does not change the score.
        reduction: image score, see `medad_plugins.scorers.MapPool`, on the token grid.
    """

    def __init__(
        self,
        head: TokenHead,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "none",
        layers: Sequence[int] | None = None,
        blocks: int = 2,
        neighbourhood: int = 3,
        mirrored: int | None = None,
        rotations: int = 1,
        foreground: float | None = None,
        sigma: float = 4.0,
        reduction: str | float = 0.02,
    ) -> None:
        super().__init__(reduction)
        self.views = ScanViews(spatial_dims, mirrored, rotations)
        self.foreground = -1.0 if foreground is None else float(foreground)
        self.tokens = FrozenTokens(backbone, spatial_dims, in_channels, layers, weights, blocks, neighbourhood)
        self.head, self.knows_places = head, head.knows_places
        self.to_image = MapToImage(spatial_dims, self.pool, sigma, keep_score="scale")

    def collect(self, image: Tensor) -> None:
        """Add a batch of normal scans ``(B, C, *spatial)``."""
        with torch.no_grad():
            found = [self.tokens.rows(view) for view in self.views(image)]
            self.head.collect(torch.stack([tokens for tokens, _ in found], 1), found[0][1])

    def fit(self) -> None:
        """Fit the head to what was collected."""
        self.head.fit()

    def grid_map(self, image: Tensor) -> Tensor:
        """The map ``(B, 1, *grid)`` on the token grid."""
        tokens, grid = self.tokens.rows(image)
        found: Tensor = self.head(tokens)
        found = found.reshape([-1, 1] + grid)
        if self.foreground >= 0:
            found = found * (self.tokens.intensities(image, grid) > self.foreground)
        return found

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The map, interpolated to the image grid and smoothed, scaled for each case to pool to its score."""
        shown: Tensor = self.to_image(self.grid_map(image), image.shape[2:])
        return shown
