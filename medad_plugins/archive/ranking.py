"""An unsorted folder of scans, ranked by how unlike each is to the others."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism
from numpy.typing import NDArray
from torch import Tensor

from medad_plugins.archive.ranking_page import RankedScan, write_ranking_page
from medad_plugins.data import Case, FaultTolerantLoader, ScanFormat, find_cases
from medad_plugins.data.upright import UPRIGHT_SLICES
from medad_plugins.engines import score_cases
from medad_plugins.errors import InputError
from medad_plugins.files import atomic_path, output_folder
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.networks.along_axes import AlongAxes
from medad_plugins.protocols import JudgesScans

__all__ = ["network_affine", "rank_archive"]

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 15.0
COLUMNS = ("rank", "case_id", "image", "anomaly_score", "label", "error")
# keys of the configuration that say where a training's scans come from; a folder that is ranked has its own
_NOT_HERE = ("cohort", "setup", "train", "run", "initialize", "imports", "network", "network_def", "bundle_root")


class _Progress:
    """A line now and then: how many are done, and for how long it goes on."""

    def __init__(self, what: str) -> None:
        self.what, self.began, self.logged = what, time.monotonic(), time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.logged > _SECONDS_BETWEEN_LINES or done == total:
            self.logged = now
            rate = done / max(now - self.began, 1e-3)
            left = (total - done) / rate / 60
            logger.info("%s %d of %d, %.1f a second, %.1f min left", self.what, done, total, rate, left)


@dataclass(frozen=True)
class _Parts:
    """What of a bundle's configuration a ranking needs."""

    network: AnomalyNetwork
    judge: JudgesScans  # the same
    scan: ScanFormat
    preprocessing: Any
    inferer: Any
    batch_size: int
    num_workers: int
    device: torch.device

    def loader(self, cases: Sequence[Case]) -> FaultTolerantLoader:
        return FaultTolerantLoader(cases, self.preprocessing, self.batch_size, self.num_workers)


