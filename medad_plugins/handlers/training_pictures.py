"""Pictures of what a training does: held-out scans, how the network rebuilds them, and their maps."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer, SimpleInferer
from monai.transforms import ResizeWithPadOrCrop
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.files import atomic_path, output_folder, remove_file
from medad_plugins.protocols import Reconstructs
from medad_plugins.reports.figures import colour_table

__all__ = ["TrainingPictures", "training_picture"]

logger = logging.getLogger(__name__)

_SIDE, _GAP = 160, 4


class TrainingPictures:
    """Every so often draws held-out scans, their reconstructions and their maps into one picture.

    ``<output_dir>/training/iteration_<n>.png``, a column for each scan, upright; of a volume the middle slice. What is
    drawn changes nothing of the training: the network's mode and all random numbers are put back. The first rank draws.

    Args:
        network: trained; where it has a method ``reconstruct(image)`` that is drawn too.
        loader: batches of held-out cases; the first cases are drawn.
        output_dir: where the folder ``training`` lies.
        inferer: how the network is called.
        pictures: how many over the whole training, at least one at its end.
        cases: columns.
        slice_axis: axis along which volumes are cut, whose slices are rows and columns; None for whole ones, in RAS.
        middle: edges of what is drawn of every case, its middle; None draws it whole.
    """

    def __init__(
        self,
        network: nn.Module,
        loader: Iterable[dict[str, Any]],
        output_dir: str | Path,
        inferer: Inferer | None = None,
        pictures: int = 8,
        cases: int = 6,
        slice_axis: int | None = None,
        middle: Sequence[int] | None = None,
    ) -> None:
        self.middle = None if middle is None else ResizeWithPadOrCrop(middle)
        self.network, self.loader, self.folder = network, loader, Path(output_dir) / "training"
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.pictures, self.cases, self.slice_axis = max(1, pictures), cases, slice_axis

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw_when_due)

    def _start(self, engine: Engine) -> None:
        """What an earlier training has drawn must not pass for this one's; a resumed one goes on."""
        for path in self.folder.glob("iteration_*.png") if engine.state.epoch == 0 else ():
            remove_file(path)

    def _draw_when_due(self, engine: Engine) -> None:
        state: Any = engine.state
        step = max(1, state.max_epochs // self.pictures)
        if state.epoch % step and state.epoch != state.max_epochs:
            return
        picture = self.draw()
        if picture is None:
            return
        try:
            path = output_folder(self.folder) / f"iteration_{state.iteration:06d}.png"
            with atomic_path(path) as temporary:
                picture.save(temporary, format="PNG")
        except InputError as error:
            logger.warning("%s The training goes on without this picture.", error)

    @torch.no_grad()
    def draw(self) -> Image.Image | None:
        """The picture now; None where no case can be read."""
        # PyTorch's loaders draw from the generator too
        with torch.random.fork_rng(devices=[]):
            images = self._images()
            if images is None:
                return None
            modes = {module: module.training for module in self.network.modules()}
            self.network.eval()
            rows = [images]
            if isinstance(self.network, Reconstructs):
                rows.append(self.inferer(images, _Calls(self.network.reconstruct)))
            rows.append(self.inferer(images, self.network))
            for module, mode in modes.items():
                module.training = mode
        return training_picture([row.float().cpu() for row in rows], self.slice_axis)

    def _images(self) -> Tensor | None:
        found: list[Tensor] = []
        batches: Iterator[dict[str, Any]] = iter(self.loader)
        while len(found) < self.cases:
            batch = next(batches, None)
            if batch is None:
                break
            images = batch["image"].as_tensor()
            found += list(images if self.middle is None else map(self.middle, images))
        if not found:
            return None
        device = next(iter(self.network.state_dict().values())).device
        return torch.stack(found[: self.cases]).to(device)


class _Calls:
    """A method as an inferer takes it: a network that gives a tensor."""

    def __init__(self, method: Any) -> None:
        self.method = method

    def __call__(self, image: Tensor) -> Tensor:
        output: Tensor = self.method(image)
        return output


def training_picture(rows: list[Tensor], slice_axis: int | None = None) -> Image.Image:
    """Scans and what else has their form in grey, and in the last row maps from their lowest to highest value.

    Args:
        rows: of ``(B, C, *spatial)`` each, the last of ``(B, 1, *spatial)``.
        slice_axis: see `TrainingPictures`.
    """
    cells = [[_plane(values, slice_axis) for values in row] for row in rows]
    low, high = min(float(c.min()) for c in cells[-1]), max(float(c.max()) for c in cells[-1])
    scale = max(high - low, 1e-12)
    colours = [[_grey(cell) for cell in row] for row in cells[:-1]]
    colours.append([colour_table()[(np.clip((cell - low) / scale, 0, 1) * 255).astype(np.uint8)] for cell in cells[-1]])
    height, width = colours[0][0].shape[:2]
    factor = _SIDE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    whole = Image.new(
        "RGB", ((size[0] + _GAP) * len(colours[0]) + _GAP, (size[1] + _GAP) * len(colours) + _GAP), "white"
    )
    for i, row in enumerate(colours):
        for j, cell in enumerate(row):
            picture = Image.fromarray(cell).resize(size, Image.Resampling.NEAREST)
            whole.paste(picture, (_GAP + j * (size[0] + _GAP), _GAP + i * (size[1] + _GAP)))
    return whole


def _plane(values: Tensor, slice_axis: int | None) -> NDArray[np.float32]:
    """The middle slice of ``(C, *spatial)``, channels averaged, upright."""
    mean = values.mean(0)
    if mean.dim() == 3:
        axis = 2 if slice_axis is None else slice_axis
        mean = mean.select(axis, mean.shape[axis] // 2)
        # of right, anterior, superior: rows to the back, columns to the left
        mean = mean.T.flip([0, 1]) if slice_axis is None else mean
    plane: NDArray[np.float32] = np.ascontiguousarray(mean.numpy())
    return np.nan_to_num(plane)


def _grey(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    shades = (np.clip(plane, 0, 1) * 255).astype(np.uint8)
    return np.repeat(shades[..., None], 3, axis=-1)
