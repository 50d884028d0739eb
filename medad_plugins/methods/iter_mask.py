"""IterMask: a scan is painted over and filled in, and the mask shrinks to what cannot be filled in."""

from __future__ import annotations

from functools import partial

import torch
from monai.networks.nets import BasicUNet
from torch import Tensor

from medad_plugins.diffusion import coarse_noise
from medad_plugins.errors import InputError
from medad_plugins.losses.full_precision import full_precision
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.batch_noise import batch_drawn, batch_normal, batch_uniform
from medad_plugins.networks.blocks.foreground import foreground
from medad_plugins.scorers import QuantileRange

__all__ = ["IterMask"]

_LEVELS = 5
_GROUPS = 8
# grid of the blobs that are painted over in training, along each axis
_POINTS = 8
# values of a scan's errors that are kept for the limit
_KEPT = 1000


class IterMask(AnomalyNetwork):
    """IterMask: noise covers the whole body at first, then only what was not filled in as it was, until that is stable.

    Two U-Nets that are trained at once, by `medad_plugins.losses.ResidualLoss` with the squared difference. The first
    makes a scan of its high frequencies, which say where structures are and little of how bright; where it errs most is
    the first mask. The second fills in what is covered by noise, from the rest and the high frequencies. The mask keeps
    the places where its error exceeds a limit, which few places of normal scans do: `collect` and `fit` find it after
    the training.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        width: channels of the first of five levels of both networks, a multiple of 8; each next level has twice as
            many.
        radius: frequencies below it, in cycles a pixel, keep their phase alone.
        share: of the body, that the first mask covers.
        quantile: of the errors in covered places of normal scans, the limit.
        stable: a mask that shrinks by less than this share of itself is the last.
        rounds: how often a mask may shrink.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Raises:
        InputError: the width is none, or, when called, an edge of the scan is too short to be halved four times.
        ValueError: a share is none, or there is no round.

    Reference:
        Liang et al., "IterMask2: Iterative unsupervised anomaly segmentation via spatial and frequency masking for
        brain lesions in MRI", MICCAI 2024.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        width: int = 64,
        radius: float = 0.0625,
        share: float = 0.6,
        quantile: float = 0.8,
        stable: float = 0.01,
        rounds: int = 20,
        reduction: str | float = "mean",
    ) -> None:
        super().__init__(reduction)
        if width < _GROUPS or width % _GROUPS:
            raise InputError("no such width", where="width", expected=f"a multiple of {_GROUPS}", found=width)
        if not (0 < share <= 1 and 0 < quantile < 1 and 0 <= stable < 1 and radius >= 0 and rounds >= 1):
            raise ValueError(
                "share, quantile and stable must be shares, radius not negative and rounds positive, "
                f"got {share}, {quantile}, {stable}, {radius}, {rounds}."
            )
        widths = (*[width * 2**level for level in range(_LEVELS)], width)
        make = partial(BasicUNet, features=widths, act="swish", norm=("group", {"num_groups": _GROUPS}))
        self.first = make(spatial_dims, in_channels, in_channels)
        self.second = make(spatial_dims, 2 * in_channels, in_channels)
        self.radius, self.share, self.stable, self.rounds = radius, share, stable, rounds
        self.limits = QuantileRange(quantile, (1 + quantile) / 2)

    def high_frequencies(self, image: Tensor) -> Tensor:
        """Scans ``(B, C, *spatial)`` whose low frequencies have all the same strength."""
        axes = list(range(2, image.dim()))
        spectrum = torch.fft.fftn(image, dim=axes)
        squares = torch.zeros(image.shape[2:], device=image.device)
        for place, axis in enumerate(axes):
            own = [1] * len(axes)
            own[place] = -1
            squares = squares + torch.fft.fftfreq(image.shape[axis], device=image.device).reshape(own).square()
        phases = torch.polar(torch.ones_like(image), spectrum.angle())
        kept = torch.where(squares.sqrt() < self.radius, phases, spectrum)
        return torch.fft.ifftn(kept, dim=axes).real

    def fill_in(self, image: Tensor, mask: Tensor, noise: Tensor, edges: Tensor) -> Tensor:
        """What the second network makes of scans that are covered by noise in a mask ``(B, 1, *spatial)``."""
        filled: Tensor = self.second(torch.cat([torch.where(mask, noise, image), edges], 1)).to(image.dtype)
        return filled

    def _require_size(self, image: Tensor) -> None:
        if min(image.shape[2:]) < 2 ** (_LEVELS - 1):
            raise InputError(
                "the image is too small for a U-Net of five levels",
                expected=f"at least {2 ** (_LEVELS - 1)} pixels along every edge",
                found=" x ".join(str(int(edge)) for edge in image.shape[2:]),
                todo="raise --image_size",
            )

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What both networks make of the scans, along the channels, and the scans, twice."""
        self._require_size(image)
        whole = full_precision(image)
        fields = batch_drawn(partial(coarse_noise, points=_POINTS), [len(whole), 1, *whole.shape[2:]], whole)
        shares = batch_uniform((len(whole),), whole)
        mask = _covered(fields, shares) & foreground(whole).bool()
        edges = self.high_frequencies(whole)
        first = self.first(edges).to(whole.dtype)
        second = self.fill_in(whole, mask, batch_normal(whole.shape, whole), edges)
        return torch.cat([first, second], 1), torch.cat([whole, whole], 1)

    @torch.no_grad()
    def collect(self, image: Tensor) -> None:
        """Add the errors of the second network in covered places of normal scans; in eval mode."""
        whole = full_precision(image)
        generator = torch.Generator().manual_seed(0)
        fields = coarse_noise([len(whole), 1, *whole.shape[2:]], generator, points=_POINTS).to(whole)
        shares = torch.rand(len(whole), generator=generator).to(whole)
        mask = _covered(fields, shares) & foreground(whole).bool()
        noise = torch.randn(whole.shape, generator=generator).to(whole)
        filled = self.fill_in(whole, mask, noise, self.high_frequencies(whole))
        errors = (filled - whole).square().mean(1, keepdim=True)
        for error, covered in zip(errors, mask, strict=True):
            values = error[covered].sort().values
            if len(values):
                even = torch.linspace(0, len(values) - 1, min(_KEPT, len(values)), device=values.device).round().long()
                self.limits.collect(values[even][None])

    def fit(self) -> None:
        """Find the limit of what was collected."""
        self.limits.fit()

    def refine(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Filled-in scans ``(B, C, *spatial)``, the last masks, and everywhere the last errors ``(B, 1, *spatial)``."""
        self._require_size(image)
        edges, body = self.high_frequencies(image), foreground(image).bool()
        generator = torch.Generator().manual_seed(0)
        guess = (self.first(edges).to(image.dtype) - image).square().mean(1, keepdim=True)
        mask = _highest(guess, body, self.share)
        filled, errors = image, torch.zeros_like(guess)
        runs = torch.ones([len(image)] + [1] * (image.dim() - 1), dtype=torch.bool, device=image.device)
        for _ in range(self.rounds):
            # the same for every case, so that a scan has one map
            noise = torch.randn([1, *image.shape[1:]], generator=generator).to(image)
            answer = torch.where(mask, self.fill_in(image, mask, noise, edges), image)
            error = (answer - image).square().mean(1, keepdim=True)
            filled, errors = torch.where(runs, answer, filled), torch.where(runs & mask, error, errors)
            smaller = error > self.limits.start
            before, now = mask.flatten(1).sum(1), (mask & smaller).flatten(1).sum(1)
            runs = runs & ((before - now) > self.stable * before).reshape(runs.shape)
            if not bool(runs.any()):
                break
            mask = torch.where(runs, mask & smaller, mask)
        return filled, mask, errors

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scans with what is left of their masks filled in, ``(B, C, *spatial)``, intensities about 0..1."""
        return self.refine(full_precision(image))[0]

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The squared error of each place when it was last covered; zero where it never was, float32."""
        if torch.jit.is_scripting() or torch.compiler.is_exporting():
            raise RuntimeError("noise is drawn anew in every call: the map cannot be exported")
        return self.refine(full_precision(image))[2].float()


def _covered(fields: Tensor, shares: Tensor) -> Tensor:
    """Where fields ``(B, 1, *spatial)`` are highest, in a share ``(B,)`` of each case."""
    ordered = fields.flatten(1).sort(1, descending=True).values
    places = (shares * (ordered.shape[1] - 1)).round().long()
    return fields >= ordered.gather(1, places[:, None]).reshape([-1] + [1] * (fields.dim() - 1))


def _highest(values: Tensor, body: Tensor, share: float) -> Tensor:
    """Where values ``(B, 1, *spatial)``, not negative, are highest, in a share of each body."""
    ordered = values.masked_fill(~body, -1.0).flatten(1).sort(1, descending=True).values
    places = (share * body.flatten(1).sum(1)).round().long().clamp(1, ordered.shape[1]) - 1
    return (values >= ordered.gather(1, places[:, None]).reshape([-1] + [1] * (values.dim() - 1))) & body
