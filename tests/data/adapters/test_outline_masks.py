"""Masks drawn from boxes, ellipses and polygons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scan_samples import dicom_image

from medad_plugins.data.adapters.outline_masks import Outline, box, draw_outlines, image_size, outline_masks
from medad_plugins.data.adapters.published_scan import PublishedScan
from medad_plugins.errors import InputError


def drawn(*outlines: Outline, size: tuple[int, int] = (20, 12)) -> np.ndarray:
    return np.asarray(draw_outlines(outlines, size)) == 255


def test_a_box_covers_its_width_times_its_height() -> None:
    mask = drawn(box(3, 2, 5, 4))
    assert mask.shape == (12, 20)
    expected = np.zeros((12, 20), bool)
    expected[2:6, 3:8] = True
    assert np.array_equal(mask, expected)


def test_boxes_are_joined_and_cut_at_the_border() -> None:
    assert drawn(box(0, 0, 2, 2), box(1, 1, 2, 2)).sum() == 7
    assert drawn(box(-5, -5, 7, 8), box(18, 10, 50, 50)).sum() == 2 * 3 + 2 * 2
    assert not drawn(box(4, 4, 0, 3), Outline("polygon", ((1, 1), (5, 5)))).any()


def test_ellipse_and_polygon_have_their_areas() -> None:
    size = (200, 160)
    ellipse = drawn(Outline("ellipse", ((40, 30), (160, 110))), size=size)
    assert ellipse.sum() == pytest.approx(np.pi * 60 * 40, rel=0.03)
    assert ellipse[70, 100] and not ellipse[32, 42]
    triangle = drawn(Outline("polygon", ((10, 10), (150, 10), (10, 110))), size=size)
    assert triangle.sum() == pytest.approx(140 * 100 / 2, rel=0.04)


def test_size_of_pictures_and_of_dicom_files(tmp_path: Path) -> None:
    Image.new("L", (7, 5)).save(tmp_path / "a.png")
    dicom_image(np.zeros((4, 9), np.uint16)).save_as(tmp_path / "a.dicom")
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    assert image_size(tmp_path / "a.png") == (7, 5)
    assert image_size(tmp_path / "a.dicom") == (9, 4)
    with pytest.raises(InputError, match="bad.jpg"):
        image_size(tmp_path / "bad.jpg")


def test_only_abnormal_scans_with_outlines_get_a_mask(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path in paths:
        Image.new("L", (8, 6)).save(path)
    convert = outline_masks({paths[0]: [box(1, 1, 2, 2)], paths[1]: [box(1, 1, 2, 2)]}, tmp_path / "masks")
    scans = [convert(PublishedScan(path, "kind", label)) for path, label in zip(paths, (1, 0, 1), strict=True)]
    assert [scan.mask for scan in scans] == [tmp_path / "masks" / "a.png", None, None]
    with Image.open(tmp_path / "masks" / "a.png") as mask:
        assert mask.size == (8, 6) and np.count_nonzero(np.asarray(mask)) == 4
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["a.png"]
