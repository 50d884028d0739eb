"""What it saves to compute a frozen backbone's features of training scans once, for SimpleNet and GLASS, in one run.

    python tools/benchmark_frozen_taps.py [--backbone resnet18] [--image_size 128] [--precision float32]

Prints a training step's seconds of the processor, with and without, measured in turns on one thread, and their ratio.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from medad_plugins.command_line import run_tool
from medad_plugins.inferers import PrecisionInferer
from medad_plugins.losses import TwoSidedMarginLoss
from medad_plugins.methods.glass import GLASS, GlassLoss
from medad_plugins.methods.simplenet import SimpleNet
from medad_plugins.networks import AnomalyNetwork, TapCache


def _method(name: str, backbone: str, points: int) -> tuple[AnomalyNetwork, nn.Module]:
    sizes = {"backbone": backbone, "weights": "none", "dimensions": 384, "hidden": 256}
    if name == "simplenet":
        return SimpleNet(**sizes), TwoSidedMarginLoss()  # type: ignore[arg-type]
    return GLASS(points=points, **sizes), GlassLoss()  # type: ignore[arg-type]


def _step(
    network: AnomalyNetwork, loss: nn.Module, optimizer: torch.optim.Optimizer, inferer: PrecisionInferer, image: Tensor
) -> None:
    optimizer.zero_grad()
    loss(inferer(image, network)).backward()
    optimizer.step()


def _seconds(step: Callable[[], None]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def benchmark(
    backbone: str = "resnet18",
    image_size: int = 128,
    batch_size: int = 16,
    precision: str = "float32",
    points: int = 1024,
    repeats: int = 7,
) -> None:
    """Measure and print.

    Args:
        backbone: of both methods.
        image_size: edge of the image in pixels.
        batch_size: images a step.
        precision: ``float32`` or ``bfloat16``.
        points: of GLASS.
        repeats: measurements of each kind; the median counts.
    """
    torch.set_num_threads(1)
    inferer = PrecisionInferer(precision)
    print(f"{backbone}, {image_size} pixels, batches of {batch_size}, {precision}, CPU seconds a training step")
    for name in ("simplenet", "glass"):
        torch.manual_seed(0)
        network, loss = _method(name, backbone, points)
        network.train()
        optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-4)
        image = torch.rand(batch_size, 1 if name == "simplenet" else 3, image_size, image_size)
        cache = TapCache(batch_size)
        cache.current = [str(case) for case in range(batch_size)]
        found: dict[str, list[float]] = {"computed": [], "kept": []}
        for turn in range(repeats + 1):
            for kind, seconds in found.items():
                network.features.cache = cache if kind == "kept" else None  # type: ignore[union-attr]
                taken = _seconds(lambda: _step(network, loss, optimizer, inferer, image))  # noqa: B023
                if turn:  # in the first one everything is computed
                    seconds.append(taken)
        computed, kept = (statistics.median(seconds) for seconds in found.values())
        print(f"{name}: computed {computed:.3f} s, kept {kept:.3f} s, {computed / kept:.2f} times as fast")


if __name__ == "__main__":
    run_tool(benchmark)
