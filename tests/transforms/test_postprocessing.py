"""From the network's map to a decision and files on the scan's own grid."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    MapTransform,
    Orientationd,
    Resized,
    SaveImaged,
    ScaleIntensityd,
)
from PIL import Image
from torch import Tensor

from medad_plugins.data import ScanFormat
from medad_plugins.errors import InputError
from medad_plugins.metrics import dice
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.transforms import (
    AnomalyPostprocessing,
    LoadImageScan,
    RestoreScanGridd,
    ScanPreprocessing,
    ScoreAnomalyMapd,
)

ROW, COLUMN = 8, 45  # the lesion in a picture of 40 rows and 60 columns
VOXEL = (4, 19, 11)  # the lesion in a volume of 20 x 24 x 16
AFFINE = np.array([[0, -1.0, 0, 30], [-2.0, 0, 0, 12], [0, 0, 3.0, -40], [0, 0, 0, 1]])


class BrightnessNetwork(AnomalyNetwork):
    """Its map is the scan, so a bright spot is an anomaly."""

    def anomaly_map(self, image: Tensor) -> Tensor:
        return image.mean(1, keepdim=True)


@pytest.fixture
def network() -> AnomalyNetwork:
    network = BrightnessNetwork()
    references = torch.linspace(0.1, 0.49, 40)
    network.calibration.fit(references, references)
    return network.eval()


def _read(path: Path) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_filename(path)


def _spot(shape: tuple[int, ...], centre: tuple[int, ...], width: float) -> np.ndarray:
    grid = np.indices(shape)
    distance = sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True))
    return np.exp(-distance / (2 * width**2))


def _preprocessing(spatial_dims: int) -> Compose:
    steps: list[Any] = [LoadImaged("image"), EnsureChannelFirstd("image")]
    if spatial_dims == 3:
        steps.append(Orientationd("image", "RAS", labels=None))
    mode = "bilinear" if spatial_dims == 2 else "trilinear"
    return Compose([*steps, ScaleIntensityd("image"), Resized("image", (32,) * spatial_dims, mode=mode)])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "scan.png"
    Image.fromarray((_spot((40, 60), (ROW, COLUMN), 3) * 250).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image((_spot((20, 24, 16), VOXEL, 2) * 1000).astype(np.int16), AFFINE), path)
    return path


def _scan_preprocessing(spatial_dims: int) -> Compose:
    return ScanPreprocessing(ScanFormat(spatial_dims, image_size=32))


MAKERS = pytest.mark.parametrize("make", [_preprocessing, _scan_preprocessing])


def _run(path: Path, network: AnomalyNetwork, postprocessing: Compose, preprocessing: Compose) -> dict[str, Any]:
    case = preprocessing({"image": str(path), "case_id": "scan"})
    with torch.no_grad():
        case["pred"] = network(case["image"][None])[0]
    return postprocessing(case)


@MAKERS
def test_picture_comes_back_onto_its_own_pixels(
    make: Callable[[int], Compose], tmp_path: Path, picture: Path, network: AnomalyNetwork
) -> None:
    preprocessing = make(2)
    output = tmp_path / "out"
    case = _run(picture, network, AnomalyPostprocessing(preprocessing, network, output_dir=output), preprocessing)
    assert case["anomaly_map"].shape == (1, 60, 40)

    mask = np.asarray(Image.open(output / "masks" / "scan.png"))
    assert mask.shape == (40, 60)
    assert set(np.unique(mask)) == {0, 255}
    assert np.argwhere(mask).mean(axis=0) == pytest.approx((ROW, COLUMN), abs=1)
    original = np.asarray(Image.open(picture))
    assert original[mask > 0].min() > 60, "the mask lies on the bright spot of the original file"

    stored = _read(output / "maps" / "scan.nii.gz").get_fdata()
    assert stored.shape == (60, 40, 1)
    peak = np.unravel_index(stored[..., 0].T.argmax(), (40, 60))
    assert peak == pytest.approx((ROW, COLUMN), abs=1)


@MAKERS
def test_volume_comes_back_onto_its_own_voxels(
    make: Callable[[int], Compose], tmp_path: Path, volume: Path, network: AnomalyNetwork
) -> None:
    preprocessing = make(3)
    output = tmp_path / "out"
    case = _run(volume, network, AnomalyPostprocessing(preprocessing, network, output_dir=output), preprocessing)
    for folder, dtype in (("maps", np.float32), ("masks", np.uint8)):
        stored = _read(output / folder / "scan.nii.gz")
        assert stored.shape == (20, 24, 16)
        assert stored.get_data_dtype() == dtype
        np.testing.assert_allclose(stored.affine, AFFINE)
        assert stored.header.get_xyzt_units()[0] == "mm"
    peak = np.unravel_index(_read(output / "maps" / "scan.nii.gz").get_fdata().argmax(), (20, 24, 16))
    assert peak == pytest.approx(VOXEL, abs=1)
    mask = _read(output / "masks" / "scan.nii.gz").get_fdata()
    assert np.argwhere(mask).mean(axis=0) == pytest.approx(VOXEL, abs=1)
    assert torch.equal(case["anomaly_mask"], (case["anomaly_map"] > case["pixel_threshold"]).to(torch.uint8))


def test_score_is_taken_on_the_networks_grid(picture: Path, network: AnomalyNetwork) -> None:
    preprocessing = _preprocessing(2)
    case = preprocessing({"image": str(picture), "case_id": "scan"})
    case["pred"] = torch.zeros(1, 32, 32)
    case["pred"][0, 5, 7] = 0.4  # linear restoring lowers a single pixel's peak
    result = AnomalyPostprocessing(preprocessing, network)(case)
    assert result["anomaly_score"] == pytest.approx(0.4)
    assert float(result["anomaly_map"].max()) < 0.4
    assert result["p_value"] == (1 + int((network.calibration.reference_scores >= 0.4).sum())) / 41
    assert result["is_anomalous"] is (result["p_value"] <= 0.05)


def test_hosts_find_the_mask_under_the_bundles_output_name(picture: Path, network: AnomalyNetwork) -> None:
    preprocessing = _preprocessing(2)
    case = _run(picture, network, AnomalyPostprocessing(preprocessing, network), preprocessing)
    assert case["pred"].dtype == torch.uint8
    assert torch.equal(case["pred"], case["anomaly_mask"])
    assert isinstance(case["pred"], MetaTensor)
    assert case["pred"].meta["filename_or_obj"] == str(picture)


def test_alpha_may_be_turned_afterwards(picture: Path, network: AnomalyNetwork) -> None:
    preprocessing = _preprocessing(2)
    postprocessing = AnomalyPostprocessing(preprocessing, network, alpha=0.05)
    case = preprocessing({"image": str(picture), "case_id": "scan"})
    case["pred"] = torch.full((1, 32, 32), 0.455)
    strict = postprocessing(case)
    postprocessing.alpha = "0.5"  # as a viewer's option panel sends it
    loose = postprocessing(case)
    assert strict["p_value"] == loose["p_value"] == 5 / 41
    assert (strict["is_anomalous"], loose["is_anomalous"]) == (False, True)
    assert (strict["alpha"], loose["alpha"]) == (0.05, 0.5)
    assert not strict["anomaly_mask"].any()


def test_the_mask_of_a_flagged_scan_is_what_reaches_half_way_to_its_peak(
    picture: Path, network: AnomalyNetwork
) -> None:
    preprocessing = _preprocessing(2)
    case = _run(picture, network, AnomalyPostprocessing(preprocessing, network), preprocessing)
    values, middle = case["anomaly_map"][0], network.calibration.pixel_threshold(0.5)
    peak = float(values.max())
    assert case["is_anomalous"] and peak > 0.9
    assert case["pixel_threshold"] == pytest.approx((middle + peak) / 2)
    assert case["pixel_threshold"] > network.calibration.pixel_threshold(0.002)
    assert torch.equal(case["anomaly_mask"][0].as_tensor() > 0, values.as_tensor() > case["pixel_threshold"])
    assert 0 < float(case["anomaly_mask"].float().mean()) < 0.1


def test_only_flagged_scans_have_a_mask_unless_all_are_to(picture: Path, network: AnomalyNetwork) -> None:
    network.calibration.keep_references(torch.linspace(0.9, 2, 40))  # nothing is flagged
    preprocessing = _preprocessing(2)
    quiet = _run(picture, network, AnomalyPostprocessing(preprocessing, network), preprocessing)
    shown = _run(picture, network, AnomalyPostprocessing(preprocessing, network, masks="all"), preprocessing)
    assert not quiet["is_anomalous"] and not quiet["anomaly_mask"].any()
    assert shown["anomaly_mask"].any() and shown["pixel_threshold"] == quiet["pixel_threshold"]
    low = AnomalyPostprocessing(preprocessing, network, masks="all", pixel_alpha=0.5)
    assert low.lowest_mask_value == network.calibration.pixel_threshold(0.5) < shown["pixel_threshold"]
    with pytest.raises(InputError, match=r"pixel_alpha is out of range.*--pixel_alpha"):
        AnomalyPostprocessing(preprocessing, network, pixel_alpha=2)
    with pytest.raises(InputError, match=r"unknown choice of masks.*flagged or all.*--masks"):
        AnomalyPostprocessing(preprocessing, network, masks="none")


def test_the_scan_is_described_without_its_patient(picture: Path, network: AnomalyNetwork) -> None:
    preprocessing = ScanPreprocessing(ScanFormat(2, image_size=32))
    case = _run(picture, network, AnomalyPostprocessing(preprocessing, network), preprocessing)
    image = case["image"].as_tensor().double()
    assert case["input_mean"] == pytest.approx(float(image.mean()))
    assert case["input_spread"] == pytest.approx(float(image.std(correction=0)))
    assert (case["input_size"], case["input_spacing"], case["model_hash"]) == ("60x40", "", "")
    other = AnomalyPostprocessing(ScanPreprocessing(ScanFormat(2, image_size=48)), network)
    changed = _run(picture, network, other, other.preprocessing)
    assert len(case["settings_hash"]) == 12 and case["settings_hash"] != changed["settings_hash"]


def test_a_case_is_compared_with_its_own_group(
    picture: Path, network: AnomalyNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    scores, groups = torch.linspace(0, 1, 60), ["old"] * 30 + ["new"] * 25 + ["rare"] * 5
    network.calibration.keep_references(scores, groups=groups, column="scanner")
    score = ScoreAnomalyMapd(network, alpha=0.05)

    def judged(**columns: Any) -> dict[Any, Any]:
        case: dict[Any, Any] = {"pred": torch.full((1, 4, 4), 0.6), "case_id": "scan", **columns}
        return score(case)

    assert judged(scanner="old")["p_value"] == 1 / 31 and judged(scanner="old")["calibrated_on"] == 30
    assert judged(scanner="new")["calibrated_on"] == 25 and judged(scanner="new")["p_value"] > 0.5
    caplog.clear()
    for _ in range(2):
        assert judged(scanner="rare")["calibrated_on"] == judged()["calibrated_on"] == 60
    assert caplog.text.count("scanner rare has 5 normal scans, too few for alpha 0.05 (19 are needed)") == 1
    assert "scanner (none) has 0" in caplog.text


@pytest.mark.parametrize("alpha", [0, 1, 1.5, "many", None, float("nan")])
def test_alpha_out_of_range(network: AnomalyNetwork, alpha: Any) -> None:
    with pytest.raises(InputError, match=r"alpha is out of range.*--alpha"):
        AnomalyPostprocessing(_preprocessing(2), network, alpha=alpha)


def test_an_alpha_that_flags_nothing_is_said_once(
    picture: Path, network: AnomalyNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    preprocessing = _preprocessing(2)
    postprocessing = AnomalyPostprocessing(preprocessing, network, alpha=0.01)
    with caplog.at_level(logging.WARNING):
        cases = [_run(picture, network, postprocessing, preprocessing) for _ in range(2)]
    assert not cases[0]["is_anomalous"]
    assert [record.getMessage() for record in caplog.records if "nothing can be flagged" in record.getMessage()] == [
        "nothing can be flagged at alpha 0.01: calibrated on 40 normal cases, which is enough for 0.0244 or more"
    ]


def test_uncalibrated_network(picture: Path) -> None:
    preprocessing, network = _preprocessing(2), BrightnessNetwork().eval()
    with pytest.raises(InputError, match=r"not calibrated.*--ckpt_path"):
        _run(picture, network, AnomalyPostprocessing(preprocessing, network), preprocessing)


def test_a_map_that_is_not_finite(picture: Path, network: AnomalyNetwork) -> None:
    preprocessing = _preprocessing(2)
    case = preprocessing({"image": str(picture), "case_id": "scan"})
    case["pred"] = torch.zeros(1, 32, 32)
    case["pred"][0, 3, 3] = float("nan")
    with pytest.raises(InputError, match="not finite: scan"):
        AnomalyPostprocessing(preprocessing, network)(case)


def test_only_what_is_requested_is_written(tmp_path: Path, picture: Path, network: AnomalyNetwork) -> None:
    preprocessing = _preprocessing(2)
    postprocessing = AnomalyPostprocessing(preprocessing, network, output_dir=tmp_path / "out", save=("mask",))
    _run(picture, network, postprocessing, preprocessing)
    assert [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.*")] == [Path("masks/scan.png")]
    with pytest.raises(InputError, match="--save"):
        AnomalyPostprocessing(preprocessing, network, output_dir=tmp_path, save=("heatmap",))


def test_hosts_can_leave_out_the_writers(tmp_path: Path, network: AnomalyNetwork) -> None:
    postprocessing = AnomalyPostprocessing(_preprocessing(2), network, output_dir=tmp_path)
    writers = postprocessing.transforms[4:]
    assert len(writers) == 2
    assert all(isinstance(writer, SaveImaged) and "SaveImage" in type(writer).__name__ for writer in writers)
    assert not any("SaveImage" in type(step).__name__ for step in postprocessing.transforms[:4])


def test_a_folder_that_cannot_be_written_costs_a_case_its_files_only(
    tmp_path: Path, picture: Path, network: AnomalyNetwork
) -> None:
    (tmp_path / "out").touch()
    preprocessing = _preprocessing(2)
    postprocessing = AnomalyPostprocessing(preprocessing, network, output_dir=tmp_path / "out")
    case = _run(picture, network, postprocessing, preprocessing)
    assert case["error"].count("output folder cannot be written") == 3
    assert "Not a directory" in case["error"]
    assert "--output_dir" in case["error"]
    assert 0 < case["p_value"] <= 1


def test_restoring_leaves_the_case_as_it_was(volume: Path) -> None:
    preprocessing = _preprocessing(3)
    case = preprocessing({"image": str(volume)})
    steps = len(case["image"].applied_operations)
    before = case["image"].clone()
    restored = RestoreScanGridd("image", preprocessing, output_keys="scan")(case)
    assert restored["scan"].shape == (1, 20, 24, 16)
    assert len(case["image"].applied_operations) == steps
    assert torch.equal(case["image"], before)
    with pytest.raises(ValueError, match="as many output_keys"):
        RestoreScanGridd("image", preprocessing, output_keys=("a", "b"))


def test_a_real_volumes_lesion_comes_back_where_it_was(
    shared_data: Path, tmp_path: Path, network: AnomalyNetwork
) -> None:
    preprocessing = ScanPreprocessing(ScanFormat(3, image_size=96))
    scan, lesion = (shared_data / "mslub_3d" / f"patient19_{name}.nii.gz" for name in ("FLAIR", "lesion"))
    case = preprocessing({"image": str(scan), "case_id": "scan"})
    case["pred"] = preprocessing({"image": str(lesion)})["image"].as_tensor() * 255
    AnomalyPostprocessing(preprocessing, network, output_dir=tmp_path)(case)
    stored, truth = (
        _read(tmp_path / "masks" / "scan.nii.gz"),
        _read(lesion),
    )
    np.testing.assert_allclose(stored.affine, truth.affine, atol=1e-4)
    assert dice(stored.get_fdata() > 0, truth.get_fdata() > 0) > 0.7
    with Image.open(tmp_path / "overlays" / "scan.png") as picture:
        assert picture.height > 2.5 * 256  # three planes


def test_a_real_dicom_series_gets_nifti_results_on_its_own_grid(
    shared_data: Path, tmp_path: Path, network: AnomalyNetwork
) -> None:
    folder = shared_data / "dicom" / "hippocrop_mr"
    preprocessing = ScanPreprocessing(ScanFormat(3, image_size=32))
    _run(folder, network, AnomalyPostprocessing(preprocessing, network, output_dir=tmp_path), preprocessing)
    read = LoadImageScan(3)(folder)
    for kind in ("maps", "masks"):
        stored = _read(tmp_path / kind / "scan.nii.gz")
        assert stored.shape == read.shape
        np.testing.assert_allclose(stored.affine, read.affine, atol=1e-4)


def test_hosts_see_at_the_first_step_that_it_takes_dictionaries() -> None:
    postprocessing = AnomalyPostprocessing(_scan_preprocessing(2), AnomalyNetwork())
    assert isinstance(postprocessing.transforms[0], MapTransform)