def rank_archive(
    dataset_dir: str | Path,
    output_dir: str | Path,
    bundle_root: str | Path,
    datalist: str = "",
    split: str = "all",
    where: str = "",
    shown: int = 50,
    keys: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Rank the scans of a folder, none of which is known as normal or abnormal, the most suspicious first.

    Writes ``ranking.csv`` (rank, case_id, image, anomaly_score, label where the list has one, error of a scan that
    could not be read) and ``ranking.html``, one page with pictures and maps of the first. A score says how unlike a
    scan is to the others of this folder: it has no p-value and is not compared with those of another folder.

    Args:
        dataset_dir: any folder with scans in it, or one with a datalist, whose labels are not looked at.
        output_dir: folder for both files.
        bundle_root: of the bundle `musc`, whose ``train.yaml`` has the settings.
        datalist, split, where: as in `medad_plugins.data.find_cases`.
        shown: how many are on the page.
        keys: values of that ``train.yaml`` by name; by default up to 1,000 scans are compared with each other, and all
            others with these.

    Returns:
        the rows of the table.

    Raises:
        InputError: a key is unknown, or fewer than two scans can be read.
    """
    cases = find_cases(dataset_dir, datalist, split, where=where)
    parts = _parts(Path(bundle_root), str(dataset_dir), dict(keys or {}))
    output = output_folder(output_dir)
    began = time.monotonic()
    good, failures = _collect(parts, cases)
    parts.judge.fit(_Progress("compared"))
    scores = _scores(parts, good)
    seconds = time.monotonic() - began
    order = sorted(range(len(good)), key=lambda i: (-scores[i], good[i]["case_id"]))
    rows = [_row(good[i], rank, score=scores[i]) for rank, i in enumerate(order, start=1)]
    rows += [_row(case, "", error=sentence) for case, sentence in failures]
    with atomic_path(output / "ranking.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    limits = _limits(parts.judge.bank_maps())
    pictures = _pictures(parts, [good[i] for i in order[: int(shown)]], [scores[i] for i in order[: int(shown)]])
    write_ranking_page(output / "ranking.html", pictures, np.asarray(scores), limits, len(failures))
    logger.info("%d scans in %.0f s, %.1f a second; see %s", len(good), seconds, len(good) / seconds, output)
    return rows


def _parts(root: Path, dataset_dir: str, keys: dict[str, Any]) -> _Parts:
    path = root / "configs" / "train.yaml"
    if not path.is_file():
        raise InputError("this is not a bundle", where=root, expected="configs/train.yaml in it")
    parser = ConfigParser()
    parser.read_config(str(path))
    unknown = [key for key in keys if key not in parser.get() or key in _NOT_HERE]
    if unknown:
        known = [key for key, value in parser.get().items() if key not in _NOT_HERE and not isinstance(value, dict)]
        raise InputError("the bundle has no such key", where=f"--{unknown[0]}", expected=f"one of {', '.join(known)}")
    parser.update({"references": 1000, **keys, "dataset_dir": dataset_dir, "bundle_root": str(root)})
    found = parser.get_parsed_content
    set_determinism(found("seed"))
    if str(found("weights")).lower() in ("none", ""):
        logger.warning("it starts from random weights (--weights none): fine to try it, not to trust it.")
    network = found("network_def")
    if isinstance(network, AlongAxes):
        raise InputError(
            "volumes are ranked whole or by one axis", where="--slice_axis", expected="0, 1 or 2", found="all"
        )
    if not isinstance(network, JudgesScans) or not isinstance(network, AnomalyNetwork):
        raise InputError("a folder is ranked by the bundle musc", where=root, found=type(network).__name__)
    return _Parts(
        network.eval(),
        network,
        found("scan"),
        found("preprocessing"),
        found("inferer"),
        int(found("batch_size")),
        int(found("num_workers")),
        torch.device(found("device")),
    )


def _collect(parts: _Parts, cases: Sequence[Case]) -> tuple[list[Case], list[tuple[Case, str]]]:
    """Show the network all scans; those that were read, in order, and the others with a sentence each."""
    loader, progress = parts.loader(cases), _Progress("read")
    seen: list[str] = []
    for batch in loader:
        image = batch["image"].as_tensor().to(parts.device)
        parts.inferer(image, parts.judge.collect)
        seen += batch["case_id"]
        progress(len(seen) + len(loader.failures), len(cases))
    by_id = {case["case_id"]: case for case in cases}
    return [by_id[name] for name in seen], list(loader.failures)


def _scores(parts: _Parts, cases: Sequence[Case]) -> list[float]:
    """Scores in the order of the cases: those of the bank are known, others are compared with it."""
    if len(cases) == len(parts.judge.bank_maps()):
        return [float(score) for score in parts.judge.bank_scores()]
    progress = _Progress("scored")
    found: list[float] = []
    for case in score_cases(parts.network, parts.loader(cases), parts.inferer):
        found.append(case.score)
        progress(len(found), len(cases))
    return found


def _row(case: Case, rank: int | str, score: float | str = "", error: str = "") -> dict[str, Any]:
    label = case.get("label")
    row = {"rank": rank, "case_id": case["case_id"], "image": case["image"], "anomaly_score": score, "error": error}
    return {**row, "label": "" if label is None else label}


def _limits(own: Tensor) -> tuple[float, float]:
    """Ends of the colour scale: what half of all places have, and what one in a thousand has more of."""
    values = own.flatten().cpu().numpy()
    low, high = (float(value) for value in np.quantile(values, [0.5, 0.999]))
    return low, max(high, low + 1e-6)


def _pictures(parts: _Parts, cases: Sequence[Case], scores: Sequence[float]) -> list[RankedScan]:
    """The scans of the page with their maps."""
    shown = {case["case_id"]: (rank, score) for rank, (case, score) in enumerate(zip(cases, scores, strict=True), 1)}
    found: list[RankedScan] = []
    for scored in score_cases(parts.network, _without_labels(parts.loader(cases)), parts.inferer):
        rank, score = shown[scored.case_id]
        scan, anomaly_map = _arrays(scored.image), _arrays(scored.anomaly_map)
        if anomaly_map.ndim == 3:  # upright: rows first, which pictures have last
            scan, anomaly_map = scan.swapaxes(1, 2), anomaly_map.swapaxes(1, 2)
        found.append(RankedScan(rank, scored.case_id, score, scan, anomaly_map[0], network_affine(parts.scan)))
    return found


def network_affine(scan: ScanFormat) -> NDArray[np.float64]:
    """Where the axes of a volume point that the network sees."""
    affine = np.eye(scan.spatial_dims + 1)
    if isinstance(scan.slice_axis, int):
        orientation = nib.orientations.axcodes2ornt(UPRIGHT_SLICES[scan.slice_axis])
        affine[:3, :3] = 0
        for axis, (world, sign) in enumerate(orientation):
            affine[int(world), axis] = sign
    return affine


def _arrays(image: Tensor) -> NDArray[np.float32]:
    return np.asarray(image.float().cpu().numpy(), dtype=np.float32)


def _without_labels(batches: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for batch in batches:
        yield {key: batch[key] for key in ("image", "case_id")}
