"""How fast and large PaDiM and PatchCore are beside anomalib's, on the same images and weights, in one run.

    python tools/benchmark_features.py --anomalib_python PYTHON [--image_dir FOLDER] [--weights FILE]

anomalib answers from a process of its own interpreter (`tools/anomalib_worker.py`). Contenders are timed in turns on as
many threads, by the processor's time where it is one, and the best of each counts; prints and writes Markdown tables.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medad_plugins.command_line import run_tool
from medad_plugins.data.sample_cohort import generate_case
from medad_plugins.errors import InputError
from medad_plugins.files import write_text
from medad_plugins.methods.padim import PaDiM
from medad_plugins.methods.patchcore import PatchCore
from medad_plugins.networks import MemoryBank, PatchGaussians, ResNetTaps
from medad_plugins.networks.fitted.coreset import k_centre_greedy, random_projection

_WORKER = Path(__file__).with_name("anomalib_worker.py")
_BATCH = 16
_SPEED = """| what | images at once | anomalib, images/s | MedAD, images/s | ratio |
|---|---|---|---|---|"""
_AGREEMENT = """| on the same embeddings | largest difference / largest value | median difference |
|---|---|---|"""
_CORESET = """| vectors | kept | anomalib | MedAD, its projection | ratio | same picks | MedAD, own | ratio | radius |
|---|---|---|---|---|---|---|---|---|"""
_MEMORY = """| images | PaDiM, MedAD | PaDiM, anomalib | PatchCore, MedAD | PatchCore, anomalib, before selection |
|---|---|---|---|---|"""
_MEAN, _STD = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


class Anomalib:
    """anomalib in a process of its own, which waits for requests."""

    def __init__(self, python: str, threads: int, preload: str, images: Path, weights: Path) -> None:
        command = [python, str(_WORKER), str(threads), *filter(None, preload.split(","))]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - progress bars and errors, as long as it lives
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
            )
        except OSError as error:
            raise self._refusal(python, str(error)) from error
        self.call("load", images=str(images), weights=str(weights))

    def call(self, name: str, **arguments: Any) -> float:
        """What the worker's method of this name answers."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps([name, arguments]) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            self.errors.seek(0)
            lines = self.errors.read().strip().splitlines()
            raise self._refusal(str(self.process.args), lines[-1] if lines else "no answer")
        return float(json.loads(answer))

    @staticmethod
    def _refusal(where: str, reason: str) -> InputError:
        todo = "give the interpreter of an environment with anomalib as --anomalib_python"
        return InputError("anomalib cannot be measured", where=where, found=reason, todo=todo)

    def __enter__(self) -> Anomalib:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def read_images(folder: str, count: int, size: int) -> Tensor:
    """RGB images ``(count, 3, size, size)`` in 0..1, from a folder or generated heads, again from the first if few."""
    if not folder:
        heads = [generate_case(2, size, (3, index))[0] for index in range(min(count, 20))]
        grey = torch.from_numpy(np.stack(heads)).float()
    else:
        files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg"))[:count]
        if not files:
            raise InputError("there are no images", where=folder, expected="PNG or JPEG", todo="give --image_dir")
        pictures = [np.asarray(Image.open(file).convert("L").resize((size, size)), np.float32) for file in files]
        grey = torch.from_numpy(np.stack(pictures)) / 255
    return grey[torch.arange(count) % len(grey)].unsqueeze(1).expand(-1, 3, -1, -1).contiguous()


