"""UTRAD: features rebuilt by a transformer in the shape of a U, and errors measured by what they usually are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv, Norm, Pool
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.methods.utrad.u_transformer import UTransformer
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps
from medad_plugins.networks.blocks.aligned_taps import channel_scale
from medad_plugins.networks.blocks.patch_embedding import PatchEmbedding
from medad_plugins.networks.blocks.token_attention import TokenAttention
from medad_plugins.scorers import MapToImage

__all__ = ["UTRAD", "BlockMeans", "error_scale"]


def error_scale(spatial_dims: int, width: int) -> nn.Sequential:
    """1x1 convolutions from tokens ``(B, width, *grid)`` to one value each, narrower from one to the next."""
    conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
    widths = [width, width, *(max(1, width // part) for part in (2, 4, 8))]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [conv(before, after, 1, bias=False), norm(after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, conv(widths[-1], 1, 1))


class BlockMeans(nn.Module):
    """The mean of a map and of its means over ever larger blocks, so that an error counts more among others.

    Args:
        spatial_dims: 2 or 3.
        sizes: of every level's blocks, each in blocks of the level before.

    Shape:
        ``(B, 1, *grid)`` to the same; the blocks divide the grid.
    """

    def __init__(self, spatial_dims: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        edges = [1]
        for size in sizes:
            edges.append(edges[-1] * size)
        self.pools = nn.ModuleList(Pool[Pool.AVG, spatial_dims](edge, edge) for edge in edges)

    def forward(self, x: Tensor) -> Tensor:
        means: list[Tensor] = []
        for pool in self.pools:
            means.append(functional.interpolate(pool(x), x.shape[2:], mode=self.mode, align_corners=False))
        return torch.stack(means).mean(0)


class UTRAD(AnomalyNetwork):
    """UTRAD: a U-shaped transformer rebuilds a frozen backbone's features, and says how large its error should be.

    Trained with `medad_plugins.methods.utrad.UTRADLoss`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edges of the scans that are trained on, for positions and levels.
        backbone: a key of `medad_plugins.networks.TAPS`, frozen; the paper's is ``resnet18``.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: of the backbone, finest first, see `make_taps`; None for `usual_layers`; the paper's are stages 1 to 3.
            Their maps are joined on the grid of the first.
        scaling: ``"standard"`` brings every channel of the features to mean 0 and deviation 1, in training those of the
            batch, later the mean of all batches; ``"none"`` leaves them, as the paper does.
        width, heads, hidden, depth, dropout: of the transformer, see `UTransformer`; depth is its ``layers``.
        floor: least error that a map's errors are divided by, in the unit of the features.
        sigma: Gaussian smoothing of the map, in pixels of the image.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Reference:
        Chen et al., "UTRAD: Anomaly detection and localization with U-Transformer", Neural Networks 147, 2022.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 256,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        layers: Sequence[int] | None = None,
        scaling: str = "standard",
        width: int = 512,
        heads: int = 8,
        hidden: int = 2048,
        depth: int = 4,
        dropout: float = 0.1,
        floor: float = 0.1,
        sigma: float = 0.0,
        reduction: str | float = "max",
    ) -> None:
        super().__init__(reduction)
        if floor <= 0:
            raise ValueError(f"floor must be positive, got {floor}.")
        self.floor = floor
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        self.embedding = PatchEmbedding(self.features.channels, spatial_dims)
        self.standard = channel_scale(scaling, spatial_dims, self.embedding.out_channels)
        edges = [image_size] * spatial_dims if isinstance(image_size, int) else image_size
        grid = [-(-int(edge) // self.features.strides[0]) for edge in edges]
        self.transformer = UTransformer(grid, self.embedding.out_channels, width, heads, hidden, depth, dropout)
        self.scale = error_scale(spatial_dims, width)
        self.means = BlockMeans(spatial_dims, self.transformer.sizes)
        self.to_image = MapToImage(spatial_dims, self.pool, sigma, keep_score="none")
        _init_normal(self.transformer)
        _init_normal(self.scale)
        # from 0 it would take long to come to the size of an error
        nn.init.ones_(self.scale[-1].bias)  # type: ignore[arg-type]

    def rebuild(self, taps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Rebuilt and true features ``(B, D, *grid)``, and how far apart these should be ``(B, 1, *grid)``.

        The grid is one that the transformer's blocks divide.
        """
        embedded: Tensor = self.standard(self.embedding(taps).float())
        features = self.transformer.continued(embedded)
        rebuilt, tokens = self.transformer(features)
        return rebuilt.float(), features, self.scale(tokens.detach()).float()

    def place_parameters(self) -> list[nn.Parameter]:
        """Positions and queries: what belongs to single places, and is taught by these alone."""
        named = self.transformer.named_parameters()
        return [parameter for name, parameter in named if name.endswith(".queries")]

    def shared_parameters(self) -> list[nn.Parameter]:
        """All else that learns, the same for all places."""
        own = {id(parameter) for parameter in self.place_parameters()}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in own]

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `rebuild`."""
        return self.rebuild(self.features.remembered(image))

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Error at every place over the predicted one, averaged over blocks, interpolated; not negative."""
        rebuilt, features, scale = self.rebuild(self.features(image))
        error = (rebuilt - features).square().mean(1, keepdim=True).sqrt()
        means = self.means(error / scale.abs().clamp_min(self.floor))
        # without the places by which the grid was continued
        stride = self.features.strides[0]
        for axis, edge in enumerate(image.shape[2:]):
            means = means.narrow(2 + axis, 0, (edge + stride - 1) // stride)
        return self.to_image(means, image.shape[2:])


def _init_normal(module: nn.Module) -> None:
    """Weights as a GAN's, but for the projections of attention, which keep their own."""
    kept = {
        id(layer)
        for attention in module.modules()
        if isinstance(attention, TokenAttention)
        for layer in (attention.query, attention.key, attention.value)
    }
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.Conv3d)) and id(layer) not in kept:
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(layer.weight, 1.0, 0.02)
