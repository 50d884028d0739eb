"""Two real processes train, fit and gather as one process does."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from torch import Tensor, nn

from medad_plugins.data import IterationLoader, PassLoader
from medad_plugins.engines import FittingTrainer, gather_list, join_ranks, shared_network
from medad_plugins.engines.distributed import gather_images
from medad_plugins.engines.rank_batch_norm import RankBatchNorm
from medad_plugins.errors import InputError
from medad_plugins.handlers import ResumableCheckpoint
from medad_plugins.methods.edc import EDC
from medad_plugins.methods.padim import PatchGaussians

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="no torch.distributed in this PyTorch")

_CASES = 7


class _Scans(torch.utils.data.Dataset):
    """Scans of fixed noise."""

    def __len__(self) -> int:
        return _CASES

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        return {"image": torch.rand(1, 32, 32, generator=generator, dtype=torch.float64), "case_id": str(index)}


class _Bank(nn.Module):
    """Keeps every scan it is shown: what it learns does not add up."""

    def __init__(self) -> None:
        super().__init__()
        self.bank: Tensor = nn.Buffer(torch.empty(0, 1, 32, 32, dtype=torch.float64))

    def collect(self, image: Tensor) -> None:
        self.bank = torch.cat([self.bank, image])

    def fit(self) -> None:
        self.bank = self.bank.clone()


class _Gaussians(nn.Module):
    """A Gaussian of every row."""

    def __init__(self) -> None:
        super().__init__()
        self.gaussians = PatchGaussians()

    def collect(self, image: Tensor) -> None:
        self.gaussians.collect(image[:, 0])

    def fit(self) -> None:
        self.gaussians.fit()


def _trained() -> dict[str, Tensor]:
    """EDC after two steps of plain gradient descent, with what its batch norms have followed."""
    torch.manual_seed(0)
    network = EDC(backbone="resnet10", weights="none").double()
    SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=IterationLoader(_Scans(), batch_size=4, epoch_length=2, seed=3),
        network=shared_network(network),
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=lambda features, _: _double_loss(features),
        prepare_batch=lambda batch, *_, **__: (batch["image"], batch["image"]),
        decollate=False,
    ).run()
    assert idist.get_world_size() == 1 or any(isinstance(module, RankBatchNorm) for module in network.modules())
    return {name: value for name, value in network.state_dict().items() if value.numel()}


class _Stopped(Exception):
    """The machine is switched off."""


def _resumable(path: Path, resume: bool = False, stops: bool = False) -> dict[str, Tensor]:
    """State after three epochs with batch norm, dropout and momentum, or after the second one."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 1, 1)).double()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=3,
        train_data_loader=IterationLoader(_Scans(), batch_size=4, epoch_length=2, seed=3),
        network=shared_network(network),
        optimizer=optimizer,
        loss_function=lambda output, _: output.square().mean(),
        prepare_batch=lambda batch, *_, **__: (batch["image"], batch["image"]),
        train_handlers=[ResumableCheckpoint(path, network, optimizer, resume=resume, seconds=0)],
        decollate=False,
    )

    def stop(engine: Engine) -> None:
        raise _Stopped

    if stops:
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), stop)
    with contextlib.suppress(_Stopped):
        trainer.run()
    return network.state_dict()


def _resumed(path: Path) -> dict[str, dict[str, Tensor]]:
    straight = _resumable(path)
    _resumable(path, stops=True)
    assert path.is_file()
    resumed = _resumable(path, resume=True)
    idist.barrier()
    assert not path.is_file()
    return {"straight": straight, "resumed": resumed}


def _double_loss(features: Any) -> Tensor:
    """`GlobalCosineLoss` without its float32."""
    decoded, encoded = features
    distances = [
        1 - nn.functional.cosine_similarity(d.flatten(1), e.detach().flatten(1), dim=1).mean()
        for d, e in zip(decoded, encoded)
    ]
    return torch.stack(distances).sum()


def _fitted(make: Callable[[], nn.Module], batch_size: int) -> dict[str, Tensor]:
    """Fitted in one pass; 7 cases leave a rank without any in the last batch of 3 or 2."""
    network = make()
    loader = PassLoader(_Scans(), batch_size)
    prepare = lambda batch, *_, **__: (batch["image"], None)  # noqa: E731
    FittingTrainer("cpu", loader, network, prepare_batch=prepare).run()
    return network.state_dict()


