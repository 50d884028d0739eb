"""How fast, exact and large the figures of localization are beside scikit-learn, MONAI and anomalib, in one run.

    python tools/benchmark_metrics.py [--output_file metrics.md] [--anomalib_python PYTHON]

Contenders are timed in turns on the same arrays and the best time of each counts; prints and writes a Markdown table.
"""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_average_precision, compute_roc_auc
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from medad_plugins.command_line import run_tool
from medad_plugins.errors import InputError
from medad_plugins.files import write_text
from medad_plugins.metrics import LocalizationMetric, PixelCounts, compute_aupro, compute_pixel_metrics

_HEAD = "| figure | data | ours | peer | peer's time | ratio | relative difference |\n|---|---|---|---|---|---|---|"
_LIMIT = 0.3
_LOOP_THRESHOLDS, _LOOP_TIMED = 200, 10

# What the peer's own interpreter runs: best of several AUPRO of the arrays in a folder.
_ANOMALIB = """
import importlib, json, sys, time
folder, limit, threads, repeats, first = sys.argv[1:6]
for name in filter(None, first.split(",")):
    importlib.import_module(name)
import numpy as np, torch
from anomalib.metrics.aupro import _AUPRO
torch.set_num_threads(int(threads))
maps, masks = (torch.from_numpy(np.load(f"{folder}/{name}.npy")) for name in ("maps", "masks"))
seconds = []
for _ in range(int(repeats)):
    start = time.perf_counter()
    metric = _AUPRO(fpr_limit=float(limit))
    metric.update(maps, masks)
    value = float(metric.compute())
    seconds.append(time.perf_counter() - start)
print(json.dumps([min(seconds), value]))
"""


