"""DICOM results as a writer of a plain inference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from dicom_studies import write_exam
from monai.transforms import SaveImaged
from PIL import Image

from medad_plugins.data import ScanFormat
from medad_plugins.dicom_results import FILE_NAMES, Algorithm, SaveImageDicomResultsd
from medad_plugins.errors import InputError
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.transforms import AnomalyPostprocessing, ScanPreprocessing

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "padim"


class _Brightness(AnomalyNetwork):
    def anomaly_map(self, image: torch.Tensor) -> torch.Tensor:
        return image[:, :1]


def _network() -> _Brightness:
    network = _Brightness().eval()
    network.calibration.fit(torch.linspace(0, 0.9, 30), torch.linspace(0, 0.5, 500))
    return network


def _apply(path: Path, spatial_dims: int, output: Path) -> dict:
    network, preprocessing = _network(), ScanPreprocessing(ScanFormat(spatial_dims, 16))
    case = preprocessing({"image": str(path), "case_id": "case7"})
    case["pred"] = network(case["image"][None].as_tensor())[0]
    case = AnomalyPostprocessing(preprocessing, network)(case)
    result: dict = SaveImageDicomResultsd(preprocessing, network, BUNDLE, output)(case)
    return result


def test_dicom_results_are_written_for_a_series(tmp_path: Path) -> None:
    hd = pytest.importorskip("highdicom", reason="DICOM results need highdicom")
    write_exam(tmp_path / "exam", np.random.RandomState(0).randint(0, 900, (9, 12, 10)).astype(np.uint16))
    case = _apply(tmp_path / "exam", 3, tmp_path)
    folder = tmp_path / "dicom" / "case7"
    assert case["dicom_folder"] == str(folder)
    assert {path.name for path in folder.iterdir()} == set(FILE_NAMES.values())
    values = hd.imread(folder / FILE_NAMES["map"]).pixel_array
    np.testing.assert_array_equal(np.sort(values.ravel()), np.sort(case["anomaly_map"].numpy().ravel()))


def test_other_formats_pass(tmp_path: Path) -> None:
    picture = np.random.RandomState(0).randint(0, 255, (20, 20)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert "dicom_folder" not in _apply(tmp_path / "a.png", 2, tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_hosts_know_it_for_a_writer() -> None:
    transform = SaveImageDicomResultsd(ScanPreprocessing(), _network(), BUNDLE, "output")
    assert isinstance(transform, SaveImaged)
    assert "SaveImage" in type(transform).__name__


def test_results_name_the_bundle_and_its_version(tmp_path: Path) -> None:
    algorithm = Algorithm.of_bundle(BUNDLE)
    assert algorithm.name == "PaDiM"
    assert algorithm.software[0] == f"PaDiM {algorithm.version}"
    with pytest.raises(InputError, match="the folder is not a bundle"):
        Algorithm.of_bundle(tmp_path)
