"""How fast methods on tokens of a transformer are beside anomalib's, on the same images and threads, in one run.

    PYTHON tools/benchmark_tokens.py [--image_dir FOLDER] [--fitted 100] [--threads 1]
    python tools/benchmark_tokens.py --beside passes [--image_dir FOLDER]

PYTHON is an interpreter that has both packages, so that both compute with one PyTorch; ``--beside passes`` needs no
other package: it sets fitting and scoring beside bare passes of the same transformer over the same images. Weights are
random: what is timed does not depend on them. Contenders are timed in turns, by the processor's time where it is one
thread, and the best of each counts; prints a Markdown table.
"""

from __future__ import annotations

import copy
import functools
import importlib
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from benchmark_features import read_images
from torch import Tensor, nn

from medad_plugins.command_line import run_tool
from medad_plugins.errors import InputError
from medad_plugins.inferers import PrecisionInferer
from medad_plugins.methods.anomaly_dino import AnomalyDINO
from medad_plugins.methods.dinomaly import Dinomaly
from medad_plugins.methods.patchcore import PatchCore

_SIZE, _BATCH = 224, 10
_LAST = 11  # of the small transformer's blocks
_MIDDLE = list(range(2, 10))
_TABLE = """| what | images at once | anomalib, images/s | MedAD, images/s | ratio |
|---|---|---|---|---|"""


def _peer(method: str, model: str, **arguments: Any) -> nn.Module:
    """One of anomalib's models with random weights, which it would otherwise download."""
    try:
        module: Any = importlib.import_module(f"anomalib.models.image.{method}.torch_model")
    except ImportError as error:
        todo = "run this with an interpreter that has anomalib and medad-plugins"
        raise InputError("anomalib cannot be imported", found=str(error), todo=todo) from error
    extractor = module.TimmFeatureExtractor

    def random_weights(**given: Any) -> Any:
        return extractor(**{**given, "pre_trained": False})

    module.TimmFeatureExtractor = random_weights
    try:
        network: nn.Module = getattr(module, model)(**arguments)
    finally:
        module.TimmFeatureExtractor = extractor
    return network


def _fit_peer(network: Any, images: Tensor) -> Any:
    network.train()
    for some in images.split(_BATCH):
        network(some)
    network.fit()
    return network.eval()


def _fit(network: Any, images: Tensor) -> Any:
    network.train()
    for some in images.split(_BATCH):
        network.collect(some)
    network.fit()
    return network.eval()


def _contenders(images: Tensor, coreset: float) -> dict[str, tuple[Any, dict[str, Any]]]:
    """For each of anomalib's models the name of the row and ours, of the same backbone or as our bundle has it."""
    small = "vit_small_patch14_dinov2"
    ours = functools.partial(AnomalyDINO, 2, 3, "dinov2_vits14", references=0)
    dino = _fit_peer(_peer("anomaly_dino", "AnomalyDINOModel", encoder_name=small), images)
    sampled = _peer(
        "anomaly_dino", "AnomalyDINOModel", encoder_name=small, coreset_subsampling=True, sampling_ratio=coreset
    )
    dinomaly = _peer("dinomaly", "DinomalyModel", encoder_name=small, target_layers=_MIDDLE).eval()
    rebuilt = functools.partial(Dinomaly, 2, 3, "dinov2_vits14", "none")
    patches = functools.partial(
        PatchCore, 2, 3, "dinov2_vits14", "none", layers=[_LAST], dimensions=384, coreset=coreset
    )
    return {
        "AnomalyDINO": (
            dino,
            {
                "last block, anywhere": _fit(ours(layers=[_LAST], window=0), images),
                "last block, 3 x 3 places": _fit(ours(layers=[_LAST], window=3), images),
                "blocks 7 and 8, 3 x 3 places (the bundle)": _fit(ours(window=3), images),
            },
        ),
        f"PatchCore on tokens, {coreset:.0%} kept": (
            _fit_peer(sampled, images),
            {
                "anywhere": _fit(patches(window=0), images),
                "3 x 3 places": _fit(patches(window=3), images),
            },
        ),
        "Dinomaly, 8 layers, 8 blocks": (
            dinomaly,
            {
                "two groups": rebuilt(layers=_MIDDLE, depth=8, groups=2).eval(),
                "as the bundle has it": rebuilt(layers=[7, 8], depth=2, groups=1).eval(),
            },
        ),
    }


