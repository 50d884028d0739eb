"""DICOM files that tests write, element by element, and read."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
)

from medad_plugins.data.dicom_series import read_dicom_scan

RNG = np.random.RandomState(0)
GREY = RNG.randint(0, 900, (9, 12)).astype(np.uint16)


def save(path: Path, dataset: pydicom.FileDataset, syntax: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if syntax == ExplicitVRBigEndian:
            dataset = big_endian(dataset)
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def big_endian(dataset: pydicom.FileDataset) -> pydicom.FileDataset:
    """The same elements in a data set that has no byte order yet; pydicom converts none."""
    copy = pydicom.FileDataset("", {}, file_meta=dataset.file_meta, preamble=b"\0" * 128)
    for element in dataset:
        copy.add(element)
    copy.set_original_encoding(False, False)
    return copy


def read(tmp_path: Path, dataset: pydicom.FileDataset, syntax: str | None = None) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_dicom_scan(save(tmp_path / "a.dcm", dataset, syntax)).array


def made_item(**elements: Any) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item
