"""The nearest normal token at the same place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones.transformer_shape import TRANSFORMERS
from medad_plugins.networks.blocks.frozen_tokens import FrozenTokens
from medad_plugins.networks.blocks.scan_views import ScanViews
from medad_plugins.networks.fitted.place_bank import PlaceBank
from medad_plugins.networks.fitted.pooled_gaussian import PooledGaussian
from medad_plugins.networks.fitted.scan_score import pooled_features, require_score
from medad_plugins.scorers import MapToImage

__all__ = ["AnomalyDINO"]


class BackboneTokens(FrozenTokens):
    """One backbone: its tokens of a scan against those of normal scans, and its pooled features likewise.

    Args:
        backbone, spatial_dims, in_channels, layers, weights: see `medad_plugins.networks.make_taps`.
        bank: of its tokens.
        pooled: whether the pooled features are judged too.
        columns_first: whether 2D scans come with columns first, and are turned for the backbone.
        neighbourhood: over which each feature map is averaged, see `AnomalyDINO`.
    """

    def __init__(
        self,
        backbone: str,
        spatial_dims: int,
        in_channels: int,
        layers: Sequence[int] | None,
        weights: str,
        bank: PlaceBank,
        pooled: bool,
        columns_first: bool,
        neighbourhood: int | None,
    ) -> None:
        if neighbourhood is None:
            neighbourhood = 1 if backbone in TRANSFORMERS else 3
        super().__init__(backbone, spatial_dims, in_channels, layers, weights, neighbourhood=neighbourhood)
        self.bank = bank
        self.judges_pooled = pooled
        self.turns = columns_first and spatial_dims == 2
        self.pooled = PooledGaussian()

    def embed(self, image: Tensor) -> tuple[Tensor, list[int], Tensor]:
        """Tokens ``(B, P, D)`` in row-major order of a grid, that grid, and the pooled features ``(B, D')``."""
        taps = self.taps(image.transpose(2, 3) if self.turns else image)
        tokens = self.tokens(taps)
        tokens = tokens.transpose(2, 3) if self.turns else tokens
        return tokens.flatten(2).transpose(1, 2), list(tokens.shape[2:]), pooled_features(taps)

    def judge(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(B, 1, *grid)`` and a score ``(B,)``, zero where pooled features are not judged."""
        tokens, grid, pooled = self.embed(image)
        distances = self.bank(tokens)
        score = self.pooled(pooled) if self.judges_pooled else torch.zeros_like(distances[:, 0])
        return distances.reshape([-1, 1] + grid), score


class AnomalyDINO(AnomalyNetwork):
    """AnomalyDINO for aligned scans: distance of a frozen backbone's tokens to the nearest normal ones thereabouts.

    Fitted in one pass by `medad_plugins.engines.FittingTrainer`; nothing is trained by gradient.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: a name that `medad_plugins.networks.make_taps` knows, or several: their maps and scores, each in
            deviations of what normal scans have, are averaged.
        weights: path, known name, ``"auto"`` or ``"none"``, see `medad_plugins.networks.find_weights`; one, or one
            for each.
        layers: of the backbone, see `make_taps`; for several backbones a list for each; None for what is usual: of a
            transformer its two blocks at three quarters of the depth. Blocks of a transformer are averaged, stages of
            a convolutional network joined.
        window: edge of the window of places in which the nearest token is looked for; 1 for the same place only, 0 for
            anywhere.
        references: most normal scans kept, see `PlaceBank`; 0 for all.
        mirrored: axis along which every normal scan is shown mirrored too, for paired organs: of an upright 2D scan
            1 is left and right, of a volume in RAS 0.
        rotations: how many turns of every normal scan are shown, evenly over the circle, in the plane of the first two
            axes; 1 for none.
        foreground: places whose mean intensity is not above this count as normal; None leaves none out.
        score: of a scan: ``"local"``, its map's; ``"pooled"``, how far its pooled features lie from normal ones; or
            ``"both"``, their mean. The map is scaled to it.
        storage: of the tokens kept, see `PlaceBank`.
        sigma: Gaussian smoothing of the map, in pixels of the image; it does not change the score.
        reduction: image score, see `medad_plugins.scorers.MapPool`, on the token grid.
        columns_first: whether 2D scans come with columns first (``ScanFormat(orientation="stored")``), to be turned for
            the backbones, which have learnt from pictures that stand upright. `ModelFile` knows it.
        neighbourhood: edge of the neighbourhood of places over which each feature map is averaged, odd, 1 for none:
            tokens of single places are noisy. None is 3 for a convolutional network and 1 for a transformer.

    Reference:
        Damm et al., "AnomalyDINO: boosting patch-based few-shot anomaly detection with DINOv2", WACV 2025.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str | Sequence[str] = "resnet18",
        weights: str | Sequence[str] = "none",
        layers: Sequence[int] | Sequence[Sequence[int]] | None = None,
        window: int = 3,
        references: int = 1000,
        mirrored: int | None = None,
        rotations: int = 1,
        foreground: float | None = None,
        score: str = "local",
        storage: str = "float16",
        sigma: float = 4.0,
        reduction: str | float = 0.02,
        columns_first: bool = False,
        neighbourhood: int | None = None,
    ) -> None:
        super().__init__(reduction)
        self.shown_as = ScanViews(spatial_dims, mirrored, rotations)
        names = [backbone] if isinstance(backbone, str) else list(backbone)
        files = [weights] * len(names) if isinstance(weights, str) else list(weights)
        taps = _for_each(layers, len(names))
        if not names or len(files) != len(names) or len(taps) != len(names):
            raise ValueError(
                f"weights and layers must be one for each backbone, got {len(names)}, {len(files)} and {len(taps)}."
            )
        self.score, self.knows_places = require_score(score), window > 0
        self.foreground = -1.0 if foreground is None else float(foreground)
        self.parts = nn.ModuleList(
            BackboneTokens(
                name,
                spatial_dims,
                in_channels,
                chosen,
                file,
                PlaceBank(window, references, storage),
                score != "local",
                columns_first,
                neighbourhood,
            )
            for name, file, chosen in zip(names, files, taps, strict=True)
        )
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.to_image = MapToImage(spatial_dims, self.pool, sigma, keep_score="none")

    def collect(self, image: Tensor) -> None:
        """Add a batch of normal scans ``(B, C, *spatial)`` to the banks."""
        with torch.no_grad():
            views = self.views(image)
            for part in self.parts:
                assert isinstance(part, BackboneTokens)
                embedded = [part.embed(view) for view in views]
                part.bank.collect(torch.stack([tokens for tokens, _, _ in embedded], 1), embedded[0][1])
                if part.judges_pooled:
                    part.pooled.collect(embedded[0][2])

    def fit(self) -> None:
        """Choose what is kept, and measure the distances of normal scans to each other."""
        for part in self.parts:
            assert isinstance(part, BackboneTokens)
            part.bank.fit()
            if part.judges_pooled:
                part.pooled.fit()

    def views(self, image: Tensor) -> list[Tensor]:
        """The scans ``(B, C, *spatial)`` as they are, turned and mirrored."""
        return self.shown_as(image)

    def grid_map(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(B, 1, *grid)`` on the first backbone's grid, in deviations of normal tokens, and score ``(B,)``."""
        maps: list[Tensor] = []
        local, pooled = torch.zeros_like(image[:, 0].flatten(1)[:, 0]), torch.zeros_like(image[:, 0].flatten(1)[:, 0])
        for part in self.parts:
            found, apart = part.judge(image)  # type: ignore[operator]
            if self.foreground >= 0:
                grid = list(found.shape[2:])
                found = found * (part.intensities(image, grid) > self.foreground)  # type: ignore[operator]
            local, pooled = local + self.pool(found), pooled + apart
            if len(maps) > 0:
                found = functional.interpolate(found, maps[0].shape[2:], mode=self.mode, align_corners=False)
            maps.append(found)
        score = local if self.score == "local" else pooled
        if self.score == "both":
            score = (local + pooled) / 2
        return torch.stack(maps).mean(0), score / len(maps)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The map, interpolated to the image grid and smoothed, scaled for each case to pool to its score."""
        found, score = self.grid_map(image)
        return self.pool.scaled_to(score, self.to_image(found, image.shape[2:]))


def _for_each(layers: Sequence[int] | Sequence[Sequence[int]] | None, count: int) -> list[Sequence[int] | None]:
    """The layers of each backbone."""
    if layers is None:
        return [None] * count
    if all(isinstance(layer, int) for layer in layers):
        return [layers] * count  # type: ignore[list-item]
    return list(layers)  # type: ignore[arg-type]
