"""All DICOM objects of a case, in one folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medad_plugins.dicom_results.algorithm import Algorithm
from medad_plugins.dicom_results.highdicom_package import highdicom, silent_about_headers
from medad_plugins.dicom_results.images import map_image, picture_image, region_image
from medad_plugins.dicom_results.report import report
from medad_plugins.dicom_results.source_series import SourceSeries
from medad_plugins.errors import InputError
from medad_plugins.files import atomic_path, output_folder

__all__ = ["FILE_NAMES", "write_dicom_results"]

FILE_NAMES = {
    "region": "anomalous_region.dcm",
    "map": "anomaly_map.dcm",
    "picture": "overview.dcm",
    "report": "report.dcm",
}


def write_dicom_results(
    case: Mapping[Any, Any],
    source: SourceSeries,
    algorithm: Algorithm,
    picture: Image.Image,
    colour_range: tuple[float, float],
    folder: str | os.PathLike[str],
) -> dict[str, Path]:
    """Write a case's region (where anything is marked), map, overview picture and report.

    Each becomes one object in a series of its own, in the study and frame of reference of its source.

    Args:
        case: a case as it leaves `medad_plugins.transforms.AnomalyPostprocessing`.
        source: the series it was read from.
        algorithm: the bundle that made it.
        picture: overview of scan, map and mask.
        colour_range: map values to show as black and as white.
        folder: where to; what it holds of an earlier run is replaced.

    Returns:
        The files by kind, see `FILE_NAMES`; no ``region`` where the mask is empty, no ``map`` for an image that does
        not say where in the patient it lies (a radiograph).

    Raises:
        InputError: highdicom is missing, the header does not allow an object, or the folder cannot be written.
    """
    highdicom()
    mask, anomaly_map = (np.asarray(case[key]) for key in ("anomaly_mask", "anomaly_map"))
    try:
        with silent_about_headers():
            region = region_image(source, case, algorithm) if mask.any() else None
            objects = {
                "region": region,
                # a parametric map is of places in the patient; without them the picture shows it
                "map": map_image(source, anomaly_map, algorithm, colour_range) if source.has_place else None,
                "picture": picture_image(source, picture, algorithm),
                "report": report(source, case, algorithm, region),
            }
            for content in objects.values():
                if content is not None:
                    source.name_true_classes(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # not the message: it may quote the header
        raise InputError(
            "no DICOM result can be made for this series",
            found=f"{type(error).__name__} while its header was copied",
            todo="export the series again, or look at the traceback with MEDAD_TRACEBACK=1",
        ) from error
    target = output_folder(folder)
    written = {}
    try:
        for kind, content in objects.items():
            path = target / FILE_NAMES[kind]
            if content is None:
                path.unlink(missing_ok=True)
                continue
            with atomic_path(path) as temporary, silent_about_headers():
                content.save_as(temporary, enforce_file_format=True)
            written[kind] = path
    except BaseException:
        # some of a case's objects beside those of an earlier run would pass for one result
        for name in FILE_NAMES.values():
            (target / name).unlink(missing_ok=True)
        raise
    return written
