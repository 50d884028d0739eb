"""Deep perceptual autoencoder: reconstructions that are to look like the scan to a frozen backbone."""

from __future__ import annotations

from collections.abc import Sequence

from monai.utils import ensure_tuple_rep
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.methods.deep_perceptual_ae.coder import make_coder
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import usual_layers
from medad_plugins.networks.blocks.bottleneck import BOTTLENECKS
from medad_plugins.networks.blocks.perceptual import PerceptualResidual

__all__ = ["DeepPerceptualAE"]

# edge of the coarsest grid, from which the latent is taken
_COARSEST = {"vector": 4, "spatial": 8}


class DeepPerceptualAE(AnomalyNetwork):
    """Deep perceptual autoencoder: trained, and judged, by how different the reconstruction looks to a backbone.

    Trained with `medad_plugins.losses.RelativePerceptualL1` of its own ``difference``. With ``standardise`` the
    backbone's features of the normal scans are measured before: `medad_plugins.handlers.InitialCentre`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edge lengths of the scan in pixels; they are halved while all are even and the shortest is at least
            twice the coarsest grid, 4 or, with a spatial latent, 8.
        width: channels of the blocks, at all resolutions; or one for each, finest first.
        blocks: residual blocks of each resolution.
        latent_size: length of the latent, of each location where the bottleneck is ``"spatial"``.
        bottleneck: ``"vector"`` or ``"spatial"``.
        backbone, weights, standardise: of the frozen features, see `PerceptualResidual`.
        layers: whose features are compared, see `make_taps`; None is the second stage of a ResNet, of any other
            backbone its usual ones.
        reduction: image score, see `medad_plugins.scorers.MapPool`; the paper's is ``"mean"``.

    Raises:
        InputError: the scan cannot be halved, or there are not as many widths as resolutions.

    Reference:
        Shvetsova et al., "Anomaly Detection in Medical Imaging With Deep Perceptual Autoencoders", IEEE Access 9, 2021.

    Example:
        >>> network = DeepPerceptualAE(image_size=32, width=4, backbone="resnet10", weights="none").eval()
        >>> image = torch.rand(2, 1, 32, 32)
        >>> network(image).shape, network.reconstruct(image).shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 1, 32, 32]))
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        width: int | Sequence[int] = 16,
        blocks: int = 2,
        latent_size: int = 16,
        bottleneck: str = "vector",
        backbone: str = "resnet18",
        weights: str = "imagenet",
        layers: Sequence[int] | None = None,
        standardise: bool = True,
        reduction: str | float = "mean",
    ) -> None:
        super().__init__(reduction)
        if bottleneck not in BOTTLENECKS:
            raise ValueError(f"bottleneck must be one of {BOTTLENECKS}, got {bottleneck!r}.")
        if blocks < 1:
            raise ValueError(f"blocks must be at least 1, got {blocks}.")
        edges = list(ensure_tuple_rep(image_size, spatial_dims))
        coarsest = _COARSEST[bottleneck]
        halvings = 0
        while min(edges) >= 2 * coarsest and not any(edge % 2 for edge in edges):
            edges, halvings = [edge // 2 for edge in edges], halvings + 1
        if not halvings:
            expected = f"even edges of at least {2 * coarsest} pixels"
            raise InputError("the image cannot be halved", where="image_size", expected=expected, found=image_size)
        widths = [width] * (halvings + 1) if isinstance(width, int) else list(width)
        if len(widths) != halvings + 1:
            expected = f"{halvings + 1}, one for each resolution, or one number for all"
            raise InputError("these are not the widths", where="width", expected=expected, found=len(widths))
        self.encoder, self.decoder = make_coder(
            spatial_dims, in_channels, widths, edges, latent_size, bottleneck, blocks
        )
        chosen = usual_layers(backbone, (2,)) if layers is None else layers
        self.difference = PerceptualResidual(spatial_dims, in_channels, backbone, weights, chosen, standardise)

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scan decoded from its latent, ``(B, C, *spatial)``, intensities about 0..1."""
        # the network itself works on -1..1
        rebuilt: Tensor = (self.decoder(self.encoder(image * 2 - 1)) + 1) / 2
        return rebuilt

    def embed(self, image: Tensor) -> Tensor:
        """Moments of the backbone's features ``(B, D)``, by whose mean over the normal scans they are standardised."""
        return self.difference.moments(image)

    def set_centre(self, mean: Tensor) -> None:
        """Take the mean of the moments ``(D,)``."""
        self.difference.set_moments(mean)

    def training_output(self, image: Tensor) -> Tensor:
        """The reconstruction ``(B, C, *spatial)``."""
        return self.reconstruct(image)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """How different scan and reconstruction look at each place, relative to the scan's features, not negative."""
        values: Tensor = self.difference(self.reconstruct(image), image)
        return values.float()