def _rates(
    contenders: dict[str, Callable[[], Any]], images: int, repeats: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Images a second of each, the best of so many turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, call in contenders.items():
            start = clock()
            call()
            if turn:  # the first one warms up
                seconds[name].append(clock() - start)
    return {name: images / min(values) for name, values in seconds.items()}


def _bare_passes(network: Any, images: Tensor) -> None:
    """The transformer alone, as far as its last tap."""
    for some in images.split(_BATCH):
        for part in network.parts:
            part.taps(some)


def _fit_and_score(network: Any, normal: Tensor, tested: Tensor) -> None:
    network = _fit(copy.deepcopy(network), normal)
    for some in tested.split(_BATCH):
        network(some)


def _beside_passes(images: Tensor, fitted: int, precision: str, repeats: int, clock: Callable[[], float]) -> None:
    """Print what fitting on some images and scoring the others takes, as a multiple of bare passes over all of them."""
    inferer = PrecisionInferer(precision)
    network = AnomalyDINO(2, 3, "dinov2_vits14", references=0)
    all_of_it = {
        "bare passes": lambda: inferer(images, functools.partial(_bare_passes, network)),
        "fitting and scoring": lambda: inferer(
            images[:fitted], lambda normal: _fit_and_score(network, normal, images[fitted:])
        ),
    }
    rates = _rates(all_of_it, len(images), repeats, clock)
    print("| images, fitted and scored | bare passes, images/s | fitting and scoring, images/s | time, ratio |")
    print("|---|---|---|---|")
    bare, whole = rates.values()
    print(f"| {fitted} and {len(images) - fitted} | {bare:.1f} | {whole:.1f} | {bare / whole:.2f}x |", flush=True)


def benchmark(
    image_dir: str = "",
    fitted: int = 100,
    batches: tuple[int, ...] = (1, 8),
    coreset: float = 0.1,
    precision: str = "float32",
    repeats: int = 3,
    threads: int = 1,
    beside: str = "anomalib",
    scored: int = 100,
) -> None:
    """Measure and print.

    Args:
        image_dir: folder of PNG or JPEG images; generated heads by default.
        fitted: images in the memories.
        batches: images at once.
        coreset: share of the tokens that PatchCore keeps.
        precision: of our side, ``float32`` as anomalib's, or ``bfloat16``.
        repeats: turns.
        threads: of PyTorch.
        beside: ``"anomalib"``, or ``"passes"`` of the bare transformer.
        scored: images that are scored beside bare passes.
    """
    if beside not in ("anomalib", "passes"):
        raise InputError("unknown contender", where="beside", expected="anomalib or passes", found=beside)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    clock = time.process_time if threads == 1 else time.perf_counter
    images = read_images(image_dir, fitted + (scored if beside == "passes" else 0), _SIZE)
    inferer = PrecisionInferer(precision)
    said = "processor time" if threads == 1 else "elapsed time"
    print(f"In turns on {threads} threads, {said}, PyTorch {version('torch')}, ours in {precision}.\n")
    if beside == "passes":
        with torch.inference_mode():
            _beside_passes(images, fitted, precision, repeats, clock)
        return
    print(_TABLE)
    with torch.inference_mode():
        for title, (peer, networks) in _contenders(images, coreset).items():
            for batch in batches:
                some = images[:batch]
                calls: dict[str, Callable[[], Any]] = {"": functools.partial(peer, some)}
                calls |= {name: functools.partial(inferer, some, network) for name, network in networks.items()}
                rates = _rates(calls, batch, repeats, clock)
                for name in networks:
                    row = f"{rates['']:.1f} | {rates[name]:.1f} | {rates[name] / rates['']:.1f}x |"
                    print(f"| {title}: {name} | {batch} | {row}", flush=True)


if __name__ == "__main__":
    run_tool(benchmark)
