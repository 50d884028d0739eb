"""The centre that a network is trained towards, taken from itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.data import Dataset
from torch import Tensor, nn

from medad_plugins.data import PassLoader
from medad_plugins.errors import InputError
from medad_plugins.handlers import InitialCentre


class Embedder(nn.Module):
    """Batch norm and mean, so that its mode shows."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.centre: Tensor | None = None

    def embed(self, image: Tensor) -> Tensor:
        features: Tensor = self.norm(image)
        return features.flatten(2).mean(1)

    def set_centre(self, mean: Tensor) -> None:
        self.centre = mean


def _loader(scans: Tensor) -> PassLoader:
    return PassLoader(Dataset([{"image": scan} for scan in scans]), batch_size=4)


def _run(network: Embedder, scans: Tensor, iteration: int, **others: Any) -> list[Tensor | None]:
    """The centre after each of six iterations."""
    seen: list[Tensor | None] = []
    engine = Engine(lambda engine, batch: seen.append(network.centre))
    InitialCentre(network, _loader(scans), iteration=iteration, **others).attach(engine)
    network.train()
    engine.run([0] * 3, max_epochs=2)
    return seen


def test_centre_is_the_mean_over_all_scans_in_eval_mode() -> None:
    scans, network = torch.rand(10, 1, 4, 4), Embedder()
    seen = _run(network, scans, iteration=5)
    assert [centre is None for centre in seen] == [True] * 4 + [False] * 2
    assert seen[4] is seen[5] and seen[4] is not None
    assert network.training, "as it was"
    expected = (scans / (1 + 1e-5) ** 0.5).flatten(2).mean((0, 1)).double()
    torch.testing.assert_close(seen[4], expected, rtol=1e-6, atol=1e-6)


def test_what_cannot_be_a_centre() -> None:
    scans = torch.rand(5, 1, 4, 4)
    with pytest.raises(
        InputError, match=r"ends before there is a centre.*pretrain_iterations .expected fewer than the 6"
    ):
        _run(Embedder(), scans, iteration=7)
    with pytest.raises(InputError, match="the embeddings of the normal scans are not finite"):
        _run(Embedder(), scans * torch.inf, iteration=1)
    with pytest.raises(ValueError, match="iteration must be"):
        InitialCentre(Embedder(), [], iteration=0)