class Comparison:
    """The tables of one run.

    Args:
        peer: anomalib, with the same images, and the backbone's weights in ``folder / "weights.pth"``.
        folder: for files that the two exchange.
        images: ``(N, 3, H, W)`` in 0..1.
        repeats: turns of what takes seconds.
    """

    def __init__(self, peer: Anomalib, folder: Path, images: Tensor, repeats: int) -> None:
        self.peer, self.folder, self.images, self.repeats = peer, folder, images, repeats
        self.weights = str(folder / "weights.pth")
        embedded = self._embeddings("patchcore", 0, len(images))
        self.vectors = embedded.movedim(1, -1).flatten(0, 2).contiguous()

    def _embeddings(self, model: str, first: int, last: int) -> Tensor:
        self.peer.call("embeddings", model=model, first=first, last=last, file=str(self.folder / "e.npy"))
        return torch.from_numpy(np.load(self.folder / "e.npy"))

    def _written(self, name: str, values: Tensor) -> str:
        np.save(self.folder / name, values.numpy())
        return str(self.folder / name)

    def coreset(self, count: int, share: float, repeats: int, timed: int) -> str:
        """A row: selection of a share of the first vectors, from anomalib's start and as the bundle does it.

        anomalib is timed for its first so many picks, if not all: each costs it the same.
        """
        vectors = self.vectors[:count]
        kept = int(share * count)
        limit = min(timed or kept, kept)
        file, features, picks = self._written("v.npy", vectors), self.folder / "f.npy", self.folder / "p.npy"
        seconds: dict[str, list[float]] = {"theirs": [], "same": [], "own": []}
        memory, points, chosen, found = MemoryBank(), vectors, torch.empty(0), torch.empty(0)

        def from_their_start() -> Tensor:
            random_projection(vectors, points.shape[1])  # as long as theirs
            start = torch.linalg.norm(points - points[chosen[0]], dim=1)
            return torch.cat([chosen[:1], k_centre_greedy(points, kept - 1, start)[0]])

        for _ in range(repeats):
            paths = {"vectors": file, "features": str(features), "picks": str(picks)}
            # half a pick more, for it rounds down
            seconds["theirs"].append(self.peer.call("coreset", share=(limit + 0.5) / count, **paths) * kept / limit)
            points, chosen = torch.from_numpy(np.load(features)), torch.from_numpy(np.load(picks))
            time_same, found = _timed(from_their_start)
            memory = MemoryBank(kept, memory_budget=1e6)
            memory.collect(vectors)
            seconds["same"].append(time_same)
            seconds["own"].append(_timed(memory.fit)[0])
        theirs, same, own = (min(values) for values in seconds.values())
        equal = int((found[:limit] == chosen).sum())
        radii = _radius(memory.bank, vectors) / _radius(vectors[found], vectors)
        note = "" if limit == kept else f", by its first {limit}"
        return (
            f"| {count:,} x {vectors.shape[1]} | {kept:,} | {theirs:.1f} s{note} | {same:.2f} s | "
            f"{theirs / same:.0f}x | {equal:,} of {limit:,} | {own:.2f} s | {theirs / own:.0f}x | {radii:.3f} |"
        )

    def padim(self, fitted: int, batches: Sequence[int]) -> list[str]:
        """Rows: fit and maps of PaDiM."""
        network = PaDiM(2, 3, "resnet18", self.weights)
        theirs = self.peer.call("fit_padim", selection=network.selection.tolist(), count=fitted)
        ours = _timed(lambda: _fit(network, self.images, fitted))[0]
        rows = [_row("PaDiM, fit", fitted, theirs, ours)]
        return rows + self._maps("padim", {"PaDiM, maps": network.eval()}, batches)

    def patchcore(self, fitted: int, kept: int, batches: Sequence[int]) -> list[str]:
        """Rows: maps of PatchCore with a memory of so many vectors."""
        self.peer.call("fit_patchcore", count=1, bank=self._written("b.npy", self.vectors[:kept]))
        networks = {}
        for dimensions, neighbours in ((384, 9), (1024, 0)):
            network = PatchCore(
                2, 3, "resnet18", self.weights, dimensions=dimensions, neighbours=neighbours, coreset=kept
            )
            _fit(network, self.images, fitted)
            name = f"PatchCore, maps, {dimensions} dimensions, {len(network.memory.bank):,} vectors"
            networks[name + (", re-weighted" if neighbours else "")] = network.eval()
        return self._maps("patchcore", networks, batches)

    def _maps(self, model: str, networks: dict[str, Any], batches: Sequence[int]) -> list[str]:
        rows = []
        for batch in batches:
            image = self.images[:batch]
            contenders: dict[str, Callable[[], float]] = {
                "anomalib": partial(self.peer.call, "infer", model=model, batch=batch),
                **{name: partial(_seconds_of_map, network, image) for name, network in networks.items()},
            }
            seconds = {name: [] for name in contenders}  # type: dict[str, list[float]]
            for turn in range(self.repeats + 1):
                for name, contender in contenders.items():
                    value = contender()
                    if turn:  # the first one warms up
                        seconds[name].append(value)
            best = {name: min(values) for name, values in seconds.items()}
            rows += [_row(name, batch, best["anomalib"], best[name]) for name in networks]
        return rows

    def agreement(self, fitted: int, kept: int, cases: int) -> list[str]:
        """Rows: how far answers are apart, where both are given anomalib's embeddings of images not fitted to."""
        first, last, file = fitted, fitted + cases, self.folder / "d.npz"
        request = {"first": first, "last": last, "file": str(file)}
        network = PaDiM(2, 3, "resnet18", self.weights)
        self.peer.call("fit_padim", selection=network.selection.tolist(), count=fitted)
        gaussians = PatchGaussians()
        gaussians.collect(self._embeddings("padim", 0, fitted).flatten(2).transpose(1, 2))
        gaussians.fit()
        embedded = self._embeddings("padim", first, last).flatten(2).transpose(1, 2)
        self.peer.call("distances", model="padim", **request)
        rows = [
            _apart("PaDiM: embeddings", network.embed(self.images[first:last])[0], embedded),
            _apart("PaDiM: Mahalanobis distances", gaussians(embedded), _read(file, "distances")),
        ]
        memory = MemoryBank()
        memory.bank = self.vectors[:kept]
        self.peer.call("fit_patchcore", count=1, bank=self._written("b.npy", memory.bank))
        self.peer.call("distances", model="patchcore", **request)
        queries = self._embeddings("patchcore", first, last).movedim(1, -1).flatten(0, 2)
        distances, places = memory.nearest(queries)
        by_case = distances.reshape(cases, -1)
        worst = by_case.argmax(1) + torch.arange(cases) * by_case.shape[1]
        scores = distances[worst] * memory.novelty(queries[worst], places[worst], 9)
        rows.append(_apart("PatchCore: distances to the nearest", by_case, _read(file, "distances")))
        rows.append(_apart("PatchCore: re-weighted scores", scores, _read(file, "scores")))
        return rows


