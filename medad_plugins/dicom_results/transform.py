"""DICOM results of a plain inference, as one of its writers."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import Compose
from PIL import Image

from medad_plugins.data.dicom_file import is_dicom
from medad_plugins.data.dicom_series import dicom_files
from medad_plugins.dicom_results.algorithm import Algorithm
from medad_plugins.dicom_results.source_series import SourceSeries
from medad_plugins.dicom_results.writing import write_dicom_results
from medad_plugins.protocols import Calibrated
from medad_plugins.reports.figures import case_caption, colour_range, overlay_picture, scan_planes
from medad_plugins.transforms.postprocessing import RestoreScanGridd
from medad_plugins.transforms.writers import CaseWriter

__all__ = ["CasePicture", "SaveImageDicomResultsd"]


class CasePicture:
    """Draws the overview of a case for a PACS; its caption names the bundle and never the case.

    Args:
        preprocessing: the transform that made ``image``.
        network: has ``calibration``.
        algorithm: what the caption names.
    """

    def __init__(self, preprocessing: Compose, network: Calibrated, algorithm: Algorithm) -> None:
        self._restore = RestoreScanGridd("image", preprocessing, output_keys="scan")
        self.network, self.algorithm = network, algorithm

    @property
    def colour_range(self) -> tuple[float, float]:
        """Map values at the ends of the colour scale."""
        return colour_range(self.network.calibration)

    def __call__(self, case: Mapping[Hashable, Any]) -> Image.Image:
        scan: MetaTensor = self._restore({"image": case["image"]})["scan"]
        anomaly_map, mask = case["anomaly_map"][0].numpy(), case["anomaly_mask"][0].numpy()
        title = f"{self.algorithm.name} {self.algorithm.version}, research use only"
        return overlay_picture(
            scan_planes(scan.numpy(), anomaly_map, mask, np.asarray(scan.affine)),
            limits=self.colour_range,
            threshold=case["pixel_threshold"],
            caption=case_caption({**case, "case_id": title}),
            flagged=case["is_anomalous"],
        )


class SaveImageDicomResultsd(CaseWriter):
    """Writes ``dicom/<case_id>/*.dcm`` for a case that came from DICOM; other cases pass.

    Comes after `medad_plugins.transforms.AnomalyPostprocessing`; see `write_dicom_results` for the objects. A MONAI
    writer by class, so that hosts that leave out writers leave out this one too. The folder is added to the case as
    ``dicom_folder``.

    Args:
        preprocessing: the transform that made ``image``.
        network: has ``calibration``.
        bundle_root: folder of the bundle that the objects name.
        output_dir: folder to write below.

    Raises:
        InputError: see `write_dicom_results` and `SourceSeries.read`.
    """

    def __init__(
        self,
        preprocessing: Compose,
        network: Calibrated,
        bundle_root: str | os.PathLike[str],
        output_dir: str | os.PathLike[str],
    ) -> None:
        super().__init__("dicom", output_dir)
        self.algorithm = Algorithm.of_bundle(Path(bundle_root))
        self.picture = CasePicture(preprocessing, network, self.algorithm)

    def write(self, case: dict[Hashable, Any], key: str) -> None:
        path = Path(str(case["image"].meta.get("filename_or_obj") or os.devnull))
        if not (dicom_files(path) if path.is_dir() else is_dicom(path)):
            return
        anomaly_map: MetaTensor = case["anomaly_map"]
        source = SourceSeries.read(path, np.asarray(anomaly_map.affine), anomaly_map.shape[1:])
        folder = self.output_dir / "dicom" / str(case["case_id"])
        limits = self.picture.colour_range
        write_dicom_results(case, source, self.algorithm, self.picture(case), limits, folder)
        case["dicom_folder"] = str(folder)