def make_maps(count: int, kind: str, size: int = 256) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Anomaly maps, noisy or smooth, and masks ``(count, size, size)``; every other case has one to three lesions."""
    random = np.random.default_rng(0)
    masks = np.zeros((count, size, size), dtype=bool)
    for index in range(0, count, 2):
        for _ in range(random.integers(1, 4)):
            row, column = random.integers(0, size - size // 8, 2)
            height, width = random.integers(size // 64, size // 8, 2)
            masks[index, row : row + height, column : column + width] = True
    maps = random.standard_normal(masks.shape, dtype=np.float32)
    if kind == "smooth":
        maps = ndimage.gaussian_filter(maps, (0, 3, 3))
        maps /= maps.std()
    return np.abs(maps + masks).astype(np.float32), masks


def in_turns(contenders: dict[str, Callable[[], Any]], repeats: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Best seconds and the last result of each, measured one after the other, several times."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    results = {}
    for _ in range(repeats):
        for name, contender in contenders.items():
            start = time.perf_counter()
            results[name] = contender()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in seconds.items()}, results


def _row(figure: str, data: str, ours: float, peer: str, theirs: float, difference: float, scale: str = "") -> str:
    ratio = f"{theirs / ours:.0f}x"
    return f"| {figure} | {data} | {1e3 * ours:.1f} ms | {peer} | {theirs:.2f} s{scale} | {ratio} | {difference:.1e} |"


def _streamed(maps: NDArray, masks: NDArray) -> dict[str, Any]:
    pixels = PixelCounts()
    for anomaly_map, mask in zip(maps, masks):
        pixels.update(anomaly_map, mask)
    curves = pixels.curves()
    figures = {"pixel_auroc": curves.auroc(), "pixel_ap": curves.average_precision()}
    curves.best_dice()
    return {name: float(value[0]) for name, value in figures.items()}


def pixel_rows(count: int, kind: str, repeats: int) -> list[str]:
    """Pixel AUROC, average precision and best Dice beside scikit-learn's and MONAI's first two."""
    maps, masks = make_maps(count, kind)
    values, truth = maps.ravel(), masks.ravel()
    tensors = torch.from_numpy(values), torch.from_numpy(truth.astype(np.int64))
    ours = {"at once": lambda: compute_pixel_metrics(maps, masks), "streamed": lambda: _streamed(maps, masks)}
    peers: dict[str, Callable[[], Any]] = {
        "scikit-learn": lambda: (roc_auc_score(truth, values), average_precision_score(truth, values)),
        "MONAI": lambda: (compute_roc_auc(*tensors), compute_average_precision(*tensors)),
    }
    seconds, results = in_turns({**ours, **peers}, repeats)
    rows, data = [], f"{values.size / 1e6:.1f} M pixels, {kind}"
    for way in ours:
        for peer in peers:
            pairs = zip((results[way]["pixel_auroc"], results[way]["pixel_ap"]), results[peer])
            difference = max(abs(mine - float(theirs)) / float(theirs) for mine, theirs in pairs)
            name = f"AUROC + AP + best Dice, {way}"
            rows.append(_row(name, data, seconds[way], f"{peer} (no Dice)", seconds[peer], difference))
    return rows


def aupro_loop(maps: NDArray, masks: NDArray, thresholds: NDArray, limit: float) -> float:
    """AUPRO by the loop that is common in published code: over thresholds, masks and the regions of each."""
    points = []
    for threshold in thresholds:
        recalls = []
        marked = maps > threshold
        for binary, mask in zip(marked, masks):
            labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
            for number, box in enumerate(ndimage.find_objects(labels), start=1):
                region = labels[box] == number
                recalls.append(np.count_nonzero(binary[box] & region) / np.count_nonzero(region))
        points.append((np.count_nonzero(marked & ~masks) / np.count_nonzero(~masks), np.mean(recalls)))
    rates, means = np.array(sorted(points)).T
    grid = np.linspace(0, limit, 1000)
    heights = np.interp(grid, rates, means)
    return float((heights[1:] + heights[:-1]).sum() / 2 * (grid[1] - grid[0]) / limit)


def aupro_rows(count: int, kind: str, repeats: int, threads: int, anomalib_python: str, preload: str) -> list[str]:
    """AUPRO beside a loop over 200 thresholds and, where its interpreter is given, anomalib."""
    maps, masks = make_maps(count, kind)
    data = f"{count} maps of {maps.shape[1]} x {maps.shape[2]}, {kind}"
    # a part of the loop's thresholds is timed, all of them take that many times longer
    thresholds = np.linspace(maps.min(), maps.max(), _LOOP_THRESHOLDS)
    timed = thresholds[:: _LOOP_THRESHOLDS // _LOOP_TIMED]
    seconds, results = in_turns(
        {
            "ours": lambda: compute_aupro(maps, masks, _LIMIT),
            "loop": lambda: aupro_loop(maps, masks, timed, _LIMIT),
        },
        repeats,
    )
    looped = seconds["loop"] * _LOOP_THRESHOLDS / _LOOP_TIMED
    reference = aupro_loop(maps, masks, thresholds, _LIMIT)
    difference = abs(results["ours"] - reference) / reference
    name, scale = f"loop over {_LOOP_THRESHOLDS} thresholds", f" ({_LOOP_TIMED} timed)"
    rows = [_row("AUPRO", data, seconds["ours"], name, looped, difference, scale)]
    if anomalib_python:
        theirs, value = _anomalib(maps, masks, anomalib_python, threads, repeats, preload)
        again, _ = in_turns({"ours": lambda: compute_aupro(maps, masks, _LIMIT)}, repeats)
        ours = min(seconds["ours"], again["ours"])
        rows.append(_row("AUPRO", data, ours, "anomalib", theirs, abs(results["ours"] - value) / value))
    return rows


def _anomalib(
    maps: NDArray, masks: NDArray, python: str, threads: int, repeats: int, preload: str
) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "maps.npy"), maps)
        np.save(Path(folder, "masks.npy"), masks.astype(np.int64))
        command = [python, "-c", _ANOMALIB, folder, str(_LIMIT), str(threads), str(repeats), preload]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or str(error)
            raise InputError(
                "anomalib cannot be measured",
                where=python,
                found=reason.strip().splitlines()[-1],
                todo="give the interpreter of an environment with anomalib as --anomalib_python, or leave it out",
            ) from error
    seconds, value = json.loads(done.stdout.splitlines()[-1])
    return seconds, value


def _peak_memory(count: int, size: int) -> float:
    """Peak MiB of this process after streaming maps through all figures; NaN where the system does not report it."""
    metric = LocalizationMetric(2.5, froc_thresholds=[2.0, 3.0])
    maps, masks = make_maps(10, "noisy", size)
    random = np.random.default_rng(1)
    for index in range(count):
        noise = random.standard_normal((size, size), dtype=np.float32)
        metric.update(maps[index % 10] + 0.1 * noise, masks[index % 10], str(index))
    metric.aggregate()
    status = Path("/proc/self/status")  # the peak of this process alone, which getrusage inherits from its parent
    lines = status.read_text(encoding="ascii").splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))


def memory_table(counts: tuple[int, ...], size: int = 256) -> str:
    """Peak memory of streaming more and more maps, each number in a process of its own."""
    rows = ["| maps streamed | peak memory of the process |", "|---|---|"]
    for count in counts:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            rows.append(f"| {count:,} | {process.submit(_peak_memory, count, size).result():.0f} MiB |")
    return "\n".join(rows)


def update_line(repeats: int) -> str:
    """Time of one streamed map, with what its parts cost."""
    maps, masks = make_maps(20, "smooth")

    def seconds(**settings: Any) -> float:
        metric = LocalizationMetric(**settings)

        def stream() -> None:
            for index, (anomaly_map, mask) in enumerate(zip(maps, masks)):
                metric.update(anomaly_map, mask, str(index))

        stream()  # the first round makes the bins
        return in_turns({"": stream}, repeats)[0][""] / len(maps)

    plain, intervals = seconds(resamples=0), seconds()
    thresholds = seconds(pixel_threshold=2.5, froc_thresholds=[2.0, 3.0])
    return (
        f"One streamed map of 256 x 256: {1e3 * plain:.2f} ms for pixels and AUPRO, {1e3 * intervals:.2f} ms with "
        f"intervals, {1e3 * thresholds:.2f} ms with intervals and lesions at three thresholds."
    )


def benchmark(
    output_file: str = "",
    anomalib_python: str = "",
    anomalib_preload: str = "",
    repeats: int = 3,
    threads: int = 1,
    maps: tuple[int, ...] = (16, 100),
    aupro_maps: int = 50,
    streamed: tuple[int, ...] = (10, 100, 1000),
) -> None:
    """Measure, print and write.

    Args:
        output_file: Markdown file to write; none by default.
        anomalib_python: interpreter of an environment with anomalib; left out by default.
        anomalib_preload: modules that interpreter imports first, separated by commas.
        repeats: turns; the best counts.
        threads: of PyTorch, here and for anomalib; NumPy, SciPy and scikit-learn use one for these figures.
        maps: numbers of maps of 256 x 256 for the figures of pixels; 16 are 1 M pixels, 100 are 6.5 M.
        aupro_maps: number of maps for AUPRO.
        streamed: numbers of maps for the peak memory.
    """
    torch.set_num_threads(threads)
    packages = ("numpy", "scikit-learn", "scipy", "monai", "torch")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    lines = [f"Best of {repeats} in turns, {threads} thread{'s' if threads > 1 else ''}; {versions}.", "", _HEAD]
    print("\n".join(lines), flush=True)

    def add(*more: str) -> None:
        lines.extend(more)
        print("\n".join(more), flush=True)

    for kind in ("noisy", "smooth"):
        for count in maps:
            add(*pixel_rows(count, kind, repeats))
        add(*aupro_rows(aupro_maps, kind, repeats, threads, anomalib_python, anomalib_preload))
    add("", update_line(repeats), "", memory_table(streamed))
    if output_file:
        write_text(output_file, "\n".join(lines) + "\n")


if __name__ == "__main__":
    run_tool(benchmark)
