"""Files of a case: map and mask on the scan's own grid, and a picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged
from numpy.typing import NDArray
from PIL import Image

from medad_plugins.data.nifti_output import write_nifti
from medad_plugins.files import atomic_path, output_folder
from medad_plugins.protocols import Calibrated
from medad_plugins.reports.figures import case_caption, colour_range, overlay_picture, scan_planes

__all__ = ["SaveImageAnomalyd", "SaveImageOverlayd"]

_PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
_FOLDERS = {"anomaly_map": "maps", "anomaly_mask": "masks", "overlay": "overlays"}


class _CaseWriter(SaveImaged):
    """A MONAI writer by class, so that hosts that leave out writers (MONAI Label does by class) leave out these too."""

    def __init__(self, keys: str | Sequence[str], output_dir: str | os.PathLike[str]) -> None:
        MapTransform.__init__(self, keys)  # not SaveImaged's own: its file names and formats are not ours
        self.output_dir = Path(output_dir)

    def _path(self, case: Mapping[Hashable, Any], key: str, suffix: str) -> Path:
        return output_folder(self.output_dir / _FOLDERS[key]) / f"{case['case_id']}{suffix}"


class SaveImageAnomalyd(_CaseWriter):
    """Writes ``anomaly_map`` and ``anomaly_mask``, each ``(1, *spatial)``, in the scan's grid and affine.

    Files: ``maps/<case_id>.nii.gz`` (float32) and ``masks/<case_id>.nii.gz`` (uint8, 0 and 1), or
    ``masks/<case_id>.png`` (0 and 255, rows and columns of the original file) where the scan is a picture file. A 2D
    map has a third axis of 1 and MONAI's axis order (columns, rows). NIfTI files have the scan's qform and sform, see
    `medad_plugins.data.nifti_output`. The names are added to the case as ``<key>_file``.

    Args:
        keys: ``anomaly_map``, ``anomaly_mask`` or both.
        output_dir: folder to write below.

    Raises:
        InputError: the folder cannot be written.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        for key in self.keys:
            values: MetaTensor = case[key]
            source = str(values.meta.get("filename_or_obj", ""))
            if key == "anomaly_mask" and Path(source).suffix.lower() in _PICTURE_SUFFIXES:
                path = self._path(case, str(key), ".png")
                _write_png(path, values[0].numpy() * np.uint8(255))
            else:
                path = self._path(case, str(key), ".nii.gz")
                write_nifti(path, values[0].numpy(), np.asarray(values.affine), source)
            case[f"{key}_file"] = str(path)
        return case


def _write_png(path: Path, values: NDArray[np.uint8]) -> None:
    """MONAI's arrays are (columns, rows), a picture file is written row by row."""
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(values.T)).save(temporary, format="PNG")


class SaveImageOverlayd(_CaseWriter):
    """Writes ``overlays/<case_id>.png``: scan, heat map with colour bar, scan under the map with the mask's contour.

    A volume shows three planes through the highest value of its map. The colour scale comes from the calibration and is
    the same for all cases of a network, whatever alpha. The name is added to the case as ``overlay_file``.

    Args:
        restore: transform that adds ``scan``, the image as the network saw it, on the scan's grid.
        network: has ``calibration``.
        output_dir: folder to write below.

    Raises:
        InputError: the folder cannot be written.
    """

    def __init__(
        self,
        restore: Callable[[Mapping[Hashable, Any]], dict[Hashable, Any]],
        network: Calibrated,
        output_dir: str | os.PathLike[str],
    ) -> None:
        super().__init__("image", output_dir)
        self.restore, self.network = restore, network

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        scan: MetaTensor = self.restore({"image": case["image"]})["scan"]
        anomaly_map, mask = case["anomaly_map"][0].numpy(), case["anomaly_mask"][0].numpy()
        planes = scan_planes(scan.numpy(), anomaly_map, mask, np.asarray(scan.affine))
        picture = overlay_picture(
            planes,
            limits=colour_range(self.network.calibration),
            threshold=case["pixel_threshold"],
            caption=case_caption(case),
            flagged=case["is_anomalous"],
        )
        path = self._path(case, "overlay", ".png")
        with atomic_path(path) as temporary:
            picture.save(temporary, format="PNG", compress_level=3)
        case["overlay_file"] = str(path)
        return case
