"""A training that computes the frozen backbone's features once learns what it learns otherwise."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.data import Dataset
from torch import Tensor

from medad_plugins.data import IterationLoader, ScanFormat
from medad_plugins.engines import GradientTrainer, ScanBatch
from medad_plugins.handlers import KeepFrozenTaps
from medad_plugins.losses import TwoSidedMarginLoss
from medad_plugins.methods.ae import ConvAE
from medad_plugins.methods.simplenet import SimpleNet


def _setup(network: Any, folder: Path, cases: int = 5, **scan: Any) -> Any:
    cohort = SimpleNamespace(train=[{"case_id": f"case {k}"} for k in range(cases)], anomalies=[])
    return SimpleNamespace(network=network, cohort=cohort, output_dir=folder, scan=ScanFormat(**scan))


def _trained(kept: bool, folder: Path, memory_budget: float) -> tuple[dict[str, Tensor], int]:
    """The state after nine iterations of two of five scans, and how many scans the backbone saw."""
    torch.manual_seed(0)
    network, seen = SimpleNet(2, 1, "resnet10", "none", 12, 8, noise_unit="deviations", noise=0.3), [0]
    network.features.register_forward_hook(lambda module, args, output: seen.__setitem__(0, seen[0] + len(args[0])))
    scans = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    data = Dataset([{"image": scan, "case_id": f"case {number}"} for number, scan in enumerate(scans)])
    loader = IterationLoader(data, batch_size=2, max_iterations=9, epoch_length=3)
    handlers = [KeepFrozenTaps(_setup(network, folder), memory_budget)] if kept else []
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.01)
    trainer = GradientTrainer(
        "cpu", 3, loader, network, optimizer, TwoSidedMarginLoss(), prepare_batch=ScanBatch(), train_handlers=handlers
    )
    trainer.run()
    assert network.features.cache is None
    return network.state_dict(), seen[0]


@pytest.mark.parametrize("memory_budget", [100.0, 0.01])
def test_the_same_is_learnt_and_each_scan_computed_once(memory_budget: float, tmp_path: Path) -> None:
    plain, all_seen = _trained(False, tmp_path, memory_budget)
    kept, once = _trained(True, tmp_path, memory_budget)
    assert (all_seen, once) == (18, 5)
    torch.testing.assert_close(kept, plain, rtol=1e-3, atol=1e-4)
    assert not list(tmp_path.iterdir())


def test_slices_that_are_drawn_are_not_kept(tmp_path: Path) -> None:
    network = SimpleNet(2, 1, "resnet10", "none", 12, 8)
    loader = [{"image": torch.rand(2, 1, 32, 32), "case_id": ["a", "b"]}]
    optimizer = torch.optim.SGD(network.discriminator.parameters(), lr=0.01)
    handler = KeepFrozenTaps(_setup(network, tmp_path, spatial_dims=3, image_size=32, slice_axis=2))
    seen: list[Any] = []
    network.features.register_forward_hook(lambda module, args, output: seen.append(module.cache))
    parts = network, optimizer, TwoSidedMarginLoss()
    GradientTrainer("cpu", 1, loader, *parts, prepare_batch=ScanBatch(), train_handlers=[handler]).run()
    assert seen == [None]


def test_a_network_without_a_frozen_backbone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ConvAE has no frozen backbone"):
        KeepFrozenTaps(_setup(ConvAE(), tmp_path))
