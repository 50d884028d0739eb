"""DRAEM: a network that repairs scans and one that says where it did."""

from __future__ import annotations

import torch
from torch import Tensor

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.coders.pooling_unet import PoolingUNet
from medad_plugins.scorers import LocalMeanScore

__all__ = ["DRAEM"]


class DRAEM(AnomalyNetwork):
    """DRAEM: repairs synthetic anomalies without skips, then finds them in the scan and its repaired form together.

    Trained with `medad_plugins.methods.draem.DRAEMLoss` on scans with synthetic anomalies.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        width: channels of the repairing network's finest level, then twice, four and eight times as many, and eight
            again; the paper's is 128.
        segmentation_width: the same of the other network, which has six levels; the paper's is 64.
        norm_momentum: momentum of the batch norms' running statistics.
        window: edge of the window in which the map is averaged for the score, in pixels, odd; the paper's is 21 at 256.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Raises:
        ValueError: for widths below one or a window that is even.

    Reference:
        Zavrtanik et al., "DRAEM - A discriminatively trained reconstruction embedding for surface anomaly detection",
        ICCV 2021.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        width: int = 128,
        segmentation_width: int = 64,
        norm_momentum: float = 0.1,
        window: int = 21,
        reduction: str | float = "max",
    ) -> None:
        super().__init__(reduction)
        if window % 2 == 0:
            raise ValueError(f"window must be odd, got {window}.")
        repairing = [width * factor for factor in (1, 2, 4, 8, 8)]
        finding = [segmentation_width * factor for factor in (1, 2, 4, 8, 8, 8)]
        self.reconstruction = PoolingUNet(
            spatial_dims, in_channels, in_channels, repairing, skips=False, norm_momentum=norm_momentum
        )
        self.segmentation = PoolingUNet(
            spatial_dims, 2 * in_channels, 2, finding, skips=True, norm_momentum=norm_momentum
        )
        self.keep_score = LocalMeanScore(spatial_dims, self.pool, window, padded=True)

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The repaired scan ``(B, C, *spatial)``, and logits ``(B, 2, *spatial)`` of normal and abnormal."""
        repaired = self.reconstruction(image)
        logits: Tensor = self.segmentation(torch.cat([repaired, image], 1))
        return repaired, logits

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Probability that a pixel is abnormal, scaled for each case to what its score is, 0..1.

        The paper's score is the highest mean of the probability over a window: one pixel alone counts little.
        """
        repaired = self.reconstruction(image)
        logits = self.segmentation(torch.cat([repaired, image], 1))
        # not in half precision, where autocast gives that: probabilities near one would tie
        probability = torch.softmax(logits.float(), 1)[:, 1:]
        return self.keep_score(probability)
