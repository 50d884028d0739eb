"""The cases of an evaluation that are worth a look, chosen while they come and kept as encoded pictures."""

from __future__ import annotations

import bisect
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from numpy.typing import NDArray
from PIL import Image

from medad_plugins.reports.figures import Plane, across_planes, axial_planes, plane_pictures

__all__ = ["Example", "Gallery", "RenderedCase", "Slice"]


class _Format(NamedTuple):
    """How a slice is drawn: longer side and line width in pixels, JPEG qualities to try, bytes to stay in."""

    side: int
    line: int
    qualities: tuple[int, ...]
    most_bytes: int


# A 2D scan is one slice and can be large. A volume is dozens: 24 volumes of 32 slices stay below 15 MB of base64, noisy
# ones at a lower quality.
_PICTURE = _Format(384, 3, (88, 75), 400_000)
_SLICE = _Format(224, 2, (80, 65, 50, 35, 20), 13_500)


@dataclass(frozen=True)
class RenderedCase:
    """What is drawn of a case.

    Attributes:
        scan: ``(C, *spatial)``, 0..1.
        anomaly_map, mask: ``(*spatial)``.
        affine: voxel to world (RAS, mm).
        truth: ``(*spatial)``, the lesion as it was outlined; None where nobody did.
    """

    scan: NDArray
    anomaly_map: NDArray
    mask: NDArray
    affine: NDArray
    truth: NDArray | None = None


@dataclass(frozen=True)
class Slice:
    """Pictures (JPEG) of one slice: the scan, the map, and both with the contours.

    ``name`` and ``left`` (side of the patient at the left edge) are empty for a 2D scan; ``has_truth`` says whether the
    outlined lesion reaches into the slice.
    """

    name: str
    left: str
    scan: bytes
    anomaly_map: bytes
    overlay: bytes
    has_truth: bool = False


@dataclass(frozen=True)
class Example:
    """A case of the gallery.

    Attributes:
        case_id, label, score, p_value, flagged: as scored; label 0 normal, 1 abnormal.
        kind: ``false positive``, ``false negative``, ``true positive``, ``true negative``, or, where there is no false
            one, ``highest normal`` and ``lowest abnormal``.
        slices: from the feet to the head; one for a 2D scan.
        start: index of the slice with the map's highest value.
        limits, threshold: map values at the ends of the colour scale and the lowest at which a mask begins, equal in a
            gallery.
        across: of a volume the coronal and the sagittal slice with most of the lesion, or the map's highest value.
    """

    case_id: str
    kind: str
    label: int
    score: float
    p_value: float
    flagged: bool
    slices: tuple[Slice, ...]
    start: int
    limits: tuple[float, float]
    threshold: float
    across: tuple[Slice, ...] = ()


