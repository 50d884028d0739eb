"""Hetero-AE: what a convolutional encoder saw, rebuilt by a decoder that is half transformer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.methods.hetero_ae.hybrid import HybridDecoder
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps, usual_layers
from medad_plugins.scorers import CosineMapFusion

__all__ = ["HeteroAE"]


class HeteroAE(AnomalyNetwork):
    """After Hetero-AE: the deepest features of a frozen convolutional encoder are decoded to its finer ones.

    Encoder and decoder differ in kind, so that the decoder does not learn to pass on what it is given. Trained with
    `medad_plugins.methods.hetero_ae.FeatureSimilarityLoss`. Of the paper only the abstract and another's public code
    were at hand.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edges of the scans that are trained on, for positions.
        backbone: a key of `medad_plugins.networks.TAPS`, frozen; the paper's is ``resnet18``.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: two or more of the backbone, finest first, see `make_taps`; the last is decoded, the others are
            rebuilt. None for the stem and stages 1 to 3 of a ResNet, or what `usual_layers` says of another backbone.
        dropout: see `PatchAttention`.
        sigma: Gaussian smoothing of the map before it is scored, in pixels of the image.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Raises:
        InputError: there is but one layer.

    Reference:
        Lu et al., "Anomaly Detection for Medical Images Using Heterogeneous Auto-Encoder", IEEE TIP 33, 2024.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 256,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        layers: Sequence[int] | None = None,
        dropout: float = 0.1,
        sigma: float = 0.0,
        reduction: str | float = "max",
    ) -> None:
        super().__init__(reduction)
        layers = usual_layers(backbone, (0, 1, 2, 3)) if layers is None else layers
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        if len(self.features.channels) < 2:
            raise InputError(
                "one feature map is decoded to others",
                where="layers",
                expected="two or more of the backbone's, finest first",
                found=list(layers),
                todo="give --layers, e.g. [2,5,8] of a transformer",
            )
        edges = [image_size] * spatial_dims if isinstance(image_size, int) else image_size
        self.decoder = HybridDecoder(edges, self.features.channels, self.features.strides, dropout)
        self.fusion = CosineMapFusion(spatial_dims, self.pool, "sum", on_image_grid=True, sigma=sigma)

    def rebuild(self, taps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Rebuilt and true feature maps ``(B, C_k, *grid_k)``, finest first, without the deepest."""
        sizes: list[list[int]] = []
        for tap in taps[:-1]:
            sizes.append([int(edge) for edge in tap.shape[2:]])
        return self.decoder(taps[-1], sizes), taps[:-1]

    def training_output(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """See `rebuild`."""
        return self.rebuild(self.features.remembered(image))

    def anomaly_map(self, image: Tensor) -> Tensor:
        """One minus the cosine of rebuilt and true features, summed over their maps on the image grid."""
        rebuilt, true = self.rebuild(self.features(image))
        return self.fusion(rebuilt, true, image.shape[2:])
