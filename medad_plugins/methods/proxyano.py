"""After ProxyAno: a scan rebuilt from a picture of its superpixels, which a memory of normal scans gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medad_plugins.losses.full_precision import full_precision
from medad_plugins.losses.memory import memory_weight_terms
from medad_plugins.networks.blocks.memory_module import MemoryModule
from medad_plugins.networks.blocks.superpixels import Superpixels
from medad_plugins.networks.coders.plain_unet import PlainUNet
from medad_plugins.networks.families.autoencoding import AutoencodingNetwork
from medad_plugins.scorers import ResidualMap, residual_map

__all__ = ["ProxyAno", "ProxyTerms"]


class ProxyAno(AutoencodingNetwork):
    """ProxyAno: from a scan to the flat pieces that a normal one would have there, and from these back to a scan.

    The first network has a memory in its bottleneck and no skips, so that it knows the pieces of normal scans alone;
    the second, a U-Net, only paints detail into them, and learns to paint normal detail even where a piece of something
    else was pasted. Trained by `ProxyTerms`. The residual is the anomaly map.

    Args:
        spatial_dims, in_channels, image_size, channels, reduction: see `AutoencodingNetwork`.
        latent_size: of every location of the last grid, and of the memory's items.
        items, threshold, similarity, sharpness: of the memory, see `MemoryModule`.
        features: channels of the second network's levels, finest first.
        residual: of the map, see `medad_plugins.scorers.residual_map`.

    Reference:
        Zhou et al., "Proxy-bridged image reconstruction network for anomaly detection in medical images", IEEE TMI 41,
        2022.

    Example:
        >>> network = ProxyAno(image_size=32, channels=(4, 8), latent_size=8, items=10, features=(4, 8)).eval()
        >>> network(torch.rand(2, 1, 32, 32)).shape
        torch.Size([2, 1, 32, 32])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        channels: Sequence[int] = (16, 32, 64, 64),
        latent_size: int = 64,
        items: int = 500,
        threshold: float = 0.002,
        similarity: str = "cosine",
        sharpness: float = 10.0,
        features: Sequence[int] = (16, 32, 64),
        residual: str = "l1",
        reduction: str | float = "mean",
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            image_size,
            channels=channels,
            hidden_size=0,
            latent_size=latent_size,
            bottleneck="spatial",
            reduction=reduction,
        )
        self.memory = MemoryModule(latent_size, items, threshold, similarity, sharpness)
        self.painter = PlainUNet(spatial_dims, in_channels, features, out_channels=in_channels)
        self.difference = ResidualMap(residual)

    def proxy(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pieces ``(B, C, *spatial)`` as of a normal scan, and the weights ``(B, items, *grid)`` of the memory."""
        answer, weights = self.memory(self.encode(image))
        return self.decode(answer), weights

    def paint(self, proxy: Tensor) -> Tensor:
        """The scan ``(B, C, *spatial)``, intensities about 0..1, that has these pieces."""
        painted: Tensor = self.painter(proxy)
        return painted

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scan by way of its pieces, ``(B, C, *spatial)``."""
        return self.paint(self.proxy(image)[0])

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pieces, and the weights that they were put together with."""
        return self.proxy(image)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Residual between the scan and its reconstruction, averaged over channels, not negative."""
        difference: Tensor = self.difference(self.reconstruct(image).float(), image.float())
        return difference


class ProxyTerms:
    """Terms of a phase of `medad_plugins.engines.PhasedTrainer`.

    A batch has ``image``, in some of which a piece of the scan is pasted elsewhere, and as target ``(clean, mask)``,
    the scans without it and where it is.

    Args:
        superpixels: what scans are to become in between.
    """

    def __init__(self, superpixels: Superpixels) -> None:
        self.superpixels = superpixels

    def __call__(self, network: ProxyAno, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Mean absolute differences, and `medad_plugins.losses.memory_weight_terms`.

        Returns:
            ``proxy``, of what the first network gives and the clean scan's superpixels; ``painted``, of what the second
            makes of these superpixels, with the pasted piece on them, and the clean scan; ``bridged``, likewise of what
            the first gives, which takes no gradient from there: it is to give superpixels and no more.
        """
        clean, mask = batch["target"]
        simple = self.superpixels(clean)
        proxy, weights = network.training_output(clean)
        proxy = full_precision(proxy)
        pasted = torch.where(mask > 0, batch["image"].to(simple), simple)
        painted, bridged = full_precision(network.paint(torch.cat([pasted, proxy.detach()]))).chunk(2)
        clean = full_precision(clean)
        return {
            "proxy": residual_map(proxy, simple, "l1").mean(),
            "painted": residual_map(painted, clean, "l1").mean(),
            "bridged": residual_map(bridged, clean, "l1").mean(),
            **memory_weight_terms(weights),
        }
