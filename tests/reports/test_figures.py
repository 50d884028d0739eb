"""Pictures of cases."""

from __future__ import annotations

import time

import nibabel as nib
import numpy as np
import pytest
import torch

from medad_plugins.data.scan import PICTURE_AFFINE
from medad_plugins.reports import Plane, case_caption, colour_range, decision_words, overlay_picture, scan_planes
from medad_plugins.reports.figures import PANEL
from medad_plugins.scorers import Calibration

CONTOUR = (64, 224, 255)


def _calibration(maxima: list[float]) -> Calibration:
    calibration = Calibration()
    calibration.fit(torch.tensor(maxima), torch.tensor(maxima))
    return calibration


def _plane(rows: int, columns: int) -> Plane:
    scan = np.linspace(0, 1, rows * columns).reshape(rows, columns)
    anomaly_map, mask = np.zeros((rows, columns)), np.zeros((rows, columns))
    anomaly_map[: rows // 4, : columns // 4] = 2.0
    mask[: rows // 4, : columns // 4] = 1
    return Plane(scan, anomaly_map, mask)


def _drawn(plane: Plane, **changes: object) -> np.ndarray:
    options = {"limits": (0.0, 2.0), "threshold": 1.0, "caption": "case", "flagged": True, **changes}
    return np.asarray(overlay_picture([plane], **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("voxel_sizes", [(1.0, 2.0, 3.0), (3.0, 1.0, 1.0)])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "AIR", "SPL", "PRS"])
def test_a_volume_is_turned_the_way_radiologists_look_at_it(codes: str, voxel_sizes: tuple[float, ...]) -> None:
    # a mark far to the patient's right, at the front, low down, whatever the order of the voxels in the file
    ras = np.zeros((12, 14, 16))
    ras[9, 11, 2] = 1.0
    affine = np.diag([*voxel_sizes, 1.0])
    turned = nib.Nifti1Image(ras, affine).as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(codes))
        )
    )
    values = turned.get_fdata()
    axial, coronal, sagittal = scan_planes(values[None], values, values > 0, turned.affine)
    assert [plane.anomaly_map.shape for plane in (axial, coronal, sagittal)] == [(14, 12), (16, 12), (16, 14)]
    assert [np.argwhere(plane.anomaly_map).tolist() for plane in (axial, coronal, sagittal)] == [
        [[2, 2]],  # front is up, the patient's right is on the left
        [[13, 2]],  # low is down
        [[13, 2]],  # front is on the left
    ]
    x, y, z = voxel_sizes
    assert [plane.aspect for plane in (axial, coronal, sagittal)] == pytest.approx([y / x, z / x, z / y])
    assert [plane.left for plane in (axial, coronal, sagittal)] == ["R", "R", "A"]


def test_a_picture_is_turned_into_rows_and_keeps_its_colour() -> None:
    scan = np.random.RandomState(0).rand(3, 9, 5)
    (plane,) = scan_planes(scan, scan[0], scan[1] > 0.5, PICTURE_AFFINE)
    assert plane.scan.shape == (5, 9, 3)
    assert np.array_equal(plane.anomaly_map, scan[0].T)
    (grey,) = scan_planes(scan[:1], scan[0], scan[1] > 0.5, PICTURE_AFFINE)
    assert np.array_equal(grey.scan, scan[0].T)


def test_a_slice_is_shown_upright() -> None:
    scan = np.random.RandomState(0).rand(1, 9, 5)  # a coronal one: first axis to the right, second one up
    affine = np.array([[2.0, 0, 0, 0], [0, 0, 2, 0], [0, 2, 0, 0], [0, 0, 0, 1]])
    (plane,) = scan_planes(scan, scan[0], scan[0] > 0.5, affine)
    for shown, stored in ((plane.scan, scan[0]), (plane.anomaly_map, scan[0]), (plane.mask, scan[0] > 0.5)):
        assert np.array_equal(shown, stored[::-1, ::-1].T)


def test_thick_slices_are_shown_in_their_true_proportion() -> None:
    wide = _drawn(Plane(np.ones((10, 40)), np.zeros((10, 40)), np.zeros((10, 40)), aspect=3.0))
    flat = _drawn(Plane(np.ones((10, 40)), np.zeros((10, 40)), np.zeros((10, 40))))
    assert wide.shape[0] - flat.shape[0] == round(PANEL * 10 * 3 / 40) - round(PANEL * 10 / 40)


