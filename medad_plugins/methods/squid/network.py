"""SQUID: normal anatomy remembered by its place."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.methods.squid.decoder import PatchDecoder
from medad_plugins.methods.squid.inpainting import InpaintingBlock
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.blocks.patch_grid import split_patches
from medad_plugins.networks.blocks.residual_block3 import ResidualBlock3
from medad_plugins.networks.coders.conv_family import doubling_widths
from medad_plugins.networks.coders.dcgan import ConvDiscriminator
from medad_plugins.scorers import ResidualMap, StandardScore

__all__ = ["SQUID", "Rebuilt"]

PARTS = 2  # patches along each edge of a scan
SCORES = ("rating", "residual")


class Rebuilt(NamedTuple):
    """A batch as the student and the teacher rebuild it ``(B, C, *spatial)``, 0..1, and the maps of their levels."""

    student: Tensor
    teacher: Tensor
    student_maps: list[Tensor]
    teacher_maps: list[Tensor]


class SQUID(AnomalyNetwork):
    """SQUID: patches of a scan are painted anew from memories of their places, and a discriminator rates the result.

    An encoder sees every patch by itself; `InpaintingBlock` paints its features from what queues of normal patches hold
    of its neighbours; the student rebuilds the scan from that, the teacher from the features as they were. What the
    memories do not hold is rebuilt badly, and a discriminator, trained against the student, rates how badly. Trained by
    `medad_plugins.engines.PhasedTrainer` on `medad_plugins.methods.squid.squid_generator_terms` and
    `squid_discriminator_terms`; then `collect` and `fit` see how it rates normal scans.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edges of the scan in pixels; a patch, half of each, is halved down to a grid of about 4.
        width: channels of the finest level; every coarser one has twice as many, up to 16 times as many.
        critic_width: of the discriminator's first block, up to 8 times as wide.
        slots: of every memory.
        top_k: see `medad_plugins.networks.blocks.memory_addressing.look_up`.
        heads: of the attention.
        max_length: see `InpaintingBlock`.
        masked_share: of the locations that are painted in training; the others keep the original features.
        score: ``"rating"``, the paper's by the discriminator, to which the map is scaled, or ``"residual"``, which the
            map then is.
        reduction: of the map, see `medad_plugins.scorers.MapPool`; it decides the score of ``"residual"`` alone.
        critic_norm: of the discriminator, see `norm_layer`. ``"instance"`` rates a scan by its own statistics, in
            training as in scoring; ``"batch"``, the paper's, scores with running statistics, which are those of no
            batch that it was trained on: scans and rebuilt scans come to it in batches of their own. The public code
            scores single scans in train mode, which is each scan's own statistics as well.
        residual: of the map, see `medad_plugins.scorers.residual_map`.

    Reference:
        Xiang et al., "SQUID: Deep Feature In-Painting for Unsupervised Anomaly Detection", CVPR 2023.
    """

    # constructor keywords of older model files
    renamed_settings: ClassVar[dict[str, str]] = {
        "strongest": "top_k",
        "longest": "max_length",
        "share": "masked_share",
    }

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 128,
        width: int = 32,
        critic_width: int = 16,
        slots: int = 200,
        top_k: int = 5,
        heads: int = 8,
        max_length: int = 2048,
        masked_share: float = 0.95,
        score: str = "rating",
        reduction: str | float = "mean",
        critic_norm: str = "batch",
        residual: str = "l1",
    ) -> None:
        super().__init__(reduction)
        if score not in SCORES:
            raise ValueError(f"score must be one of {SCORES}, got {score!r}.")
        self.by_rating = score == "rating"
        self.difference = ResidualMap(residual)
        self.parts = PARTS  # as TorchScript can see it
        size = ensure_tuple_rep(image_size, spatial_dims)
        if any(edge % PARTS for edge in size):
            expected, found = f"a multiple of {PARTS} along every axis", " x ".join(map(str, size))
            raise InputError(
                "a scan is cut in two along every axis", where="image_size", expected=expected, found=found
            )
        patch = [edge // PARTS for edge in size]
        widths = [width, *doubling_widths(patch, 2 * width, widest=16 * width)]
        self.stem = ResidualBlock3(spatial_dims, in_channels, width)
        self.down = nn.ModuleList(
            ResidualBlock3(spatial_dims, before, after, stride=2) for before, after in itertools.pairwise(widths)
        )
        grid = [edge // 2 ** len(self.down) for edge in patch]
        self.inpainting = InpaintingBlock(
            spatial_dims,
            parts=PARTS,
            channels=widths[-1],
            grid=grid,
            slots=slots,
            top_k=top_k,
            heads=heads,
            max_length=max_length,
            masked_share=masked_share,
        )
        self.student = PatchDecoder(
            spatial_dims,
            in_channels,
            parts=PARTS,
            widths=widths,
            patch_size=patch,
            slots=slots,
            top_k=top_k,
            masked_share=masked_share,
        )
        self.teacher = PatchDecoder(spatial_dims, in_channels, parts=PARTS, widths=widths, patch_size=patch)
        critic_widths = doubling_widths(size, critic_width, widest=8 * critic_width)
        self.discriminator = ConvDiscriminator(spatial_dims, in_channels, size, critic_widths, critic_norm)
        _start_as_pytorch_does(self.discriminator)
        self.normality = StandardScore()
        self.to_remember: Tensor | None = None

    def encode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The patches' deepest features ``(B * positions, C, *grid)``, and those of the finer levels, finest first."""
        x = self.stem(split_patches(image, self.parts))
        finer: list[Tensor] = []
        for down in self.down:
            finer.append(x)
            x = down(x)
        return x, finer

    def reconstruct(self, image: Tensor) -> Tensor:
        """The scan rebuilt from the memories, ``(B, C, *spatial)``, 0..1."""
        deepest, finer = self.encode(image)
        rebuilt: Tensor = self.student(self.inpainting(deepest)[0], finer)[0]
        return rebuilt

    def training_output(self, image: Tensor) -> Rebuilt:
        """What both decoders make of scans; the teacher's gradient does not reach the encoder.

        The patches are noted for `remember`.
        """
        deepest, finer = self.encode(image)
        painted, queries = self.inpainting(deepest)
        self.to_remember = queries.detach()
        student, student_maps = self.student(painted, finer)
        teacher, teacher_maps = self.teacher(deepest.detach(), [x.detach() for x in finer])
        return Rebuilt(student, teacher, student_maps, teacher_maps)

    def remember(self) -> None:
        """Write the patches of the latest `training_output` into the queues, once: after a step of the generator."""
        if self.to_remember is not None:
            self.inpainting.queues.remember(self.to_remember)
            self.to_remember = None

    def rating(self, rebuilt: Tensor) -> Tensor:
        """The discriminator's logits ``(B,)`` of rebuilt scans, high where they look real; in single precision."""
        logits: Tensor = self.discriminator(rebuilt)[0].to(self.normality.mean.dtype)
        return logits

    @torch.no_grad()
    def collect(self, image: Tensor) -> None:
        """Add how a batch of normal scans ``(B, C, *spatial)`` is rated, in eval mode."""
        was_training = self.training
        self.eval()
        self.normality.collect(self.rating(self.reconstruct(image)))
        self.train(was_training)

    def fit(self) -> None:
        """Compute mean and standard deviation of the collected ratings."""
        self.normality.fit()

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Residual; for ``"rating"`` scaled so that its pooled value is the paper's score.

        That is one minus the sigmoid of the standardised rating.
        """
        rebuilt = self.reconstruct(image)
        residual: Tensor = self.difference(rebuilt.to(image.dtype), image)
        if not self.by_rating:
            return residual
        score = torch.sigmoid(-self.normality(self.rating(rebuilt)))
        return self.pool.scaled_to(score, residual)


def _start_as_pytorch_does(network: nn.Module) -> None:
    """Initialise all layers as they are without DCGAN, whose small weights make ratings that are all but equal."""
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
