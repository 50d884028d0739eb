"""Whole slides: tissue and tumour found where they are, patches cut there, every slide in one split."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medad_plugins.data import Cohort, find_cases
from medad_plugins.data.adapters import ADAPTERS, Edition, camelyon16, slide_patches
from medad_plugins.errors import InputError
from medad_plugins.transforms import read_mask

SIDE = 512
PATCH = 32
STAIN, GLASS = (170, 90, 160), (240, 240, 242)
# tissue and tumour as left, top, right, bottom; the tumour lies in the tissue
TISSUE, TUMOUR = (96, 64, 416, 448), (160, 128, 260, 300)


def slide_pixels() -> np.ndarray:
    """A stained rectangle on glass, ``(rows, columns, 3)``."""
    pixels = np.full((SIDE, SIDE, 3), GLASS, np.uint8)
    left, top, right, bottom = TISSUE
    pixels[top:bottom, left:right] = STAIN
    return pixels + np.random.RandomState(0).randint(0, 8, pixels.shape, np.uint8)


def write_tiled_tiff(path: Path, pixels: np.ndarray, tile: int = 256) -> None:
    """An uncompressed tiled TIFF in RGB, the form of slide that OpenSlide calls generic."""
    rows, columns = pixels.shape[:2]
    tiles = [
        pixels[y : y + tile, x : x + tile].tobytes() for y in range(0, rows, tile) for x in range(0, columns, tile)
    ]
    count, size = len(tiles), len(tiles[0])
    start = 8 + sum(len(data) for data in tiles)
    extra = start + 2 + 12 * 10 + 4
    offsets = [8 + index * size for index in range(count)]
    entries = [
        (256, 4, 1, columns),
        (257, 4, 1, rows),
        (258, 3, 3, extra),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (277, 3, 1, 3),
        (322, 4, 1, tile),
        (323, 4, 1, tile),
        (324, 4, count, extra + 6),
        (325, 4, count, extra + 6 + 4 * count),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(b"II*\0" + struct.pack("<I", start) + b"".join(tiles) + struct.pack("<H", len(entries)))
        for entry in entries:
            file.write(struct.pack("<HHII", *entry))
        file.write(struct.pack("<I3H", 0, 8, 8, 8))
        file.write(struct.pack(f"<{count}I{count}I", *offsets, *([size] * count)))


def write_annotation(path: Path, corners: tuple[int, int, int, int], group: str = "Tumor") -> None:
    left, top, right, bottom = corners
    points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    text = "".join(f'<Coordinate Order="{n}" X="{x}.5" Y="{y}.5"/>' for n, (x, y) in enumerate(points))
    path.parent.mkdir(parents=True, exist_ok=True)
    annotation = (
        f'<Annotation Name="a" PartOfGroup="{group}" Type="Polygon"><Coordinates>{text}</Coordinates></Annotation>'
    )
    path.write_text(f"<ASAP_Annotations><Annotations>{annotation}</Annotations></ASAP_Annotations>", encoding="utf-8")


class ArraySlide:
    """The part of OpenSlide's interface that is used, for a picture in memory."""

    level_downsamples = (1.0,)

    def __init__(self, path: Path) -> None:
        self.picture = Image.open(path).convert("RGB")
        self.dimensions = self.picture.size

    def get_best_level_for_downsample(self, downsample: float) -> int:
        return 0

    def read_region(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        left, top = corner
        return self.picture.crop((left, top, left + size[0], top + size[1])).convert("RGBA")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two normal training slides, and a normal and an ill test slide."""
    root = tmp_path / "CAMELYON16"
    for name in ("training/normal/normal_001", "training/normal/normal_002", "testing/images/test_001"):
        write_tiled_tiff(root / f"{name}.tif", slide_pixels())
    write_tiled_tiff(root / "testing" / "images" / "test_002.tif", slide_pixels())
    write_annotation(root / "testing" / "lesion_annotations" / "test_002.xml", TUMOUR)
    return root


COUNTS = {"train/normal slides": 2, "test/normal slides": 1, "test/tumor slides": 1}
SMALL = replace(ADAPTERS["camelyon16"], editions=(Edition("small", COUNTS),))


@pytest.fixture(params=["array", "openslide"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Slides read from memory, and by OpenSlide where it is installed."""
    slide_patches._slide.cache_clear()
    if request.param == "array":
        monkeypatch.setattr(slide_patches, "_slide", ArraySlide)
    else:
        pytest.importorskip("openslide", reason="OpenSlide is not installed")
    return str(request.param)


def prepare(source: Path, output: Path, **options: Any) -> Path:
    return SMALL.prepare(source, output, patch_size=PATCH, train_patches=21, test_patches=9, **options)


@pytest.mark.usefixtures("reader")
def test_patches_of_tissue_and_tumour_with_masks(source: Path, tmp_path: Path) -> None:
    path = prepare(source, tmp_path / "out")
    cases = find_cases(tmp_path / "out", split="all")
    counts = Counter((case["split"], case["class"]) for case in cases)
    assert counts == {("train", "normal"): 21, ("test", "normal"): 9, ("test", "tumor"): 9}
    # drawn evenly, a slide being a patient
    assert sorted(Counter(case["patient"] for case in cases if case["split"] == "train").values()) == [10, 11]
    assert len(Cohort(tmp_path / "out").test) == 18
    for case in cases:
        left, top = (int(text) for text in Path(case["image"]).stem.split("_")[-2:])
        with Image.open(case["image"]) as picture:
            pixels = np.asarray(picture)
        assert np.array_equal(pixels, slide_pixels()[top : top + PATCH, left : left + PATCH])
        assert TISSUE[0] - PATCH // 2 <= left <= TISSUE[2] - PATCH // 2
        if case["label"]:
            columns = np.arange(left, left + PATCH)[:, None]
            rows = np.arange(top, top + PATCH)[None, :]
            inside = (columns >= TUMOUR[0]) & (columns <= TUMOUR[2]) & (rows >= TUMOUR[1]) & (rows <= TUMOUR[3])
            mask = read_mask(case["mask"], (PATCH, PATCH))
            # the outline itself may fall on either side
            assert np.count_nonzero(mask != inside) <= 2 * PATCH
            assert mask.mean() >= 0.18
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.png")}
    assert prepare(source, tmp_path / "out").read_text("utf-8") == path.read_text("utf-8")
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.png")} == before


@pytest.mark.usefixtures("reader")
def test_a_metastasis_smaller_than_a_patch_is_found(source: Path, tmp_path: Path) -> None:
    write_annotation(source / "testing" / "lesion_annotations" / "test_002.xml", (200, 200, 208, 208))
    prepare(source, tmp_path / "out")
    tumours = [case for case in find_cases(tmp_path / "out") if case["label"]]
    assert [Path(case["image"]).stem for case in tumours] == ["test_002_32_192_192"]
    assert read_mask(tumours[0]["mask"], (PATCH, PATCH)).any()


def test_a_healthy_island_is_no_tumour() -> None:
    square = [(0.0, 0.0), (20.0, 0.0), (20.0, 20.0), (0.0, 20.0)]
    island = [(5.0, 5.0), (9.0, 5.0), (9.0, 9.0), (5.0, 9.0)]
    mask = np.asarray(slide_patches.patch_mask(slide_patches.Annotation([square], [island]), 0, 0, 16)) > 0
    assert mask[2, 2] and not mask[7, 7]
    shifted = np.asarray(slide_patches.patch_mask(slide_patches.Annotation([square], [island]), 4, 2, 12)) > 0
    assert np.array_equal(shifted, mask[2:14, 4:16])


def test_shares_are_even_and_never_more_than_there_is() -> None:
    assert slide_patches.share_out(10, [100, 100, 100]) == [4, 3, 3]
    assert slide_patches.share_out(10, [1, 100, 2]) == [1, 7, 2]
    assert slide_patches.share_out(10, [1, 2, 0]) == [1, 2, 0]
    assert slide_patches.share_out(0, [5]) == [0]


def test_otsu_separates_two_classes() -> None:
    values = np.concatenate([np.full(900, 0.02), np.full(300, 0.4)])
    assert 0.02 < slide_patches._otsu(values) < 0.4


def test_what_people_forget_is_named(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide_patches, "_slide", ArraySlide)
    extra = source / "copy" / "test_001.tif"
    extra.parent.mkdir()
    extra.write_bytes(b"")
    with pytest.raises(InputError, match="a file is listed twice.*test_001.tif"):
        prepare(source, tmp_path / "out")
    extra.unlink()
    with pytest.raises(InputError, match="patch_size .expected a whole number above 0, found 0"):
        SMALL.prepare(source, tmp_path / "out", patch_size=0)
    with pytest.raises(InputError, match="release with 159 normal .*expected train/normal slides 159"):
        ADAPTERS["camelyon16"].prepare(source, tmp_path / "out", patch_size=PATCH)
    (source / "testing" / "lesion_annotations" / "test_002.xml").write_text("<cut", encoding="utf-8")
    camelyon16.read_annotation_once.cache_clear()
    with pytest.raises(InputError, match="an annotation cannot be read"):
        prepare(source, tmp_path / "out")
    (source / "testing" / "lesion_annotations" / "test_002.xml").unlink()
    with pytest.raises(InputError, match="no annotations.*lesion_annotations.zip"):
        prepare(source, tmp_path / "out")
    with pytest.raises(InputError, match="slides are missing"):
        prepare(source / "testing", tmp_path / "out")


def test_a_missing_openslide_is_named(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slide_patches._slide.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "openslide", None)
    with pytest.raises(InputError, match="pip install openslide-python openslide-bin"):
        prepare(source, tmp_path / "out")
