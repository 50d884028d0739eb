"""PatchCL-AE: a rebuilt scan must be alike place by place, to an encoder that learns what that means."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.methods.patchcl_ae.coder import STEPS, StrideEightDecoder, StrideEightEncoder
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.batch_noise import batch_normal
from medad_plugins.networks.coders.conv_family import ConvEncoder, doubling_widths
from medad_plugins.scorers import CosineMapFusion

__all__ = ["PatchCLAE"]


class PlaceProjection(nn.Module):
    """Two linear layers with a ReLU between them, at every place of a map.

    Shape:
        ``(B, P, in_channels)`` to ``(B, P, dimensions)``.
    """

    def __init__(self, in_channels: int, dimensions: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_channels, dimensions), nn.ReLU(inplace=True), nn.Linear(dimensions, dimensions)
        )

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.layers(features)
        return projected


class PatchCLAE(AnomalyNetwork):
    """PatchCL-AE: a denoising autoencoder without a residual in pixels, whose encoder compares scan and reconstruction.

    Encoder, decoder and projections learn to distinguish a place of the reconstruction from all other places of the
    scan and to recognise it as its own, and to make a discriminator take the whole for a scan. The map is what the
    same encoder finds unlike. Trained by `medad_plugins.engines.PhasedTrainer` on `PatchCLAETerms`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edges of the scan in pixels, multiples of 8.
        width: channels of the encoder's first depth; see `StrideEightEncoder`.
        blocks: of the encoder's last depth.
        critic_width: channels of the discriminator's first block, which doubles them up to 8 times as many.
        dimensions: of the projections and of the discriminator's hidden layer.
        reduction: image score, see `medad_plugins.scorers.MapPool`.
        depths: whose maps are added up, of 0 (the scan's resolution) to 4; None takes all, as the paper.

    Reference:
        Lu et al., "PatchCL-AE: Anomaly detection for medical images using patch-wise contrastive learning-based
        auto-encoder", Computerized Medical Imaging and Graphics 114, 2024.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 256,
        width: int = 64,
        blocks: int = 6,
        critic_width: int = 64,
        dimensions: int = 256,
        reduction: str | float = 0.0015,
        depths: Sequence[int] | None = None,
    ) -> None:
        super().__init__(reduction)
        self.mapped = list(range(STEPS + 2)) if depths is None else sorted(depths)
        if not self.mapped or not set(self.mapped) <= set(range(STEPS + 2)):
            raise InputError("there are no such depths", where="depths", expected=f"of 0 to {STEPS + 1}", found=depths)
        size = ensure_tuple_rep(image_size, spatial_dims)
        step = 2**STEPS
        # an instance norm of a single place would be no norm
        if any(edge % step or edge < 2 * step for edge in size):
            raise InputError(
                f"the network halves its image {STEPS} times",
                where="image_size",
                expected=f"a multiple of {step} along every axis, {2 * step} or more",
                found=" x ".join(map(str, size)),
            )
        self.encoder = StrideEightEncoder(spatial_dims, in_channels, width, blocks)
        self.decoder = StrideEightDecoder(spatial_dims, in_channels, width)
        self.projections = nn.ModuleList(PlaceProjection(channels, dimensions) for channels in self.encoder.channels)
        trunk = ConvEncoder(
            spatial_dims,
            in_channels,
            size,
            doubling_widths(size, critic_width, widest=8 * critic_width),
            norm="instance",
            slope=0.2,
        )
        cells = int(torch.tensor(trunk.grid).prod())
        self.discriminator = nn.Sequential(
            trunk,
            nn.Flatten(),
            nn.Linear(cells, dimensions),
            nn.LeakyReLU(0.2),
            nn.Linear(dimensions, 1),
            nn.Flatten(0),
        )
        self.fusion = CosineMapFusion(spatial_dims, self.pool, combine="sum", on_image_grid=True)

    def rebuild(self, scan: Tensor) -> Tensor:
        """What is rebuilt of scans ``(B, C, *spatial)``; both from -1 to 1, as everything inside is."""
        rebuilt: Tensor = self.decoder(self.encoder(scan)[-1])
        return rebuilt

    def rebuild_noisy(self, scan: Tensor, noise: float) -> Tensor:
        """What is rebuilt of scans with Gaussian noise of a standard deviation."""
        return self.rebuild(scan + noise * batch_normal(scan.shape, scan))

    def reconstruct(self, image: Tensor) -> Tensor:
        """What is rebuilt of scans ``(B, C, *spatial)``; intensities from 0 to 1."""
        return (self.rebuild(image * 2 - 1) + 1) / 2

    @staticmethod
    def grids(size: list[int]) -> list[list[int]]:
        """Edges of the depths' maps of a scan."""
        return [[edge // 2 ** min(depth, STEPS) for edge in size] for depth in range(STEPS + 2)]

    def at_places(self, scan: Tensor, places: list[Tensor]) -> list[Tensor]:
        """Projected features ``(B, P_k, D)`` of every depth at some places of its map, counted in reading order."""
        vectors: list[Tensor] = []
        features = self.encoder(scan)
        for index, projection in enumerate(self.projections):
            chosen = features[index].flatten(2)[:, :, places[index]].transpose(1, 2)
            vectors.append(projection(chosen))
        return vectors

    def projected(self, features: list[Tensor]) -> list[Tensor]:
        """Maps ``(B, D, *grid)`` of projected features, a list for the depths that the map takes."""
        maps: list[Tensor] = []
        for index, projection in enumerate(self.projections):
            if index in self.mapped:
                maps.append(projection(features[index].movedim(1, -1)).movedim(-1, 1))
        return maps

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Sum over the depths of one minus the cosine of scan and reconstruction; 0 to twice their number."""
        features = self.encoder(image * 2 - 1)
        rebuilt = self.encoder(self.decoder(features[-1]))
        return self.fusion(self.projected(rebuilt), self.projected(features), list(image.shape[2:]))
