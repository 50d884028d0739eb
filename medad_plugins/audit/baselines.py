"""Detectors that anyone can write in ten lines: what a method must beat before its figures mean anything."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

from medad_plugins.audit.intensity_threshold import IntensityThreshold
from medad_plugins.audit.signatures import Signatures, read_signatures
from medad_plugins.audit.thumbnails import Grid, grey, resize, to_unit_range, upright
from medad_plugins.data import Case, case_group, read_scan
from medad_plugins.errors import InputError
from medad_plugins.metrics import detection_summary
from medad_plugins.networks import ResNetTaps
from medad_plugins.networks.backbones.weights import find_weights

__all__ = ["Baseline", "trivial_baselines"]

logger = logging.getLogger(__name__)

_NETWORK_SIZE = 192
_BATCH_SIZE = 16
_NEIGHBOURS = 3
_ALPHA = 0.05  # of a decision that no baseline makes
_VOXELS = 48  # along an edge of the grid on which volumes are compared voxel by voxel
_HIGHEST = 0.02  # share of the voxels whose mean z is the score
_OUTSIDE = 0.05  # share of a scan's intensity range up to which it is no field of view, as the audit's background


@dataclass(frozen=True)
class Baseline:
    """What a trivial detector reaches on the split test.

    Attributes:
        name: of the detector.
        scores: ``(n,)``, higher is more abnormal.
        labels: ``(n,)``, 0 normal, 1 abnormal.
        auroc: area under the ROC curve.
        auroc_95ci: its interval by bootstrap, by patient or cluster where these are known (see `detection_summary`);
            0 to 1 where a class is one patient.
        average_precision: area under the precision-recall curve.
        localization: figures of `medad_plugins.metrics.LocalizationMetric`, of a detector that has a map; else empty.
    """

    name: str
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    auroc: float
    auroc_95ci: tuple[float, float]
    average_precision: float
    localization: dict[str, Any] = field(default_factory=dict)


def trivial_baselines(
    cases: Sequence[Case],
    weights: str = "none",
    *,
    backbone: str = "resnet18",
    signatures: Signatures | None = None,
    workers: int | None = None,
    seed: int = 0,
) -> list[Baseline]:
    """Fit trivial detectors on the normal cases of the split train and apply them to the split test.

    - "thumbnail nearest neighbour": distance of the 32 x 32 (in 3D 16 x 16 x 16) thumbnail to the nearest one of train.
    - "field-of-view silhouette nearest neighbour": the same of the thumbnail's mask alone, what is brighter than a
      twentieth of its range: the outline of a head, a lung field, a retina or its camera, and nothing inside.
    - "mean intensity": how far the scan's mean intensity is from the mean one of train.
    - "voxel z-score", of volumes: on a grid of 48 voxels along each edge, smoothed by one voxel, the distance of each
      voxel from the mean one of train in standard deviations; the mean of the highest 2 %.
    - "intensity threshold", where the test set has masks: bright is abnormal, see `IntensityThreshold`; the one that
      localizes.
    - "k-NN on frozen pooled features": mean distance to the 3 nearest of train, in the pooled layer2 and layer3 of a
      pretrained ResNet at 192 pixels (of a volume the three middle planes); left out with a line in the log where
      ``weights`` is "none".

    Args:
        cases: with ``image``, ``label`` and ``split``.
        weights: of the ResNet, see `find_weights`.
        backbone: the ResNet, one of `BACKBONES`.
        signatures: of these very cases, where they were read before.
        workers: processes that read.
        seed: of the bootstrap.

    Raises:
        InputError: no normal case in train, or the split test lacks one of the classes; weights that cannot be found.
    """
    has_weights = find_weights(weights, backbone) is not None
    if signatures is None:
        signatures = read_signatures(cases, workers)
    fit, test = _fit_and_test(cases, signatures)
    tested = [cases[signatures.index[i]] for i in test]
    labels = np.array([case["label"] for case in tested], dtype=np.int64)
    scores = {
        "thumbnail nearest neighbour": _thumbnail_scores(signatures, fit, test),
        "field-of-view silhouette nearest neighbour": _silhouette_scores(signatures, fit, test),
        "mean intensity": _intensity_scores(signatures, fit, test),
    }
    dims = signatures.items[fit[0]].thumbnail.ndim
    localizing = _intensity_threshold([cases[signatures.index[i]] for i in fit], tested, dims, seed)
    if not has_weights:
        logger.info("No k-NN on frozen features: no weights were given.")
    else:
        network = ResNetTaps(backbone, in_channels=3, stages=3, weights=weights).eval()
        known = _features([cases[signatures.index[i]] for i in fit], network)
        new = _features(tested, network)
        scores["k-NN on frozen pooled features"] = _neighbour_distance(known, new, _NEIGHBOURS)
    found = [*(_baseline(name, values, tested, labels, seed) for name, values in scores.items()), *localizing]
    if signatures.items[test[0]].thumbnail.ndim == 3:
        z_maps = _z_maps([cases[signatures.index[i]] for i in fit], tested)
        highest = np.sort(z_maps.reshape(len(z_maps), -1), axis=1)[:, -round(_HIGHEST * z_maps[0].size) :].mean(1)
        judged = _baseline("voxel z-score", highest.astype(np.float64), tested, labels, seed)
        pixel_ap = _pixel_ap(z_maps, tested)
        found.append(judged if pixel_ap is None else replace(judged, localization={"pixel_ap": pixel_ap}))
    return found


def _fit_and_test(cases: Sequence[Case], signatures: Signatures) -> tuple[list[int], list[int]]:
    """Positions in ``signatures.items`` of the normal training cases and of the labelled test cases."""
    places = [(i, cases[position]) for i, position in enumerate(signatures.index)]
    dims = [item.thumbnail.ndim for item in signatures.items]
    # one kind of scan: where a folder mixes pictures and volumes, the kind that most of them are
    kind = 3 if dims.count(3) > dims.count(2) else 2
    fit, test = (
        [i for i, case in places if dims[i] == kind and case.get("split") == split and case.get("label") in wanted]
        for split, wanted in (("train", (0,)), ("test", (0, 1)))
    )
    found = [cases[signatures.index[i]]["label"] for i in test]
    if not fit or len(set(found)) < 2:
        raise InputError(
            "no trivial baseline can be computed",
            expected="normal cases in split train and both classes in split test",
            found=f"{len(fit)} normal in train, {found.count(0)} normal and {found.count(1)} abnormal in test",
        )
    return fit, test


def _thumbnail_scores(signatures: Signatures, fit: list[int], test: list[int]) -> NDArray[np.float64]:
    known, new = (np.stack([signatures.items[i].thumbnail.ravel() for i in part]) for part in (fit, test))
    return _neighbour_distance(known, new, 1)


def _silhouette_scores(signatures: Signatures, fit: list[int], test: list[int]) -> NDArray[np.float64]:
    def masks(part: list[int]) -> NDArray[np.float32]:
        thumbnails = np.stack([signatures.items[i].thumbnail.ravel() for i in part])
        low, high = thumbnails.min(1, keepdims=True), thumbnails.max(1, keepdims=True)
        return (thumbnails > low + _OUTSIDE * (high - low)).astype(np.float32)

    return _neighbour_distance(masks(fit), masks(test), 1)


def _intensity_threshold(
    normal: Sequence[Case], tested: Sequence[Case], spatial_dims: int, seed: int
) -> list[Baseline]:
    """The baseline that localizes; none where there is nothing to compare its map with."""
    if not any(case.get("mask") for case in tested):
        return []
    read, scores, figures = IntensityThreshold(normal, spatial_dims).apply(tested)
    labels = np.array([case["label"] for case in read], dtype=np.int64)
    if set(labels.tolist()) != {0, 1}:
        return []
    return [replace(_baseline("intensity threshold", scores, read, labels, seed), localization=figures)]


def _intensity_scores(signatures: Signatures, fit: list[int], test: list[int]) -> NDArray[np.float64]:
    known, new = (np.array([signatures.items[i].mean for i in part]) for part in (fit, test))
    return np.abs(new - known.mean())


def _z_maps(known: Sequence[Case], tested: Sequence[Case]) -> Grid:
    """How many standard deviations each voxel is from that of the known volumes, ``(n, 48, 48, 48)``."""
    grids = np.stack([_on_grid(case) for case in known])
    # a voxel that is always air has no spread
    mean, deviation = grids.mean(0), grids.std(0) + 0.02
    return np.stack([np.abs(_on_grid(case) - mean) / deviation for case in tested])


def _on_grid(case: Case) -> Grid:
    scan = read_scan(Path(str(case["image"])))
    unit = to_unit_range(upright(grey(scan), scan.affine), scan.stored_bits)
    return ndimage.gaussian_filter(resize(unit, _VOXELS), 1.0)


def _pixel_ap(z_maps: Grid, tested: Sequence[Case]) -> float | None:
    """Average precision over all voxels of the grid; a voxel is abnormal where the mask fills half of it."""
    masks = np.zeros(z_maps.shape, dtype=bool)
    for mask, case in zip(masks, tested):
        if case.get("mask"):
            scan = read_scan(Path(str(case["mask"])))
            mask[:] = resize((upright(grey(scan), scan.affine) > 0).astype(np.float32), _VOXELS) > 0.5
    return float(average_precision_score(masks.ravel(), z_maps.ravel())) if masks.any() else None


def _neighbour_distance(known: NDArray, new: NDArray, count: int) -> NDArray[np.float64]:
    neighbours = NearestNeighbors(n_neighbors=min(count, len(known)), algorithm="brute").fit(known)
    return neighbours.kneighbors(new)[0].mean(1).astype(np.float64)


@torch.no_grad()
def _features(cases: Sequence[Case], network: ResNetTaps) -> NDArray[np.float32]:
    """Pooled layer2 and layer3 features ``(n, channels)``, of a volume those of its three middle planes in a row."""
    rows: list[NDArray[np.float32]] = []
    for start in range(0, len(cases), _BATCH_SIZE):
        views = [list(_views(Path(str(case["image"])))) for case in cases[start : start + _BATCH_SIZE]]
        image = torch.from_numpy(np.stack([view for scan in views for view in scan]))
        pooled = torch.cat([tap.mean((2, 3)) for tap in network(image)[1:]], dim=1)
        rows.append(pooled.reshape(len(views), -1).numpy())
        if start and start % (40 * _BATCH_SIZE) == 0:
            logger.info("Features of %d of %d scans.", start, len(cases))
    return np.concatenate(rows)


def _views(path: Path) -> Iterator[Grid]:
    """A scan as pictures ``(3, 192, 192)``, intensities 0..1: a picture in its colours, a volume's middle planes."""
    scan = read_scan(path)
    if scan.has_channels and scan.array.ndim == 3 and scan.array.shape[-1] == 3:
        unit = to_unit_range(scan.array.astype(np.float32), scan.stored_bits)
        yield np.stack([resize(unit[..., channel], _NETWORK_SIZE).T for channel in range(3)])
        return
    unit = to_unit_range(upright(grey(scan), scan.affine), scan.stored_bits)
    planes = [unit] if unit.ndim == 2 else [unit.take(unit.shape[axis] // 2, axis) for axis in range(3)]
    for plane in planes:
        # networks of photographs know heads from above, rows first
        yield np.repeat(resize(plane, _NETWORK_SIZE).T[None], 3, axis=0)


def _baseline(
    name: str, scores: NDArray[np.float64], tested: Sequence[Case], labels: NDArray[np.int64], seed: int
) -> Baseline:
    groups = [case_group(case) for case in tested]
    figures = detection_summary(scores.tolist(), labels.tolist(), None, _ALPHA, groups=groups, seed=seed)
    low, high = figures["auroc_95ci"] or (0.0, 1.0)  # a class of one patient says nothing about others
    return Baseline(name, scores, labels, figures["auroc"], (low, high), figures["average_precision"])
