"""anomalib's part in tools/benchmark_features.py: answers requests, run by an interpreter that has anomalib.

    PYTHON tools/anomalib_worker.py THREADS [MODULE_TO_IMPORT_FIRST ...]

A request is one line of JSON on standard input, ``[name, arguments]``; the answer is one line on standard output.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

BATCH = 16


def clock() -> float:
    """Seconds: of one thread the processor's time, which other work on the machine hardly changes."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


class Worker:
    """anomalib's PaDiM and PatchCore on a ResNet-18 with given weights."""

    def __init__(self) -> None:
        self.padim: Any = None
        self.patchcore: Any = None
        self.images = torch.empty(0)

    def load(self, images: str, weights: str) -> float:
        """Take images ``(N, 3, H, W)`` from a file, already normalised, and the backbone's state from another."""
        self.images = torch.from_numpy(np.load(images))
        models = "anomalib.models.image"
        padim = importlib.import_module(f"{models}.padim.torch_model").PadimModel
        patchcore = importlib.import_module(f"{models}.patchcore.torch_model").PatchcoreModel
        self.padim = padim(backbone="resnet18", pre_trained=False)
        self.patchcore = patchcore(layers=["layer2", "layer3"], backbone="resnet18", pre_trained=False, num_neighbors=9)
        state = torch.load(weights, weights_only=True)
        for model in (self.padim, self.patchcore):
            network = model.feature_extractor.feature_extractor
            network.load_state_dict({name: state[name] for name in network.state_dict()}, strict=True)
        return 0.0

    def coreset(self, vectors: str, share: float, features: str, picks: str) -> float:
        """Seconds of a selection with its projection; the projected vectors and the picks go into files."""
        sampling = importlib.import_module("anomalib.models.components.sampling.k_center_greedy")
        embedding = torch.from_numpy(np.load(vectors))
        torch.manual_seed(0)
        np.random.seed(0)  # what its projection draws from
        start = clock()
        sampler = sampling.KCenterGreedy(embedding=embedding, sampling_ratio=share)
        chosen = sampler.select_coreset_idxs()
        seconds = clock() - start
        np.save(features, sampler.features.numpy())
        np.save(picks, np.array(chosen))
        return seconds

    def fit_padim(self, selection: list[int], count: int) -> float:
        """Seconds of a fit of PaDiM to the first images, with these channels."""
        self.padim.idx = torch.tensor(selection)
        return self._collect(self.padim, count, self.padim.fit)

    def fit_patchcore(self, count: int, bank: str) -> float:
        """Seconds of collecting for PatchCore, which then takes the memory in a file."""
        seconds = self._collect(self.patchcore, count, lambda: None)
        self.patchcore.embedding_store.clear()
        self.patchcore.memory_bank = torch.from_numpy(np.load(bank))
        return seconds

    def stack_patchcore(self, count: int) -> float:
        """Seconds of collecting and joining what PatchCore selects from."""
        store = self.patchcore.embedding_store
        return self._collect(self.patchcore, count, lambda: torch.vstack(store))

    def _collect(self, model: Any, count: int, end: Any) -> float:
        start = clock()
        model.train()
        with torch.no_grad():
            for first in range(0, count, BATCH):
                some = torch.arange(first, min(first + BATCH, count)) % len(self.images)
                model(self.images[some])
            end()
        model.eval()
        return clock() - start

    def infer(self, model: str, batch: int) -> float:
        """Seconds of the maps of as many images."""
        network = getattr(self, model)
        with torch.inference_mode():
            start = clock()
            network(self.images[:batch])
            return clock() - start

    def embeddings(self, model: str, first: int, last: int, file: str) -> float:
        """Write the embeddings that it compares, ``(last - first, D, H, W)``."""
        some = self.images[first:last].split(BATCH)
        with torch.inference_mode():
            np.save(file, torch.cat([self._embedded(model, images) for images in some]).numpy())
        return 0.0

    def _embedded(self, model: str, images: Tensor) -> Tensor:
        network = getattr(self, model)
        features = network.feature_extractor(images)
        if model == "patchcore":
            features = {name: network.feature_pooler(feature) for name, feature in features.items()}
        embedded: Tensor = network.generate_embedding(features)
        return embedded

    def distances(self, model: str, first: int, last: int, file: str) -> float:
        """Write distances on the feature grid ``(last - first, P)`` and scores ``(last - first,)``."""
        network, images = getattr(self, model), self.images[first:last]
        with torch.inference_mode():
            scores, embedded = network(images).pred_score.flatten(), self._embedded(model, images)
            if model == "padim":
                stats = [network.gaussian.mean, network.gaussian.inv_covariance]
                found: Tensor = network.anomaly_map_generator.compute_distance(embedded, stats)
            else:
                found = network.nearest_neighbors(network.reshape_embedding(embedded), 1)[0]
        np.savez(file, scores=scores.numpy(), distances=found.reshape(len(images), -1).numpy())
        return 0.0

    def memory(self) -> float:
        """Peak MiB of this process; NaN where the system does not report it."""
        try:
            with open("/proc/self/status", encoding="ascii") as file:
                return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
        except OSError:
            return float("nan")


def main() -> None:
    """Answer until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what packages print is no answer
    torch.set_num_threads(int(sys.argv[1]))
    for name in sys.argv[2:]:
        importlib.import_module(name)
    worker = Worker()
    for line in sys.stdin:
        name, arguments = json.loads(line)
        answers.write(json.dumps(getattr(worker, name)(**arguments)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