def _row(name: str, images: int, theirs: float, ours: float) -> str:
    return f"| {name} | {images} | {images / theirs:.1f} | {images / ours:.1f} | {theirs / ours:.1f}x |"


def _apart(name: str, ours: Tensor, theirs: Tensor) -> str:
    difference = (ours.detach() - theirs).abs()
    return f"| {name} | {float(difference.max() / theirs.abs().max()):.1e} | {float(difference.median()):.1e} |"


def _read(file: Path, name: str) -> Tensor:
    with np.load(file) as found:
        return torch.from_numpy(found[name])


def _radius(bank: Tensor, vectors: Tensor) -> float:
    memory = MemoryBank()
    memory.bank = bank
    return max(float(memory(some).max()) for some in vectors.split(4096))


def _fit(network: PaDiM | PatchCore, images: Tensor, count: int) -> None:
    network.train()
    for first in range(0, count, _BATCH):
        network.collect(images[torch.arange(first, min(first + _BATCH, count)) % len(images)])
    network.fit()


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    # of one thread the processor's time, which other work on the machine hardly changes
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    result = call()
    return clock() - start, result


def _seconds_of_map(network: Any, image: Tensor) -> float:
    with torch.inference_mode():
        return _timed(lambda: network(image))[0]


def _own_peak(method: str, weights: str, image_file: str, count: int, budget: float, threads: int) -> float:
    """Peak MiB of a process that fits one of our networks."""
    torch.set_num_threads(threads)
    networks: dict[str, Callable[[], PaDiM | PatchCore]] = {
        "PaDiM": lambda: PaDiM(2, 3, "resnet18", weights),
        "PatchCore": lambda: PatchCore(2, 3, "resnet18", weights, dimensions=384, memory_budget=budget),
    }
    _fit(networks[method](), torch.from_numpy(np.load(image_file)), count)
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))


