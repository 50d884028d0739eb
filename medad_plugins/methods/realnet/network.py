"""RealNet: chosen features are rebuilt, and a network looks at the residuals that stand out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.methods.realnet.channel_selection import ChannelSelection
from medad_plugins.methods.realnet.ranked_residuals import RankedResiduals
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones import make_taps
from medad_plugins.networks.blocks.say_rare import say_rare
from medad_plugins.networks.blocks.upsample_to import UpsampleTo
from medad_plugins.networks.coders.attention_unet import AttentionUNet
from medad_plugins.scorers import LocalMeanScore

__all__ = ["RealNet"]

CHANNELS = (256, 512, 512, 256)
HEAD = (128, 32, 8, 4)


class PlainResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm beside the input, ReLU after the first and after the sum."""

    def __init__(self, channels: int, spatial_dims: int) -> None:
        super().__init__()
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        self.layers = nn.Sequential(
            conv(channels, channels, 3, padding=1, bias=False),
            norm(channels),
            nn.ReLU(inplace=True),
            conv(channels, channels, 3, padding=1, bias=False),
            norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.layers(x))


class PlainResidualStep(nn.Module):
    """ReLU and 3x3 convolution, ReLU and 1x1 convolution, beside the input; without a norm."""

    def __init__(self, channels: int, spatial_dims: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.layers = nn.Sequential(
            nn.ReLU(),
            conv(channels, channels, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
            conv(channels, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.layers(x)
        return y


class ResidualJudge(nn.Module):
    """From residuals on the finest tap's grid to two logits a pixel.

    How large residuals are is what it goes by. A norm divides by the size of those of a batch of which half is
    abnormal, so there is one alone, after the first convolution that has fewer channels.

    Args:
        in_channels: of the residuals.
        spatial_dims: 2 or 3.
        widths: channels of the convolutions.
        norms: True has batch norms after every convolution instead.

    Shape:
        ``(B, in_channels, *grid)`` and the image's size to ``(B, 2, *size)``.
    """

    def __init__(self, in_channels: int, spatial_dims: int, widths: Sequence[int] = HEAD, norms: bool = False) -> None:
        super().__init__()
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]

        def step(before: int, after: int, normed: bool) -> nn.Sequential:
            layers = [conv(before, after, 3, padding=1, bias=not normed), *([norm(after)] if normed else [])]
            return nn.Sequential(*layers, nn.ReLU(inplace=True))

        block = PlainResidualBlock if norms else PlainResidualStep
        blocks = [block(in_channels, spatial_dims) for _ in range(2)]
        pairs = itertools.pairwise([in_channels, *widths[:-1]])
        steps = [step(before, after, norms or index == 0) for index, (before, after) in enumerate(pairs)]
        self.on_grid = nn.Sequential(*blocks, *steps)
        self.enlarge = UpsampleTo(spatial_dims)
        self.on_image = nn.Sequential(step(widths[-2], widths[-1], norms), conv(widths[-1], 2, 3, padding=1))

    def forward(self, residuals: Tensor, size: list[int]) -> Tensor:
        logits: Tensor = self.on_image(self.enlarge(self.on_grid(residuals), size))
        return logits


class RealNet(AnomalyNetwork):
    """RealNet: features that show synthetic anomalies are rebuilt as if there were none; what differs is judged.

    The backbone is frozen. Before the training `observe` sees scans with synthetic anomalies and `choose` keeps
    the channels that show them best, see `ChannelSelection`. Trained with `medad_plugins.methods.realnet.RealNetLoss`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: a key of `medad_plugins.networks.TAPS`; the paper's is ``wide_resnet50_2``.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`.
        layers: of the backbone, finest first, see `make_taps`; the paper takes all four stages of a ResNet.
        channels: how many channels of each are kept; all where it has no more.
        ranked: residuals kept by maximum and by mean, each, see `RankedResiduals`; the paper's is 256.
        window: edge of the window in which the map is averaged for the score, in pixels; the paper's is 16 of 256.
        reduction: image score, see `medad_plugins.scorers.MapPool`.
        judge_norms: see `ResidualJudge`; models of before this was asked have True.
        rebuilt_from: ``"nothing"``, where each rebuilder's output is the rebuilt features: at first it is zero, so that
            residuals show how strong the features are until it has learnt; or ``"seen"``, where it is what to add to
            the features that it is given, so that residuals are zero at first and then show what was taken away.

    Raises:
        InputError: the backbone has no such layers, or features cannot be rebuilt so.

    Reference:
        Zhang et al., "RealNet: A feature selection network with realistic synthetic anomaly for anomaly detection",
        CVPR 2024.
    """

    # read by Python hosts only; TorchScript would try to compile it
    __jit_unused_properties__ = ["is_chosen"]  # noqa: RUF012

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "wide_resnet50_2",
        weights: str = "imagenet",
        layers: Sequence[int] = (1, 2, 3, 4),
        channels: Sequence[int] = CHANNELS,
        ranked: int = 256,
        window: int = 16,
        reduction: str | float = "max",
        judge_norms: bool = True,
        rebuilt_from: str = "nothing",
    ) -> None:
        super().__init__(reduction)
        if rebuilt_from not in ("nothing", "seen"):
            raise InputError(
                "features cannot be rebuilt so", where="rebuilt_from", expected="nothing or seen", found=rebuilt_from
            )
        self.adds = rebuilt_from == "seen"
        if len(channels) != len(layers):
            raise ValueError(f"channels must be {len(layers)} numbers, one for each layer, got {list(channels)}.")
        self.features = make_taps(backbone, spatial_dims, in_channels, layers, weights)
        taps = self.features.channels
        self.selections = nn.ModuleList(ChannelSelection(tap, kept) for tap, kept in zip(taps, channels))
        kept = [min(tap, count) for tap, count in zip(taps, channels)]
        self.rebuilders = nn.ModuleList(AttentionUNet(spatial_dims, count, count, max(1, count // 2)) for count in kept)
        self.ranking = RankedResiduals(kept, spatial_dims, ranked)
        self.judge = ResidualJudge(self.ranking.out_channels, spatial_dims, norms=judge_norms)
        say_rare(self.judge.on_image[-1])
        self.keep_score = LocalMeanScore(spatial_dims, self.pool, window, padded=False)

    def taps(self, image: Tensor) -> list[Tensor]:
        """Features of the layers that are used, all channels."""
        taps: list[Tensor] = self.features(image)
        return taps

    @property
    def is_chosen(self) -> bool:
        """Whether channels were chosen, by this network or the one it was loaded from."""
        return all(bool(selection.is_fitted) for selection in self.selections)

    @torch.no_grad()
    def observe(self, pair: Tensor, mask: Tensor) -> None:
        """Take scans with synthetic anomalies, and the same without, into account for the choice of channels.

        Args:
            pair: both along the channels, ``(B, 2 * C, *spatial)``.
            mask: where the anomalies are, ``(B, 1, *spatial)``.
        """
        taps = self.taps(torch.cat(pair.chunk(2, 1)))
        for selection, tap in zip(self.selections, taps):
            assert isinstance(selection, ChannelSelection)
            anomalous, clean = tap.chunk(2)
            selection.observe(anomalous, clean, mask)

    def choose(self) -> None:
        """Choose channels by what was observed."""
        for selection in self.selections:
            assert isinstance(selection, ChannelSelection)
            selection.choose()

    def training_output(self, image: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Logits ``(B, 2, *spatial)``, rebuilt and clean features, of scans with anomalies and the same without.

        Args:
            image: both along the channels, ``(B, 2 * C, *spatial)``.
        """
        anomalous, _ = image.chunk(2, 1)
        rebuilt: list[Tensor] = []
        clean: list[Tensor] = []
        residuals: list[Tensor] = []
        # the frozen backbone does not look at batch mates, so both halves go through it together
        taps = self.taps(torch.cat(image.chunk(2, 1)))
        for tap, select, rebuild in zip(taps, self.selections, self.rebuilders):
            seen, without = select(tap).chunk(2)
            rebuilt.append(rebuild(seen) + seen if self.adds else rebuild(seen))
            clean.append(without)
            residuals.append((seen - rebuilt[-1]) ** 2)
        return self.judge(self.ranking(residuals), list(anomalous.shape[2:])), rebuilt, clean

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Probability that a pixel is abnormal, scaled for each case to what its score is, 0..1.

        The paper's score is the highest mean of the probability over a window.
        """
        residuals: list[Tensor] = []
        taps = self.taps(image)
        for index, (select, rebuild) in enumerate(zip(self.selections, self.rebuilders)):
            seen = select(taps[index])
            rebuilt = rebuild(seen)
            residuals.append(rebuilt**2 if self.adds else (seen - rebuilt) ** 2)
        logits = self.judge(self.ranking(residuals), list(image.shape[2:]))
        return self.keep_score(torch.softmax(logits.float(), 1)[:, 1:])