def _gathered() -> dict[str, Any]:
    rank = idist.get_rank()
    images = torch.arange(3).reshape(-1, 1) * 2 if rank == 0 else None
    return {
        "texts": gather_list(["first"] if rank == 0 else ["second", "third"]),
        "nothing": gather_list([]),
        "uneven": gather_images(torch.tensor([[rank], [rank + 2], [rank + 4]])[: 3 - rank]),
        "one has none": gather_images(images),
        "sizes": gather_images(torch.ones(1, 1, 2 + rank, 3 - rank)),
    }


def _everything() -> dict[str, Any]:
    return {
        "trained": _trained(),
        "bank": _fitted(_Bank, 2),
        "gaussians": _fitted(_Gaussians, 3),
        "small": _fitted(_Gaussians, 1),
    }


def _rank(rank: int, folder: str) -> None:
    content = _everything() | {"gathered": _gathered()} | _resumed(Path(folder, "stopped"))
    torch.save(content, Path(folder, f"{rank}.pt"))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    # a file to meet at: the port that Ignite takes may be another run's
    idist.spawn("gloo", _rank, (str(folder),), nproc_per_node=2, init_method=f"file://{folder}/meeting")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return _everything()


def test_gradients_and_batch_norms_are_those_of_the_global_batch(
    ranks: list[dict[str, Any]], alone: dict[str, Any]
) -> None:
    for rank in ranks:
        assert rank["trained"].keys() == alone["trained"].keys()
        for name, value in alone["trained"].items():
            torch.testing.assert_close(rank["trained"][name], value, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize("kind", ["bank", "gaussians", "small"])
def test_fitted_state_is_that_of_one_process(kind: str, ranks: list[dict[str, Any]], alone: dict[str, Any]) -> None:
    for rank in ranks:
        for name, value in alone[kind].items():
            torch.testing.assert_close(rank[kind][name], value, rtol=1e-6, atol=1e-7, msg=name)
    if kind == "bank":
        assert alone[kind]["bank"].shape[0] == _CASES
    else:
        assert int(alone[kind]["gaussians.count"]) == _CASES


def test_a_stopped_training_of_two_goes_on_as_it_would_have(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        for name, value in ranks[0]["straight"].items():
            torch.testing.assert_close(rank["straight"][name], value, rtol=0, atol=0, msg=name)
            torch.testing.assert_close(rank["resumed"][name], value, rtol=0, atol=0, msg=name)


def test_gathering_keeps_order_and_empty_shares(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        found = rank["gathered"]
        assert found["texts"] == ["first", "second", "third"]
        assert found["nothing"] == []
        assert found["uneven"].flatten().tolist() == [0, 1, 2, 3, 4]
        assert found["one has none"].flatten().tolist() == [0, 2, 4]
        assert found["sizes"][:, 0].tolist() == [[[1, 1, 1], [1, 1, 1], [0, 0, 0]], [[1, 1, 0], [1, 1, 0], [1, 1, 0]]]


def test_one_process_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Linear(1, 1)
    join_ranks("cpu")
    monkeypatch.setenv("WORLD_SIZE", "4")  # without an address it is no run of torchrun
    join_ranks("cpu")
    assert idist.get_world_size() == 1
    assert shared_network(network) is network
    assert gather_list(("a", 1)) == ["a", 1]


@pytest.mark.parametrize(("device", "sentence"), [("cuda:0", "--device cuda"), ("cuda", "--nproc_per_node=")])
def test_processes_that_cannot_each_have_a_gpu(device: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "99", "LOCAL_WORLD_SIZE": "99", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=sentence):
        join_ranks(device)


def test_batch_norm_with_the_momentum_of_an_average() -> None:
    norm = nn.BatchNorm1d(3, momentum=None)
    other = RankBatchNorm.like(norm)
    assert other.weight is norm.weight and other.running_mean is norm.running_mean
    other.eval()
    values = torch.randn(4, 3)
    torch.testing.assert_close(other(values), norm.eval()(values))


_ENDS_WITH_THREADS = """
import atexit, pathlib
import torch
from medad_plugins.engines import gather_list, join_ranks, shared_network

def threads():
    return [path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm")]

atexit.register(lambda: print("left:", *[name for name in threads() if "gloo" in name], flush=True))
join_ranks()

def train():
    network = shared_network(torch.nn.Linear(4, 4))
    network(torch.ones(2, 4)).sum().backward()
    gather_list([1])
    circle = [network]
    circle.append(circle)  # as engines, handlers and their networks refer to each other
    assert any("gloo" in name for name in threads())

train()
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted by Linux's /proc")
def test_a_process_ends_without_the_threads_of_its_group(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(_ENDS_WITH_THREADS, "utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "ends.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # both have printed, and no name of a thread with it
    assert done.stdout.split() == ["left:", "left:"]