def memory_rows(
    start: Callable[[Path], Anomalib], folder: Path, images: Tensor, counts: Sequence[int], budget: float, threads: int
) -> list[str]:
    """Rows: peak memory of fits to more and more images, each in a process of its own."""
    own, theirs = folder / "own.npy", folder / "theirs.npy"
    np.save(own, images.numpy())
    np.save(theirs, ((images - _MEAN) / _STD).numpy())
    rows = []
    for count in counts:
        peaks = []
        for method, request in (("PaDiM", "fit_padim"), ("PatchCore", "stack_patchcore")):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                arguments = (method, str(folder / "weights.pth"), str(own), count, budget, threads)
                peaks.append(process.submit(_own_peak, *arguments).result())
            with start(theirs) as peer:
                selection = {"selection": list(range(100))} if method == "PaDiM" else {}
                peer.call(request, count=count, **selection)
                peaks.append(peer.call("memory"))
        rows.append(f"| {count:,} | " + " | ".join(f"{peak:,.0f} MiB" for peak in peaks) + " |")
    return rows


def benchmark(
    anomalib_python: str,
    anomalib_preload: str = "",
    image_dir: str = "",
    weights: str = "none",
    output_file: str = "",
    vectors: tuple[int, ...] = (20_000, 307_200),
    shares: tuple[float, ...] = (0.05, 0.01),
    coreset_repeats: tuple[int, ...] = (3, 1),
    timed_picks: tuple[int, ...] = (0, 300),
    image_size: int = 256,
    fitted: int = 64,
    batches: tuple[int, ...] = (1, 8),
    kept: int = 3071,
    streamed: tuple[int, ...] = (64, 256, 1024),
    memory_budget: float = 64,
    repeats: int = 5,
    threads: int = 1,
) -> None:
    """Measure, print and write.

    Args:
        anomalib_python: interpreter of an environment with anomalib.
        anomalib_preload: modules that interpreter imports first, separated by commas.
        image_dir: folder of PNG or JPEG images; generated heads by default.
        weights: of a ResNet-18, see the bundles; random by default.
        output_file: Markdown file to write; none by default.
        vectors: how many vectors coresets are selected from.
        shares: of them that are kept, one for each.
        coreset_repeats: turns of them, one for each.
        timed_picks: picks that anomalib is timed for, one for each; 0 times all.
        image_size: edge of the images in pixels.
        fitted: images that PaDiM and PatchCore are fitted to for the speed of their maps.
        batches: images a batch.
        kept: vectors in PatchCore's memory.
        streamed: numbers of images of 128 x 128 for the peak memory of fits.
        memory_budget: MiB of PatchCore's fit there.
        repeats: turns of all else; the best counts.
        threads: of PyTorch, here and for anomalib.
    """
    torch.set_num_threads(threads)
    lines: list[str] = []

    def add(*more: str) -> None:
        lines.extend(more)
        print("\n".join(more), flush=True)

    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        folder = Path(name)
        torch.manual_seed(0)
        torch.save(ResNetTaps("resnet18", 2, 3, 3, weights).state_dict(), folder / "weights.pth")

        def start(images: Path) -> Anomalib:
            return Anomalib(anomalib_python, threads, anomalib_preload, images, folder / "weights.pth")

        per_image = (image_size // 8) ** 2
        images = read_images(image_dir, max(fitted + 8, -(-max(vectors, default=0) // per_image)), image_size)
        np.save(folder / "images.npy", ((images - _MEAN) / _STD).numpy())
        clock = "1 thread, processor time" if threads == 1 else f"{threads} threads"
        add(f"In turns; {clock}; PyTorch {version('torch')}.", "")
        with start(folder / "images.npy") as peer:
            comparison = Comparison(peer, folder, images, repeats)
            add(_SPEED, *comparison.padim(fitted, batches), *comparison.patchcore(fitted, kept, batches), "")
            add(_AGREEMENT, *comparison.agreement(fitted, kept, 8), "")
            add(_CORESET)
            for count, share, turns, timed in zip(vectors, shares, coreset_repeats, timed_picks, strict=True):
                add(comparison.coreset(count, share, turns, timed))
        add("", _MEMORY)
        small = read_images(image_dir, 64, 128)
        for count in streamed:
            add(*memory_rows(start, folder, small, [count], memory_budget, threads))
    if output_file:
        write_text(output_file, "\n".join(lines) + "\n")


if __name__ == "__main__":
    run_tool(benchmark)
