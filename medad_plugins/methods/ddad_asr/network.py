"""DDAD-ASR: autoencoders that disagree, and a network that refines where."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.methods.ddad_asr.member import KINDS, EnsembleMember
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.scorers import GaussianSmoothing

__all__ = ["DDADASR"]

SCORES = ("refined", "intra", "inter", "residual")


def _refiner(spatial_dims: int, in_channels: int, width: int) -> nn.Sequential:
    """ASR-Net: three 3x3 convolutions, the first two with norm and ReLU, to logits of normal and abnormal."""
    conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
    layers: list[nn.Module] = []
    for before in (in_channels, width):
        layers += [conv(before, width, 3, padding=1), norm(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, conv(width, 2, 3, padding=1))


class DDADASR(AnomalyNetwork):
    """DDAD-ASR: where autoencoders that learnt normal scans alone disagree, with each other or with those of any scans.

    The intra-discrepancy is the standard deviation of what the normal ensemble's members rebuild; the
    inter-discrepancy, how far its mean is from that of an ensemble that learnt unlabelled scans besides. A small
    network, ASR-Net, learns from synthetic anomalies what in them is abnormal. Trained in two phases, see
    `medad_plugins.methods.ddad_asr.ddad_ensembles` and `ddad_refinement`.

    Args:
        spatial_dims, in_channels, image_size, channels, hidden_size, latent_size, items: see `EnsembleMember`.
        kind: of the members: ``"ae"``, ``"ae_u"``, whose discrepancies count in the standard deviation that they say a
            pixel has, or ``"memae"``.
        members: of each ensemble, 2 or more.
        unlabelled: whether there is the second ensemble. Without, the refinement has the intra-discrepancy alone.
        width: of ASR-Net.
        score: what the map is: ``"refined"``, ``"intra"``, ``"inter"``, or ``"residual"`` of the normal ensemble's
            mean.
        sigma: Gaussian smoothing, in pixels, of the scan and of what members rebuild before they are compared; 0 is the
            paper's.
        reduction: image score, see `medad_plugins.scorers.MapPool`; the paper's is ``"mean"``.

    Raises:
        InputError: there is no such kind or score, there are fewer than two members, or the score wants unlabelled
            scans.

    Reference:
        Cai et al., "Dual-distribution discrepancy with self-supervised refinement for anomaly detection in medical
        images", MedIA 86, 2023.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        channels: Sequence[int] = (16, 32, 64, 64),
        hidden_size: int = 2048,
        latent_size: int = 16,
        items: int = 25,
        kind: str = "ae",
        members: int = 3,
        unlabelled: bool = False,
        width: int = 128,
        score: str = "refined",
        sigma: float = 0.0,
        reduction: str | float = "mean",
    ) -> None:
        super().__init__(reduction)
        for name, value, known in (("kind", kind, KINDS), ("score", score, SCORES)):
            if value not in known:
                raise InputError(
                    f"there is no such {name}", where=name, expected=f"one of {', '.join(known)}", found=value
                )
        if members < 2:
            raise InputError("one autoencoder cannot disagree", where="members", expected="2 or more", found=members)
        if score == "inter" and not unlabelled:
            raise InputError(
                "the inter-discrepancy is one to autoencoders of unlabelled scans, and there are none",
                where="score",
                found=score,
                todo="give --unlabelled_dir, or another --score",
            )
        self.score = score
        self.smoothing = GaussianSmoothing(spatial_dims, sigma)
        many = 2 if unlabelled else 1
        self.normal, self.mixed = (
            nn.ModuleList(
                EnsembleMember(spatial_dims, in_channels, image_size, channels, kind, hidden_size, latent_size, items)
                for _ in range(count)
            )
            for count in (members, members * (many - 1))
        )
        self.refiner = _refiner(spatial_dims, many, width)

    def smoothed(self, scans: Tensor) -> Tensor:
        """Scans ``(B, C, *spatial)``, each channel smoothed."""
        smooth: Tensor = self.smoothing(scans.flatten(0, 1).unsqueeze(1))
        return smooth.reshape(scans.shape)

    def discrepancies(self, image: Tensor) -> list[Tensor]:
        """Intra-discrepancy, residual and, with a second ensemble, inter-discrepancy, each ``(B, 1, *spatial)``.

        They are those of intensities -1..1, averaged over the channels; uncertain members' are divided by the standard
        deviation, the squared residual by the variance.
        """
        scaled = 2 * image - 1
        rebuilt: list[Tensor] = []
        variances: list[Tensor] = []
        for member in self.normal:
            mean, log_variance, _ = member(scaled)
            rebuilt.append(self.smoothed(mean.float()))
            variances.append(log_variance.float().exp())
        own = torch.stack(rebuilt)
        variance = torch.stack(variances).mean(0)
        middle = own.mean(0)
        found = [own.std(0) / variance.sqrt(), (self.smoothed(scaled.float()) - middle).square() / variance]
        others: list[Tensor] = []
        for member in self.mixed:
            others.append(self.smoothed(member(scaled)[0].float()))
        if len(others) > 0:
            found.append((middle - torch.stack(others).mean(0)).abs() / variance.sqrt())
        return [each.mean(1, keepdim=True) for each in found]

    def training_output(self, image: Tensor) -> Tensor:
        """ASR-Net's logits ``(B, 2, *spatial)`` of normal and abnormal; only its own parameters get gradients."""
        with torch.no_grad():
            found = self.discrepancies(image)
        return self.refined(found)

    def refined(self, found: list[Tensor]) -> Tensor:
        """Logits ``(B, 2, *spatial)`` from what `discrepancies` gives: inter first where it is there, then intra."""
        logits: Tensor = self.refiner(torch.cat(found[2:] + found[:1], 1))
        return logits

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Probability that a place is abnormal, 0..1; or a discrepancy, or the residual, not negative."""
        found = self.discrepancies(image)
        if self.score == "intra":
            return found[0]
        if self.score == "residual":
            return found[1]
        if self.score == "inter":
            return found[2]
        return torch.softmax(self.refined(found).float(), 1)[:, 1:]