@pytest.mark.parametrize("size", [(28, 28), (40, 60), (700, 500), (2000, 30)])
def test_pictures_of_any_size_have_the_contour_in_the_right_corner(size: tuple[int, int]) -> None:
    picture = _drawn(_plane(*size))
    overlay = picture[10:-40, -PANEL - 10 :]
    rows, columns = np.nonzero((overlay == CONTOUR).all(axis=-1))
    height, width = overlay.shape[:2]
    assert rows.size > 0
    assert rows.max() < 0.3 * height
    assert columns.max() < 0.7 * width  # a narrow scan stands in the middle of its panel


def test_a_lesion_of_one_pixel_is_outlined_in_a_large_scan() -> None:
    mask = np.zeros((1024, 1024))
    mask[700, 301] = 1
    picture = _drawn(Plane(np.zeros((1024, 1024)), np.zeros((1024, 1024)), mask))
    overlay = picture[10 : 10 + PANEL, -PANEL - 10 : -10]
    rows, columns = np.nonzero((overlay == CONTOUR).all(axis=-1))
    assert (rows.mean(), columns.mean()) == pytest.approx((700 / 4, 301 / 4), abs=1)


def test_colours_mean_the_same_in_every_picture() -> None:
    weak, strong = _plane(32, 32), _plane(32, 32)
    weak.anomaly_map[...] *= 0.2
    heat = slice(10, 10 + PANEL), slice(PANEL + 20, 2 * PANEL + 20)
    pictures = [_drawn(plane)[heat].astype(float).mean() for plane in (weak, strong)]
    assert pictures[1] > 3 * pictures[0]


def test_the_middle_of_the_scale_is_what_one_normal_pixel_in_1000_exceeds() -> None:
    calibration = _calibration([i / 10_000 for i in range(10_001)])
    assert colour_range(calibration) == pytest.approx((0.0, 2 * 0.999), abs=2e-4)
    low, high = colour_range(_calibration([-4.0 + 0.01 * i for i in range(40)]))
    assert low < -4.0
    assert high == pytest.approx(0)
    assert colour_range(_calibration([0.0])) == (0.0, 1.0)
    assert colour_range(_calibration([0.5, 0.7])) == pytest.approx((0.0, 1.4))  # too few cases for alpha 0.05


def test_decision_and_threshold_show() -> None:
    plane = _plane(32, 32)
    flagged, passed = _drawn(plane), _drawn(plane, flagged=False)
    assert not np.array_equal(flagged, passed)
    assert np.array_equal(flagged[:-40], passed[:-40])
    assert not np.array_equal(_drawn(plane, threshold=0.5), flagged)
    assert np.isfinite(_drawn(plane, threshold=float("inf"))).all()


def test_a_long_caption_keeps_its_end_in_the_picture() -> None:
    case = {"case_id": "folder__" * 40 + "No12", "anomaly_score": 1.23456, "p_value": 0.0123, "alpha": 0.05}
    case |= {"calibrated_on": 80, "can_flag": True}
    caption = case_caption(case)
    assert caption.endswith("No12    score 1.235    p 0.0123    alpha 0.05")
    picture = _drawn(_plane(32, 32), caption=caption)
    assert picture.shape == _drawn(_plane(32, 32)).shape
    margin = picture[-40:, -10:]
    assert (margin == margin[0, 0]).all()


def test_names_and_captions_say_the_decision_and_where_there_can_be_none() -> None:
    case = {"case_id": "a", "anomaly_score": 1.0, "p_value": 0.03, "alpha": 0.05, "calibrated_on": 80, "can_flag": True}
    assert decision_words(case | {"is_anomalous": True}) == "anomaly, p 0.03"
    assert decision_words(case | {"is_anomalous": False, "p_value": 0.4}) == "not flagged, p 0.4"
    few = case | {"is_anomalous": False, "p_value": 0.25, "calibrated_on": 3, "can_flag": False}
    assert decision_words(few).endswith("3 normal scans are too few to flag any")
    assert case_caption(few).endswith("calibrated on 3: nothing can be flagged")


def test_a_picture_takes_a_few_tens_of_milliseconds() -> None:
    plane = _plane(256, 256)
    _drawn(plane)
    start = time.perf_counter()
    for _ in range(5):
        _drawn(plane)
    assert (time.perf_counter() - start) / 5 < 0.25  # 0.02 s on an idle machine
