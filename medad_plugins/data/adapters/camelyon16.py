"""Camelyon16: whole slides of lymph nodes with and without metastases, cut into patches.

Layout, seen in public code: ``training/normal/normal_001.tif``, ``training/tumor/tumor_001.tif``,
``training/lesion_annotations/*.xml`` and ``testing/images/test_001.tif``; the copy on AWS has them in ``images`` and
``annotations`` (recalled). Files are found by their names, wherever they lie. Groups of ASAP's polygons seen in public
code. Recalled: the counts; that the test slides with metastases are those with an annotation, in
``testing/lesion_annotations``.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medad_plugins.data.adapters.dataset_adapter import DatasetAdapter, Request
from medad_plugins.data.adapters.published_scan import Edition, Published, PublishedScan
from medad_plugins.data.adapters.slide_patches import (
    cut,
    patch_mask,
    read_annotation,
    share_out,
    tissue_squares,
    tumour_squares,
)
from medad_plugins.errors import InputError
from medad_plugins.files import atomic_path

__all__ = ["CAMELYON16"]

logger = logging.getLogger(__name__)

SLIDE = re.compile(r"^(normal|tumor|test)_\d+\.tif$")
PATCH_SIZE, TRAIN_PATCHES, TEST_PATCHES = 256, 5088, 1000

read_annotation_once = functools.lru_cache(maxsize=2)(read_annotation)


@dataclass(frozen=True)
class _Group:
    """Slides that patches of one class and split are drawn from."""

    split: str
    kind: str
    slides: Sequence[Path]
    patches: int


def read_camelyon16(request: Request) -> Published:
    """Patches of normal training slides, and normal and tumour patches of test slides, each slide in one split."""
    slides = _by_name(request.source, "*.tif", SLIDE)
    outlines = _by_name(request.source, "*.xml", re.compile(r"^test_\d+\.xml$"))
    training = [path for name, path in slides.items() if name.startswith("normal_")]
    test = {Path(name).stem: path for name, path in slides.items() if name.startswith("test_")}
    if not training or not test:
        expected = "normal_*.tif to train on and test_*.tif to test on"
        found = f"{len(training)} and {len(test)}"
        todo = "download training/normal and testing/images"
        raise InputError("the slides are missing", where=request.source, expected=expected, found=found, todo=todo)
    if not outlines:
        todo = "download and unzip testing/lesion_annotations.zip: slides without an outline count as normal"
        raise InputError("the test slides have no annotations", where=request.source, expected="test_*.xml", todo=todo)
    ill = [path for name, path in test.items() if f"{name}.xml" in outlines]
    healthy = [path for name, path in test.items() if f"{name}.xml" not in outlines]
    size = request.number("patch_size", PATCH_SIZE)
    test_patches = request.number("test_patches", TEST_PATCHES)
    groups = (
        _Group("train", "normal", training, request.number("train_patches", TRAIN_PATCHES)),
        _Group("test", "normal", healthy, test_patches),
        _Group("test", "tumor", ill, test_patches),
    )
    counts = {f"{group.split}/{group.kind} slides": len(group.slides) for group in groups}
    random = np.random.RandomState(request.seed)
    places: dict[Path, tuple[int, int]] = {}
    scans = [scan for group in groups for scan in _patches(group, outlines, size, random, request.output, places)]

    def write(scan: PublishedScan) -> PublishedScan:
        slide = scan.source or scan.image
        left, top = places[scan.image]
        mask = request.output / "masks" / scan.image.name if scan.label else None
        for path in (scan.image, mask):
            if path is None or path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                if path is scan.image:
                    cut(slide, left, top, size).save(temporary)
                else:
                    patch_mask(read_annotation_once(outlines[f"{slide.stem}.xml"]), left, top, size).save(temporary)
        return replace(scan, mask=mask)

    return Published(scans, counts=counts, convert=write)


def _by_name(source: Path, pattern: str, names: re.Pattern[str]) -> dict[str, Path]:
    """Files below the source by name; two of one name, as after unzipping twice, are refused."""
    found: dict[str, Path] = {}
    for path in sorted(source.rglob(pattern)) if source.is_dir() else []:
        if names.match(path.name) and found.setdefault(path.name, path) != path:
            todo = "remove one of the two"
            raise InputError("a file is listed twice", where=path, found=found[path.name], todo=todo)
    return found


def _patches(
    group: _Group,
    outlines: dict[str, Path],
    size: int,
    random: np.random.RandomState,
    output: Path,
    places: dict[Path, tuple[int, int]],
) -> list[PublishedScan]:
    """The group's patches, drawn evenly from its slides; ``places`` gets their upper left corners."""
    squares = []
    for number, slide in enumerate(group.slides, start=1):
        if group.kind == "tumor":
            squares.append(tumour_squares(slide, read_annotation_once(outlines[f"{slide.stem}.xml"]), size))
        else:
            squares.append(tissue_squares(slide, size))
        logger.info("%s %s: slide %d of %d searched.", group.split, group.kind, number, len(group.slides))
    scans = []
    for slide, found, share in zip(
        group.slides, squares, share_out(group.patches, [len(found) for found in squares]), strict=True
    ):
        for index in sorted(random.permutation(len(found))[:share]):
            left, top = found[index]
            image = output / "images" / group.split / group.kind / f"{slide.stem}_{size}_{left}_{top}.png"
            places[image] = left, top
            label = int(group.kind == "tumor")
            scans.append(PublishedScan(image, group.kind, label, group.split, patient=slide.stem, source=slide))
    return scans


def _edition(training: int, healthy: int, ill: int) -> Edition:
    counts = {"train/normal slides": training, "test/normal slides": healthy, "test/tumor slides": ill}
    return Edition(f"the release with {training} normal training and {healthy + ill} test slides", counts)


CAMELYON16 = DatasetAdapter(
    name="camelyon16",
    title="Camelyon16",
    download=(
        "camelyon17.grand-challenge.org/Data names GigaScience and AWS: training/normal, testing/images and "
        "testing/lesion_annotations (about 500 GB). Needs pip install openslide-python openslide-bin."
    ),
    licence="CC0.",
    read=read_camelyon16,
    # a normal slide was found to be ill later, and a test slide to be there twice
    editions=(
        _edition(160, 80, 50),
        _edition(160, 80, 49),
        _edition(159, 80, 50),
        _edition(159, 80, 49),
    ),
    options={
        "patch_size": f"side of a patch in pixels at the highest resolution ({PATCH_SIZE})",
        "train_patches": f"normal patches to train on ({TRAIN_PATCHES})",
        "test_patches": f"test patches of each class ({TEST_PATCHES})",
    },
    remark="The survey names no patches: their number and size follow BMAD (recalled). Slides count as patients.",
)
