"""RIAD: a scan is rebuilt cell by cell from what is around the cells; edges that do not come back are abnormal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import BasicUNet
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.losses.full_precision import full_precision
from medad_plugins.losses.gaussian_ssim import gaussian_ssim
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.batch_noise import batch_drawn, batch_uniform
from medad_plugins.scorers import EdgeDissimilarity, local_mean

__all__ = ["RIAD", "RIADLoss"]

_LEVELS = 5
_GROUPS = 8
# cells along an edge after which the fixed parts of scoring repeat
_TABLE = {2: 41, 3: 13}


def _parts_of(values: Tensor, parts: int) -> Tensor:
    """Numbers of parts, of equal size but for one, for ``(..., cells)`` by the order of random values."""
    return values.argsort(-1).argsort(-1) % parts


class RIAD(AnomalyNetwork):
    """RIAD: square cells of a scan are painted over, a third of them at a time, and a U-Net fills them in.

    Every cell is filled in once, so that a whole scan comes out of which no pixel saw itself. Cells have several sizes:
    what is as small as a cell is replaced by what normal scans have there. Trained with `RIADLoss`; in training the
    size is drawn for each batch and the parts for each scan, in scoring all sizes are used, each with parts that are
    always the same, so that a scan has one map.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        width: channels of the first of five levels, a multiple of 8; each next level has twice as many.
        sizes: edges of the cells, in pixels.
        parts: into which the cells are divided.
        window: edge of the window, odd, in which the map is averaged.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Raises:
        InputError: the width is none, or, when called, an edge of the scan is too short to be halved four times.
        ValueError: there are no sizes, or fewer than two parts.

    Reference:
        Zavrtanik et al., "Reconstruction by inpainting for visual anomaly detection", Pattern Recognition 112, 2021.

    Example:
        >>> network = RIAD(width=8, sizes=(2, 4)).eval()
        >>> image = torch.rand(2, 1, 32, 32)
        >>> network(image).shape, network.reconstruct(image).shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 1, 32, 32]))
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        width: int = 64,
        sizes: Sequence[int] = (2, 4, 8, 16),
        parts: int = 3,
        window: int = 21,
        reduction: str | float = "max",
    ) -> None:
        super().__init__(reduction)
        if width < _GROUPS or width % _GROUPS:
            raise InputError("no such width", where="width", expected=f"a multiple of {_GROUPS}", found=width)
        if not sizes or min(sizes) < 1 or parts < 2 or window < 1 or window % 2 == 0:
            raise ValueError(
                f"sizes must be positive, parts at least 2 and window odd, got {list(sizes)}, {parts}, {window}."
            )
        self.unet = BasicUNet(
            spatial_dims,
            in_channels,
            in_channels,
            features=(*[width * 2**level for level in range(_LEVELS)], width),
            norm=("group", {"num_groups": _GROUPS}),
        )
        self.sizes: list[int] = [int(size) for size in sizes]
        self.parts, self.window = parts, window
        edge = _TABLE[spatial_dims]
        drawn = torch.rand(edge**spatial_dims, generator=torch.Generator().manual_seed(0))
        self.table: Tensor = nn.Buffer(_parts_of(drawn, parts).reshape([edge] * spatial_dims), persistent=False)
        self.difference = EdgeDissimilarity(spatial_dims)

    def _fixed_parts(self, image: Tensor, size: int) -> Tensor:
        """The part of every pixel in scoring, ``(1, 1, *spatial)``."""
        parts = self.table
        for axis in range(image.dim() - 2):
            cells = torch.arange(image.shape[2 + axis], device=image.device) // size
            parts = parts.index_select(axis, cells % self.table.shape[axis])
        return parts[None, None]

    def drawn_parts(self, image: Tensor, size: int) -> Tensor:
        """The part of every pixel in training, ``(B, 1, *spatial)``, drawn for each scan."""
        grid = [-(-int(edge) // size) for edge in image.shape[2:]]
        values = batch_uniform((len(image), torch.Size(grid).numel()), image)
        parts = _parts_of(values, self.parts).reshape(len(image), 1, *grid)
        for axis, edge in enumerate(image.shape[2:], 2):
            parts = parts.repeat_interleave(size, axis).narrow(axis, 0, int(edge))
        return parts

    def fill_in(self, image: Tensor, parts: Tensor) -> Tensor:
        """Scans ``(B, C, *spatial)`` rebuilt part by part, float32.

        Args:
            image: intensities 0..1.
            parts: the part of each pixel, ``(B, 1, *spatial)`` or of one case.
        """
        if not torch.jit.is_scripting():
            self._require_size(image)
        painted = torch.cat([image.masked_fill(parts == part, 0.0) for part in range(self.parts)])
        # not by chunk, whose length an export would take for that of its example
        answers: Tensor = self.unet(painted).float().unflatten(0, [self.parts, image.shape[0]])
        whole = torch.zeros_like(image, dtype=torch.float32)
        for part in range(self.parts):
            whole = torch.where(parts == part, answers[part], whole)
        return whole

    def _require_size(self, image: Tensor) -> None:
        if min(image.shape[2:]) < 2 ** (_LEVELS - 1):
            raise InputError(
                "the image is too small for a U-Net of five levels",
                expected=f"at least {2 ** (_LEVELS - 1)} pixels along every edge",
                found=" x ".join(str(int(edge)) for edge in image.shape[2:]),
                todo="raise --image_size",
            )

    def training_output(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The rebuilt scans, and the scans."""
        like = torch.empty(0, dtype=torch.long, device=image.device)
        # one size for the batch, of all processes: that of its first case
        chosen = batch_drawn(lambda shape: torch.randint(len(self.sizes), shape[1:]).expand(shape), [1, 1], like)
        size = self.sizes[int(chosen[0])]
        return self.fill_in(image, self.drawn_parts(image, size)), full_precision(image)

    def reconstruct(self, image: Tensor) -> Tensor:
        """The mean over cell sizes of the rebuilt scans, ``(B, C, *spatial)``, intensities about 0..1."""
        rebuilt = [self.fill_in(image, self._fixed_parts(image, size)) for size in self.sizes]
        return torch.stack(rebuilt).mean(0)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """One minus the similarity of edges, mean over scales and cell sizes, averaged in a window."""
        whole = image.float()
        maps = [self.difference(self.fill_in(image, self._fixed_parts(image, size)), whole) for size in self.sizes]
        return local_mean(torch.stack(maps).mean(0), self.window)


class RIADLoss(nn.Module):
    """Mean squared error, plus the dissimilarity of edges, plus one minus the structural similarity.

    Args:
        spatial_dims: 2 or 3.
        edge_weight: of the second.
        similarity_weight: of the third.

    Shape:
        the pair ``(rebuilt, image)``, each ``(B, C, *spatial)``, intensities 0..1, to a scalar; a target is not used.
    """

    def __init__(self, spatial_dims: int = 2, edge_weight: float = 1.0, similarity_weight: float = 1.0) -> None:
        super().__init__()
        self.edge_weight, self.similarity_weight = edge_weight, similarity_weight
        self.edges = EdgeDissimilarity(spatial_dims)

    def forward(self, output: tuple[Tensor, Tensor], target: Tensor | None = None) -> Tensor:
        # the engine's target is that of no synthesis: the scan comes with what was made of it
        rebuilt, image = output
        loss = functional.mse_loss(rebuilt, image) + self.edge_weight * self.edges(rebuilt, image).mean()
        return loss + self.similarity_weight * (1 - gaussian_ssim(rebuilt, image).mean())