class _Ranking:
    """The first few examples by a key."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.entries: list[tuple[Any, Example]] = []

    def admits(self, key: Any) -> bool:
        return len(self.entries) < self.most or key < self.entries[-1][0]

    def add(self, key: Any, example: Example) -> None:
        bisect.insort(self.entries, (key, example), key=lambda entry: entry[0])
        del self.entries[self.most :]


class Gallery:
    """The worst mistakes of a test set and some right decisions, in memory that does not grow with the cases.

    Kinds: false positives with the highest scores; false negatives with the lowest; true positives with the highest
    scores; true negatives drawn at random (by a hash of the case's name, so that neither order nor run matters). Where
    there is no false positive or negative, the highest-scoring normal and lowest-scoring abnormal cases are kept.

    Args:
        limits: map values at the ends of the colour scale, one for all cases.
        threshold: lowest map value at which a mask begins.
        per_kind: how many cases of each kind.
        most_slices: how many axial slices of a volume are kept.
    """

    def __init__(self, limits: tuple[float, float], threshold: float, per_kind: int = 6, most_slices: int = 32) -> None:
        if per_kind < 1 or most_slices < 1:
            raise ValueError(f"per_kind and most_slices are at least 1, got {per_kind} and {most_slices}")
        self.limits, self.threshold, self.most_slices = limits, threshold, most_slices
        kinds = ("false positive", "highest normal", "false negative", "lowest abnormal")
        self._rankings = {kind: _Ranking(per_kind) for kind in (*kinds, "true positive", "true negative")}

    def offer(
        self,
        *,
        case_id: str,
        label: int,
        score: float,
        p_value: float,
        flagged: bool,
        render: Callable[[], RenderedCase],
    ) -> None:
        """Take a case in if it is among the first of its kind; only then ``render`` is called, once."""
        example: Example | None = None
        for kind, key in self._kinds(case_id, label, score, flagged):
            ranking = self._rankings[kind]
            if not ranking.admits(key):
                continue
            if example is None:
                slices, start, across = self._draw(render())
                example = Example(
                    case_id, kind, label, score, p_value, flagged, slices, start, self.limits, self.threshold, across
                )
            ranking.add(key, replace(example, kind=kind))

    def absorb(self, other: Gallery) -> None:
        """Take in the cases of another gallery of the same settings, as if they had been offered to this one."""
        for kind, ranking in other._rankings.items():
            for key, example in ranking.entries:
                if self._rankings[kind].admits(key):
                    self._rankings[kind].add(key, example)

    def examples(self) -> list[Example]:
        """The cases kept so far, mistakes first; no case comes twice."""
        shown: dict[str, Example] = {}
        for mistake, nearest in (("false positive", "highest normal"), ("false negative", "lowest abnormal")):
            ranking = self._rankings[mistake if self._rankings[mistake].entries else nearest]
            shown |= {example.case_id: example for _, example in ranking.entries}
        for kind in ("true positive", "true negative"):
            for _, example in self._rankings[kind].entries:
                shown.setdefault(example.case_id, example)
        return list(shown.values())

    def _kinds(self, case_id: str, label: int, score: float, flagged: bool) -> list[tuple[str, Any]]:
        """Kinds a case may belong to, each with the key it is ranked by."""
        highest, lowest = (-score, case_id), (score, case_id)
        if flagged != bool(label):
            return [("false negative", lowest) if label else ("false positive", highest)]
        if label:
            kinds: list[tuple[str, Any]] = [("true positive", highest)]
            return kinds if self._rankings["false negative"].entries else [*kinds, ("lowest abnormal", lowest)]
        kinds = [("true negative", (hashlib.sha256(case_id.encode()).digest(), case_id))]
        return kinds if self._rankings["false positive"].entries else [*kinds, ("highest normal", highest)]

    def _draw(self, case: RenderedCase) -> tuple[tuple[Slice, ...], int, tuple[Slice, ...]]:
        parts = case.scan, case.anomaly_map, case.mask, case.affine, case.truth
        planes, start = axial_planes(*parts, most=self.most_slices)
        layout = _SLICE if case.anomaly_map.ndim == 3 else _PICTURE
        across = tuple(_drawn(plane, self.limits, layout) for plane in across_planes(*parts))
        return tuple(_drawn(plane, self.limits, layout) for plane in planes), start, across


def _drawn(plane: Plane, limits: tuple[float, float], layout: _Format) -> Slice:
    scan, heat, both = plane_pictures(plane, limits, layout.side, layout.line)
    grey = scan if plane.scan.ndim == 3 else scan.convert("L")
    for quality in layout.qualities:
        encoded = [_jpeg(picture, quality) for picture in (grey, heat, both)]
        if sum(map(len, encoded)) <= layout.most_bytes:
            break
    has_truth = plane.truth is not None and bool(plane.truth.any())
    return Slice(plane.name, plane.left, encoded[0], encoded[1], encoded[2], has_truth)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    if picture.mode == "L":
        picture.save(buffer, format="JPEG", quality=quality, optimize=True)
    else:  # full colour resolution: the contours are two pixels wide
        picture.save(buffer, format="JPEG", quality=quality, optimize=True, subsampling=0)
    return buffer.getvalue()
