"""How much faster bfloat16 with channels-last memory is than float32, for training and inference of EDC, in one run.

    python tools/benchmark_precision.py [--backbone resnet18] [--image_size 128] [--batch_size 16] [--threads 2]

Prints seconds a step of both, measured in turns, their ratio, and how far the anomaly maps are apart.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from medad_plugins.command_line import run_tool
from medad_plugins.inferers import PrecisionInferer
from medad_plugins.losses import GlobalCosineLoss
from medad_plugins.methods.edc import EDC


def _training_step(network: EDC, optimizer: torch.optim.Optimizer, inferer: PrecisionInferer, image: Tensor) -> None:
    network.train()
    optimizer.zero_grad()
    loss = GlobalCosineLoss()(inferer(image, network))
    loss.backward()
    optimizer.step()


def _seconds(step: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def benchmark(
    backbone: str = "resnet18",
    image_size: int = 128,
    batch_size: int = 16,
    spatial_dims: int = 2,
    repeats: int = 7,
    threads: int = 0,
    device: str = "cpu",
) -> None:
    """Measure and print.

    Args:
        backbone: EDC's backbone.
        image_size: edge of the image in pixels.
        batch_size: images a step.
        spatial_dims: 2 or 3.
        repeats: measurements of each kind; the median counts.
        threads: of the processor; 0 leaves torch's choice.
        device: ``cpu`` or ``cuda``.
    """
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    image = torch.rand(batch_size, 1, *[image_size] * spatial_dims, device=device)
    steps: dict[str, dict[str, Callable[[], object]]] = {"training": {}, "inference": {}}
    maps: dict[str, Tensor] = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        network = EDC(spatial_dims, backbone=backbone, weights="none").to(device)
        trained = EDC(spatial_dims, backbone=backbone, weights="none").to(device)
        optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-4)
        inferer = PrecisionInferer(precision)
        network.eval()

        @torch.no_grad()
        def infer(network: EDC = network, inferer: PrecisionInferer = inferer) -> Tensor:
            return torch.as_tensor(inferer(image, network))

        maps[precision] = infer()
        steps["inference"][precision] = infer
        steps["training"][precision] = partial(_training_step, trained, optimizer, inferer, image)
    where = f"{torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name()
    print(f"EDC {backbone}, {spatial_dims}D, {image_size} px, batch {batch_size}, {where}")
    for work, kinds in steps.items():
        seconds: dict[str, list[float]] = {precision: [] for precision in kinds}
        for turn in range(repeats + 1):
            for precision, step in kinds.items():
                elapsed = _seconds(step, device)
                if turn:  # the first turn warms up
                    seconds[precision].append(elapsed)
        float32, bfloat16 = (statistics.median(seconds[precision]) for precision in ("float32", "bfloat16"))
        print(f"{work}: float32 {float32:.3f} s, bfloat16 {bfloat16:.3f} s a step, ratio {float32 / bfloat16:.2f}")
    difference = (maps["float32"] - maps["bfloat16"]).abs().max()
    print(f"largest difference of the anomaly maps: {difference:.2g} of a range 0..{maps['float32'].max():.2g}")


if __name__ == "__main__":
    run_tool(benchmark)
