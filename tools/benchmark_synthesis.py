"""How fast anomalies are made, beside OpenCV's seamless cloning and beside the training that waits for them.

    python tools/benchmark_synthesis.py [--output_file synthesis.md] [--opencv_python PYTHON]

All on one thread, in turns in one run; of several repetitions the best time counts. Prints and writes a Markdown table.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medad_plugins.command_line import run_tool
from medad_plugins.files import write_text
from medad_plugins.methods.ae import ConvAE
from medad_plugins.synthesis import Recipe, SourcePool, SynthesizeAnomalyd, published
from medad_plugins.synthesis.poisson import blend_gradients

__all__ = ["benchmark"]

_OPENCV = """
import json, sys, time
import cv2, numpy as np
cv2.setNumThreads(1)
repeats = int(sys.argv[1])
rng = np.random.RandomState(0)
target = cv2.GaussianBlur(rng.randint(0, 256, (256, 256, 3), dtype=np.uint8), (0, 0), 2)
patch = cv2.GaussianBlur(rng.randint(0, 256, (96, 96, 3), dtype=np.uint8), (0, 0), 2)
mask = np.full((96, 96), 255, np.uint8)
seconds = []
for _ in range(repeats):
    start = time.perf_counter()
    cv2.seamlessClone(patch, target, mask, (128, 128), cv2.MIXED_CLONE)
    seconds.append(time.perf_counter() - start)
print(json.dumps([min(seconds), cv2.__version__]))
"""


def _best(task: Callable[[], object], repeats: int) -> float:
    """Milliseconds of the fastest of several runs."""
    task()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - start)
    return 1000 * min(seconds)


def _smooth(rng: np.random.RandomState, *shape: int) -> NDArray[np.float32]:
    return np.stack([ndimage.gaussian_filter(c, 2) for c in rng.rand(*shape)]).astype(np.float32)


def _blend(shape: tuple[int, ...], channels: int, repeats: int) -> float:
    rng = np.random.RandomState(0)
    target, content = _smooth(rng, channels, *shape), _smooth(rng, channels, *shape)
    inside = np.ones(shape, dtype=bool)
    return _best(lambda: [blend_gradients(t, c, inside) for t, c in zip(target, content)], repeats)


def _sample(recipe: Recipe, shape: tuple[int, ...], cases: int) -> float:
    """Milliseconds a made case, the mean over different ones."""
    rng = np.random.RandomState(0)
    scans = [{"image": _smooth(rng, 1, *shape), "case_id": str(i)} for i in range(3)]
    pool = SourcePool(scans)
    synthesizer = SynthesizeAnomalyd([recipe], prob=1.0, source_pool=pool, spatial_dims=len(shape))

    def some() -> None:
        synthesizer.set_random_state(0)
        for index in range(cases):
            synthesizer(scans[index % 3])

    return _best(some, 3) / cases


def _training_step(image_size: int, batch_size: int) -> float:
    """Milliseconds a case of a training step of the smallest network, the autoencoder."""
    network = ConvAE(image_size=image_size)
    optimizer = torch.optim.Adam(network.parameters())
    image = torch.rand(batch_size, 1, image_size, image_size)

    def step() -> None:
        optimizer.zero_grad()
        (network(image) - image).square().mean().backward()
        optimizer.step()

    return _best(step, 5) / batch_size


def benchmark(output_file: str = "", opencv_python: str = "", repeats: int = 20) -> None:
    """Time everything and print the table.

    Args:
        output_file: where to write it too.
        opencv_python: interpreter of an environment with OpenCV; by default this one, if it has it.
        repeats: of each measurement.
    """
    torch.set_num_threads(1)
    rows = ["| what | ms |", "|---|---|"]
    blends = [
        ("Poisson blend, 64 x 64", (64, 64), 1),
        ("Poisson blend, 96 x 96", (96, 96), 1),
        ("Poisson blend, 96 x 96, three channels", (96, 96), 3),
        ("Poisson blend, 48 x 48 x 48", (48, 48, 48), 1),
        ("Poisson blend, 96 x 96 x 96", (96, 96, 96), 1),
    ]
    rows += [f"| {name} | {_blend(shape, channels, repeats):.2f} |" for name, shape, channels in blends]
    command = [opencv_python or sys.executable, "-c", _OPENCV, str(repeats)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode == 0:
        seconds, opencv = json.loads(run.stdout)
        rows.append(f"| OpenCV {opencv} seamlessClone, 96 x 96, three channels of 8 bit | {1000 * seconds:.2f} |")
    else:
        rows.append("| OpenCV | not in this environment, give --opencv_python |")
    for name, recipe in (("pii", published.pii()), ("nsa", published.nsa(0)), ("circle", published.circle())):
        rows.append(f"| a scan of 256 x 256 by {name} | {_sample(recipe, (256, 256), 30):.2f} |")
    rows.append(f"| a scan of 64 x 64 by pii | {_sample(published.pii(), (64, 64), 60):.2f} |")
    rows.append(f"| training step a scan of 64 x 64, autoencoder, batch 32 | {_training_step(64, 32):.2f} |")
    rows.append(f"| a volume of 96 x 96 x 96 by pii | {_sample(published.pii(), (96, 96, 96), 6):.2f} |")
    table = "\n".join(rows) + "\n"
    print(table)
    if output_file:
        write_text(output_file, table)


if __name__ == "__main__":
    run_tool(benchmark)
