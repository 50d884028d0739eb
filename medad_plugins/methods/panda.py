"""PANDA: pretrained features drawn together for normal scans, and the nearest of these."""

from __future__ import annotations

from torch import Tensor, nn

from medad_plugins.networks.families.fine_tuned_neighbours import FineTunedNeighbours

__all__ = ["CompactnessLoss", "Panda"]


class CompactnessLoss(nn.Module):
    """Mean of squared distances ``(B,)`` from the centre; whatever the target is."""

    def forward(self, distances: Tensor, target: Tensor | None = None) -> Tensor:
        return distances.mean()


class Panda(FineTunedNeighbours):
    """PANDA: the later stages of a pretrained encoder learn to draw normal scans together, the early ones stay.

    Two stages: a short training by gradient on `CompactnessLoss` towards the mean feature of the normal scans as the
    encoder was (`medad_plugins.handlers.InitialCentre`), which ends before everything has become one point; then the
    features of the normal scans are kept, and the nearest of these give the score. With no iteration it is DN2. It says
    whether a scan is abnormal and not where: its map is constant.

    Args:
        spatial_dims, in_channels, backbone, weights, encoder_norm, norm_momentum: see `FineTunedNetwork`.
        stages: of the encoder, 3 or 4; the last one's features are averaged over the scan.
        frozen: how many of them stay as they are, with all that comes before.
        neighbours: whose mean squared distance is the score.
        most_scans: that are kept; of more, so many are drawn.
        reduction: image score, see `medad_plugins.scorers.MapPool`; the same for all.

    Buffers:
        centre ``(D,)``.

    References:
        Reiss et al., "PANDA: adapting pretrained features for anomaly detection and segmentation", CVPR 2021; Bergman,
        Cohen and Hoshen, "Deep nearest neighbor anomaly detection", 2020 (DN2).
    """
