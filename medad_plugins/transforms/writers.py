"""Files of a case: map and mask on the scan's own grid, and a picture."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged
from numpy.typing import NDArray
from PIL import Image

from medad_plugins.data.nifti_output import write_nifti
from medad_plugins.errors import InputError, find_input_error
from medad_plugins.files import atomic_path, output_folder, remove_file
from medad_plugins.protocols import Calibrated
from medad_plugins.reports.figures import case_caption, colour_range, overlay_picture, scan_planes

__all__ = ["CaseWriter", "SaveImageAnomalyd", "SaveImageOverlayd", "files_of_other_cases", "remove_case_files"]

logger = logging.getLogger(__name__)

_PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
_FOLDERS = {"anomaly_map": "maps", "anomaly_mask": "masks", "overlay": "overlays"}
_FILES = {"maps": (".nii.gz",), "masks": (".nii.gz", ".png"), "overlays": (".png",)}


class CaseWriter(SaveImaged):
    """A MONAI writer by class, so that hosts that leave out writers (MONAI Label does by class) leave out these too.

    A file that cannot be written, e.g. because the disk is full, is a warning and the case's ``error``: its score and
    its other files are there all the same.

    Args:
        keys: of what is written.
        output_dir: folder to write below.
    """

    def __init__(self, keys: str | Sequence[str], output_dir: str | os.PathLike[str]) -> None:
        MapTransform.__init__(self, keys)  # not SaveImaged's own: its file names and formats are not ours
        self.output_dir = Path(output_dir)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        for key in self.keys:
            try:
                self.write(case, str(key))
            except Exception as error:  # whatever a scan provokes, what was computed of it stays
                found = find_input_error(error)
                what = f"a file of {case.get('case_id', 'the scan')} cannot be made"
                found = found or InputError(what, where=self.output_dir, found=type(error).__name__)
                logger.warning("%s", found)
                case["error"] = f"{case['error']} {found}" if case.get("error") else str(found)
        return case

    def write(self, case: dict[Hashable, Any], key: str) -> None:
        """Write the files of one key, and add their names to the case."""
        raise NotImplementedError

    def _path(self, case: Mapping[Hashable, Any], key: str, suffix: str) -> Path:
        return output_folder(self.output_dir / _FOLDERS[key]) / f"{case['case_id']}{suffix}"


class SaveImageAnomalyd(CaseWriter):
    """Writes ``anomaly_map`` and ``anomaly_mask``, each ``(1, *spatial)``, in the scan's grid and affine.

    Files: ``maps/<case_id>.nii.gz`` (float32) and ``masks/<case_id>.nii.gz`` (uint8, 0 and 1), or
    ``masks/<case_id>.png`` (0 and 255, rows and columns of the original file) where the scan is a picture file. A 2D
    map has a third axis of 1 and MONAI's axis order (columns, rows). NIfTI files have the scan's qform and sform, see
    `medad_plugins.data.nifti_output`. The names are added to the case as ``<key>_file``.

    Args:
        keys: ``anomaly_map``, ``anomaly_mask`` or both.
        output_dir: folder to write below.
    """

    def write(self, case: dict[Hashable, Any], key: str) -> None:
        values: MetaTensor = case[key]
        source = str(values.meta.get("filename_or_obj", ""))
        if key == "anomaly_mask" and Path(source).suffix.lower() in _PICTURE_SUFFIXES:
            path = self._path(case, key, ".png")
            _write_png(path, values[0].numpy() * np.uint8(255))
        else:
            path = self._path(case, key, ".nii.gz")
            write_nifti(path, values[0].numpy(), np.asarray(values.affine), source)
        case[f"{key}_file"] = str(path)


def _write_png(path: Path, values: NDArray[np.uint8]) -> None:
    """MONAI's arrays are (columns, rows), a picture file is written row by row."""
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(values.T)).save(temporary, format="PNG")


class SaveImageOverlayd(CaseWriter):
    """Writes ``overlays/<case_id>.png``: scan, heat map with colour bar, scan under the map with the mask's contour.

    A volume shows three planes through the highest value of its map. The colour scale comes from the calibration and is
    the same for all cases of a network, whatever alpha. The name is added to the case as ``overlay_file``.

    Args:
        restore: transform that adds ``scan``, the image as the network saw it, on the scan's grid.
        network: has ``calibration``.
        output_dir: folder to write below.
    """

    def __init__(
        self,
        restore: Callable[[Mapping[Hashable, Any]], dict[Hashable, Any]],
        network: Calibrated,
        output_dir: str | os.PathLike[str],
    ) -> None:
        super().__init__("overlay", output_dir)
        self.restore, self.network = restore, network

    def write(self, case: dict[Hashable, Any], key: str) -> None:
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


def remove_case_files(output_dir: str | os.PathLike[str], case_ids: Iterable[str]) -> None:
    """Remove what an earlier run has left of these cases, so that nothing of it stands beside what this run says.

    Args:
        output_dir: folder to write below.
        case_ids: of the cases.

    Raises:
        InputError: a file cannot be removed.
    """
    folders = [(Path(output_dir, name), suffixes) for name, suffixes in _FILES.items()]
    folders = [(folder, suffixes) for folder, suffixes in folders if folder.is_dir()]
    for case_id in case_ids if folders else ():
        for folder, suffixes in folders:
            for suffix in suffixes:
                remove_file(folder / f"{case_id}{suffix}")
    for case_id in case_ids if (dicom := Path(output_dir, "dicom")).is_dir() else ():
        for file in (dicom / case_id).glob("*.dcm"):
            remove_file(file)


def files_of_other_cases(output_dir: str | os.PathLike[str], case_ids: Iterable[str]) -> int:
    """How many files below an output folder are of cases other than these."""
    ids, count = set(case_ids), 0
    for name, suffixes in _FILES.items():
        folder = Path(output_dir, name)
        for path in folder.iterdir() if folder.is_dir() else ():
            own = any(path.name.removesuffix(suffix) in ids for suffix in suffixes)
            count += not own and path.name.endswith(suffixes) and not path.name.startswith(".")
    return count
