"""An archive spread over the processes and machines of a Ray cluster."""

from __future__ import annotations

import importlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medad_plugins.archive.case_files import CaseFiles
from medad_plugins.archive.worker import ArchiveWorker
from medad_plugins.claims import claim_folder, release_folder
from medad_plugins.data import Case, find_cases
from medad_plugins.errors import InputError, find_input_error
from medad_plugins.handlers.results import control_false_discoveries, write_results

__all__ = ["infer_archive"]

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 30.0
_REFUSED = "refused"


class _RayWorker:
    """An `ArchiveWorker` as Ray Data calls it: with columns of text, for scans do not travel."""

    def __init__(self, bundle_root: str, output_dir: str, keys: str) -> None:
        self.worker = ArchiveWorker(bundle_root, output_dir, json.loads(keys))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        try:
            return {"row": [json.dumps(row) for row in self.worker([json.loads(case) for case in batch["case"]])]}
        except Exception as error:
            found = find_input_error(error)
            if found is None:
                raise
            # as a row: what Ray makes of an exception has forgotten where it came from
            return {"row": [json.dumps({_REFUSED: str(found)})]}


def infer_archive(
    bundle_root: str | os.PathLike[str],
    dataset_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    workers: int = 2,
    cpus_per_worker: float = 1,
    gpus_per_worker: float = 0,
    address: str = "local",
    datalist: str = "",
    split: str = "test",
    where: str = "",
    keys: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Apply a bundle to all cases of a folder with workers of a Ray cluster, where they have no result yet.

    Writes what the bundle's ``inference.yaml`` writes: maps, masks, overlays, and at the end ``results.csv`` and
    ``results.json`` with every case once. A stopped run goes on where it was when it is started again; a worker that
    dies is replaced and its cases are computed again, with the same result.

    Args:
        bundle_root: the bundle's folder, on a disk that all machines see, as are the data and the output.
        dataset_dir: as in `find_cases`; datalist, split and where too.
        output_dir: folder for all results.
        workers: processes, each with a network of its own.
        cpus_per_worker: processor cores for each.
        gpus_per_worker: GPUs for each, or a share of one.
        address: of a running Ray cluster; ``local`` starts one on this machine.
        keys: values of ``inference.yaml`` by name, e.g. ``alpha``.

    Returns:
        the rows of the results table, in the order of the list, those with an error last.

    Raises:
        InputError: Ray is not installed or the cluster cannot be reached, the folder holds results of other settings
            or data, another run writes there,
            or whatever inference itself refuses.
    """
    ray = _ray()
    if int(workers) < 1:
        raise InputError("a number is too small", where="workers", expected="at least 1", found=workers)
    root, output = os.path.abspath(bundle_root), os.path.abspath(output_dir)
    keys = {name: os.path.abspath(value) if name == "ckpt_path" else value for name, value in (keys or {}).items()}
    cases = find_cases(os.path.abspath(dataset_dir), datalist, split, where=where)
    first = ArchiveWorker(root, output, keys)  # what it refuses is refused here, in a sentence
    files = first.files
    claim_folder(output)
    files.agree_on(first.settings() | {"dataset_dir": os.path.abspath(dataset_dir), "datalist": datalist})
    waiting = [case for case in cases if not files.is_done(case)]
    files.forget_attempts(waiting)
    logger.info("%d cases, %d of them done before; %d workers.", len(cases), len(cases) - len(waiting), workers)
    if waiting:
        with _cluster(ray, address, workers, cpus_per_worker, gpus_per_worker):
            arguments = {"bundle_root": root, "output_dir": output, "keys": json.dumps(keys)}
            _compute(ray, waiting, first.batch_size, workers, cpus_per_worker, gpus_per_worker, arguments)
    rows = _collect(files, cases, first.fdr)
    release_folder(output)
    return rows


def _ray() -> Any:
    # no word to its makers about runs in a hospital; read when Ray is imported
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
    except ImportError as error:
        raise InputError("Ray is not installed", todo="pip install 'medad-plugins[ray]'") from error


@contextmanager
def _cluster(ray: Any, address: str, workers: int, cpus: float, gpus: float) -> Iterator[None]:
    """Connect, or start a cluster with room for the workers."""
    own = {"num_cpus": max(1, round(workers * cpus)), "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        todo = "give --address of a running cluster, or leave it out"
        found = str(error).splitlines()[0]
        raise InputError("the Ray cluster cannot be reached", where=address, found=found, todo=todo) from error
    try:
        resources = ray.cluster_resources()
        for name, needed in (("CPU", workers * cpus), ("GPU", workers * gpus)):
            if needed > resources.get(name, 0):
                todo = "give fewer --workers or less for each of them"
                found = f"{resources.get(name, 0):g} {name}"
                expected = f"at least {needed:g} {name}"
                raise InputError("the Ray cluster is too small", expected=expected, found=found, todo=todo)
        yield
    finally:
        ray.shutdown()


def _compute(
    ray: Any,
    cases: Sequence[Case],
    batch_size: int,
    workers: int,
    cpus: float,
    gpus: float,
    arguments: Mapping[str, str],
) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # a block is what is computed again when its worker dies
    items = ray.data.from_items(
        [{"case": json.dumps(case)} for case in cases], override_num_blocks=-(-len(cases) // batch_size)
    )
    rows = items.map_batches(
        _RayWorker,
        batch_size=batch_size,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=cpus,
        num_gpus=gpus or None,
        fn_constructor_kwargs=dict(arguments),
    )
    _follow(rows.iter_batches(batch_size=None), len(cases))


def _follow(batches: Iterator[dict[str, Any]], total: int) -> None:
    """Log progress now and then; a scan that cannot be read is reported at once."""
    began = logged = time.monotonic()
    done = 0
    for batch in batches:
        for row in map(json.loads, batch["row"]):
            if _REFUSED in row:
                raise InputError(row[_REFUSED].removesuffix("."))
            done += 1
            if row["error"]:
                logger.warning("left out %s: %s", row["case_id"], row["error"])
        if (now := time.monotonic()) - logged > _SECONDS_BETWEEN_LINES or done == total:
            logged = now
            left = (now - began) / max(1, done) * (total - done)
            logger.info("case %d of %d, %.0f min left", done, total, left / 60)


def _collect(files: CaseFiles, cases: Sequence[Case], fdr: float | None = None) -> list[dict[str, Any]]:
    rows = [row for case in cases if (row := files.read(case)) is not None]
    rows.sort(key=lambda row: row["error"] is not None)  # stable: the good ones first, as inference writes them
    failed = sum(row["error"] is not None for row in rows)
    control_false_discoveries(rows, fdr)
    write_results(files.output_dir, rows)
    path = Path(files.output_dir) / "results.csv"
    if len(rows) < len(cases):
        todo = "start the same command again"
        raise InputError("not every case was computed", where=path, expected=len(cases), found=len(rows), todo=todo)
    if failed == len(rows):
        # a scan that was scored failed for the place that results go to, which is the same for all
        first = next((row for row in rows if row["anomaly_score"] is not None), rows[0])
        reason = str(first["error"]).rstrip(".")
        what = f"none of the {failed} cases has a whole result, the first because: {reason}"
        raise InputError(what, where=path, todo="see its column error")
    flagged = sum(bool(row["is_anomalous"]) for row in rows)
    unread = f", {failed} could not be read" if failed else ""
    logger.info("%d cases: %d anomalous%s; results in %s", len(rows) - failed, flagged, unread, path)
    return rows
