"""A folder of generated scans."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import ignite.distributed as idist
import nibabel as nib
import numpy as np
import torch
from monai.utils import ensure_tuple_rep
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from medad_plugins.diffusion.respaced_scheduler import RespacedDDPMScheduler
from medad_plugins.diffusion.sampling import draw_samples
from medad_plugins.errors import InputError
from medad_plugins.files import atomic_path, output_folder
from medad_plugins.inferers import PrecisionInferer

__all__ = ["GeneratedScans"]

logger = logging.getLogger(__name__)

NAME = "generated_"


class GeneratedScans:
    """Writes scans drawn from a diffusion model, each a little less normal than the model was trained on.

    Images become PNG, volumes NIfTI of a millimetre a voxel, both of 8 bits: what `generated_pool` of
    `medad_plugins.synthesis` reads.
    Earlier generated scans in the folder are replaced. The same seed and batch size give the same scans.

    Args:
        network: the trained model.
        folder: where they go.
        count: how many.
        image_size: voxels along every axis, one number or one an axis.
        spatial_dims: 2 or 3.
        in_channels: channels of a scan, 1 or 3 for images and 1 for volumes.
        strength: lowest and highest share by which the variance of each step is raised, drawn for each scan; 0 gives
            normal scans. The paper's are 0.1 and 0.2.
        steps: of the sampling, see `RespacedDDPMScheduler`.
        num_train_timesteps: times that the model was trained with.
        batch_size: scans drawn at once.
        seed: not negative.
        precision: see `medad_plugins.inferers.PrecisionInferer`.
        device: where the model is.

    Raises:
        InputError: a setting cannot be used; when writing, the folder holds other files.

    Reference:
        Zhang et al., "RealNet", CVPR 2024, where it is called strength-controllable diffusion anomaly synthesis.
    """

    def __init__(
        self,
        network: nn.Module,
        folder: str | Path,
        count: int,
        image_size: int | Sequence[int],
        spatial_dims: int = 2,
        in_channels: int = 1,
        strength: Sequence[float] = (0.1, 0.2),
        steps: int = 20,
        num_train_timesteps: int = 1000,
        batch_size: int = 8,
        seed: int = 0,
        precision: str = "float32",
        device: str | torch.device = "cpu",
    ) -> None:
        if count < 2:
            raise InputError(
                "there are too few generated scans for a pool", where="count", expected="2 or more", found=count
            )
        if len(strength) != 2 or not -1 < strength[0] <= strength[1]:
            expected = "two ascending numbers above -1, e.g. [0.1, 0.2]"
            raise InputError("the strength is not understood", where="strength", expected=expected, found=strength)
        if in_channels not in ((1, 3) if spatial_dims == 2 else (1,)):
            expected = "1 or 3 for images, 1 for volumes"
            raise InputError(
                "scans of so many channels cannot be written", where="in_channels", expected=expected, found=in_channels
            )
        self.network, self.folder, self.count = network, Path(folder), count
        self.shape = (in_channels, *ensure_tuple_rep(image_size, spatial_dims))
        self.strength, self.batch_size, self.seed, self.device = tuple(strength), batch_size, seed, device
        self.scheduler = RespacedDDPMScheduler(steps, 1.0, num_train_timesteps)
        self.call = PrecisionInferer(precision)

    def require_folder(self) -> None:
        """Say before hours of training that the folder cannot be used.

        Raises:
            InputError: it cannot be written, or holds files that are not generated scans.
        """
        folder = output_folder(self.folder)
        others = [path.name for path in folder.iterdir() if not path.name.startswith(NAME)]
        if others:
            raise InputError(
                "the folder for generated scans holds other files",
                where=folder,
                found=", ".join(sorted(others)[:3]),
                todo="give another --generated_dir",
            )

    def write(self) -> Path:
        """Draw and write the scans; the folder. With several ranks, the first does."""
        if idist.get_rank() > 0:
            return self.folder
        self.require_folder()
        for old in self.folder.glob(f"{NAME}*"):
            old.unlink()
        low, high = self.strength
        for start in range(0, self.count, self.batch_size):
            size = min(self.batch_size, self.count - start)
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + start)
            self.scheduler.variance_factor = 1 + low + (high - low) * torch.rand(size, generator=generator)
            shape = (size, *self.shape)
            scans = draw_samples(self.network, self.scheduler, shape, generator, self.call, self.device)
            for number, scan in enumerate(scans, start):
                self._save(scan, self.folder / f"{NAME}{number:05d}")
            logger.info("generated %d of %d scans.", start + size, self.count)
        return self.folder

    def _save(self, scan: Tensor, path: Path) -> None:
        values: NDArray[np.uint8] = np.rint(scan.float().cpu().numpy() * 255).astype(np.uint8)
        if values.ndim == 3:
            pixels = values.transpose(1, 2, 0)
            with atomic_path(path.with_suffix(".png")) as temporary:
                Image.fromarray(pixels[..., 0] if len(values) == 1 else pixels).save(temporary)
        else:
            with atomic_path(path.with_name(path.name + ".nii.gz")) as temporary:
                nib.save(nib.Nifti1Image(values[0], np.eye(4)), temporary)
