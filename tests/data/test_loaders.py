"""Training and inference loaders."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import Dataset, decollate_batch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.transforms import Compose, Invertd, MapTransform, OneOf, RandomizableTransform, RandShiftIntensityd
from PIL import Image

from medad_plugins.data import (
    FaultTolerantLoader,
    IterationLoader,
    IterationSampler,
    PassLoader,
    ScanFormat,
    cached_dataset,
)
from medad_plugins.errors import InputError, find_input_error
from medad_plugins.transforms.preprocessing import ScanPreprocessing

SENTENCE = "the scan is bad: 3 (expected good)."


class ReadNumberd(MapTransform):
    """Stands in for reading a scan: an image of the case's number; 3 cannot be used, 4 breaks, calls are counted."""

    def __init__(self, is_strict: bool = True) -> None:
        super().__init__("image")
        self.is_strict, self.calls = is_strict, 0

    def __call__(self, data: Any) -> dict[str, Any]:
        self.calls += 1
        number = int(data["image"])
        if self.is_strict and number == 3:
            raise InputError("the scan is bad", where=number, expected="good")
        if self.is_strict and number == 4:
            raise KeyError("PatientName Doe^Jane")
        return {**data, "image": torch.full((1, 8, 8), float(number))}


class AddRandomd(RandomizableTransform):
    """Adds a random number to the image."""

    def __call__(self, data: Any) -> dict[str, Any]:
        return {**data, "image": data["image"] + self.R.uniform()}


def numbers(*values: int) -> list[dict[str, Any]]:
    return [{"image": str(value), "case_id": f"case{value}", "label": value % 2} for value in values]


def lenient(*random: Callable[..., Any]) -> Compose:
    return Compose([ReadNumberd(is_strict=False), *random])


def images(loader: Any) -> list[list[float]]:
    return [batch["image"][:, 0, 0, 0].tolist() for batch in loader]


def test_find_input_error_along_causes_and_contexts() -> None:
    def fail() -> None:
        try:
            try:
                raise InputError("bad scan")
            except InputError:
                int("no number")
        except ValueError as error:
            raise RuntimeError("applying transform") from error

    with pytest.raises(RuntimeError) as caught:
        fail()
    assert str(find_input_error(caught.value)) == "bad scan."
    assert find_input_error(KeyError("x")) is None


def test_cache_holds_the_deterministic_part_only() -> None:
    read = ReadNumberd(is_strict=False)
    dataset = cached_dataset(numbers(0, 1), Compose([Compose([Compose([read]), AddRandomd()])]), progress=False)
    calls = read.calls
    draws = {float(dataset[1]["image"][0, 0, 0]) for _ in range(3)}
    assert read.calls == calls
    assert len(draws) == 3 and all(1 <= draw <= 2 for draw in draws)


def test_random_choice_is_not_cached() -> None:
    choice = OneOf([ReadNumberd(is_strict=False), ReadNumberd(is_strict=False)])
    dataset = cached_dataset(numbers(0, 1), [choice], progress=False)
    calls = sum(read.calls for read in choice.transforms)
    dataset[0]
    assert sum(read.calls for read in choice.transforms) == calls + 1


def test_cache_keeps_to_its_limit(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    size = 8 * 8 * 4
    dataset = cached_dataset(numbers(0, 1, 2), lenient(), memory_limit_gib=2.5 * size / 2**30, progress=False)
    assert dataset.cache_num == 2 and len(dataset) == 3
    assert "caching 2 of 3 cases" in caplog.text
    assert [float(dataset[index]["image"].max()) for index in range(3)] == [0, 1, 2]


def test_cache_refuses_a_bad_scan_with_its_sentence() -> None:
    for values in ((3, 0), (0, 3)):
        with pytest.raises(InputError) as caught:
            cached_dataset(numbers(*values), ReadNumberd(), num_workers=2, progress=False)
        assert str(caught.value) == SENTENCE
    with pytest.raises(RuntimeError) as other:
        cached_dataset(numbers(0, 4), ReadNumberd(), progress=False)
    assert isinstance(other.value.__cause__, KeyError)
    with pytest.raises(InputError, match="no case"):
        cached_dataset([], ReadNumberd())


def test_epochs_have_full_batches_and_see_every_case_equally_often() -> None:
    loader = IterationLoader(Dataset(numbers(*range(5)), lenient()), batch_size=3, epoch_length=2)
    assert len(loader) == 2
    drawn = [value for _ in range(5) for batch in images(loader) for value in batch]
    assert len(drawn) == 30
    assert {drawn.count(number) for number in range(5)} == {6}
    assert drawn[:5] != drawn[5:10] and sorted(drawn[:5]) == sorted(drawn[5:10]) == [0, 1, 2, 3, 4]


def test_batches_larger_than_the_data_and_one_pass_by_default() -> None:
    dataset = Dataset(numbers(0, 1), lenient())
    assert [len(batch) for batch in images(IterationLoader(dataset, batch_size=7, epoch_length=3))] == [7, 7, 7]
    assert len(IterationLoader(Dataset(numbers(*range(5)), lenient()), batch_size=2)) == 3


@pytest.mark.parametrize("replacement", [False, True])
def test_an_epoch_depends_on_its_number_only(replacement: bool) -> None:
    def loader(num_workers: int = 0, seed: int = 5) -> IterationLoader:
        dataset = cached_dataset(numbers(*range(5)), lenient(AddRandomd()), progress=False)
        return IterationLoader(dataset, 2, 3, seed=seed, num_workers=num_workers, replacement=replacement)

    straight, workers, resumed = loader(), loader(2), loader()
    epochs = [images(straight) for _ in range(3)]
    assert [images(workers) for _ in range(3)] == epochs
    torch.manual_seed(99)
    resumed.set_epoch(2)
    assert images(resumed) == epochs[2] != epochs[1]
    assert images(loader(seed=6)) != epochs[0]


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, ranks: int) -> None:
    """Let this process pass for one of several."""
    monkeypatch.setattr(idist, "get_rank", lambda: rank)
    monkeypatch.setattr(idist, "get_world_size", lambda: ranks)


def test_ranks_take_disjoint_places(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, seeds = [], []
    for rank in range(2):
        as_rank(monkeypatch, rank, 2)
        places = list(IterationSampler(length=8, draws=4))
        drawn += [index for index, _ in places]
        seeds += [seed for _, seed in places]
    assert sorted(drawn) == list(range(8))
    assert len(set(seeds)) == 8


@pytest.mark.parametrize("replacement", [False, True])
def test_ranks_together_see_the_batches_of_one_process(replacement: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def epochs() -> list[list[float]]:
        dataset = Dataset(numbers(*range(5)), lenient(AddRandomd()))
        loader = IterationLoader(dataset, batch_size=6, epoch_length=2, seed=4, replacement=replacement)
        return [batch for _ in range(2) for batch in images(loader)]

    alone = epochs()
    shares = []
    for rank in range(3):
        as_rank(monkeypatch, rank, 3)
        shares.append(epochs())
    assert [len(batch) for batch in shares[0]] == [2] * 4
    for batch, *parts in zip(alone, *shares, strict=True):
        assert [value for turn in zip(*parts, strict=True) for value in turn] == batch


def test_a_batch_that_ranks_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank(monkeypatch, 0, 4)
    with pytest.raises(InputError, match=r"multiple of the 4 processes, found 6\); give --batch_size 8"):
        IterationLoader(Dataset(numbers(0), lenient()), batch_size=6)


def test_ranks_share_the_memory_of_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idist, "get_nproc_per_node", lambda: 2)
    limit = 4 * 8 * 8 * 4 / 2**30
    assert cached_dataset(numbers(*range(4)), lenient(), memory_limit_gib=limit, progress=False).cache_num == 2


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_pass_shows_every_case_once_and_in_order(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for rank in range(ranks):
        as_rank(monkeypatch, rank, ranks)
        loader = PassLoader(Dataset(numbers(*range(5)), lenient()), batch_size=4)
        assert len(loader) == 2
        shares.append([batch["image"][:, 0, 0, 0].tolist() if batch else [] for batch in loader])
    assert [len(share) for share in shares] == [2] * ranks
    first = [share[0] for share in shares]
    assert sorted(value for part in first for value in part) == [0, 1, 2, 3]
    assert first[0] == list(range(0, 4, ranks))
    assert [share[1] for share in shares] == [[4], *[[]] * (ranks - 1)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_pass_repeats_its_randomness_and_refuses_a_bad_scan(num_workers: int) -> None:
    loader = PassLoader(Dataset(numbers(0, 1), lenient(AddRandomd())), 2, seed=1, num_workers=num_workers)
    assert images(loader) == images(loader) and images(loader)[0][0] > 0
    with pytest.raises(InputError) as caught:
        images(PassLoader(Dataset(numbers(0, 3), ReadNumberd()), 2, num_workers=num_workers))
    assert str(caught.value) == SENTENCE
    for values, size, sentence in (((), 1, "no case"), ((0,), 0, "too small")):
        with pytest.raises(InputError, match=sentence):
            PassLoader(Dataset(numbers(*values), lenient()), size)


def test_ranks_infer_every_case_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, failed = [], []
    for rank in range(3):
        as_rank(monkeypatch, rank, 3)
        loader = FaultTolerantLoader(numbers(0, 3, 1, 2, 4, 5, 6), Compose([ReadNumberd()]), 2)
        assert loader.total == 7
        seen += [name for batch in loader for name in batch["case_id"]]
        failed += [case["case_id"] for case, _ in loader.failures]
    assert sorted(seen) == ["case0", "case1", "case2", "case5", "case6"]
    assert sorted(failed) == ["case3", "case4"]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_on_a_bad_scan_is_refused_with_its_sentence(num_workers: int) -> None:
    loader = IterationLoader(Dataset(numbers(0, 3), ReadNumberd()), 2, 2, num_workers=num_workers)
    with pytest.raises(InputError) as caught:
        images(loader)
    assert str(caught.value) == SENTENCE


def test_loader_refuses_wrong_numbers() -> None:
    dataset = Dataset(numbers(0), lenient())
    for batch_size, epoch_length, seed in ((0, 1, 0), (1, 0, 0), (1, 1, -1)):
        with pytest.raises(InputError, match="too small"):
            IterationLoader(dataset, batch_size, epoch_length, seed)
    with pytest.raises(InputError, match="no case"):
        IterationLoader(Dataset([], lenient()), 1)


def test_resumed_monai_trainer_sees_what_it_would_have_seen() -> None:
    def train(first_epoch: int) -> list[list[float]]:
        seen: list[list[float]] = []
        network = torch.nn.Conv2d(1, 1, 1)
        trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=3,
            train_data_loader=IterationLoader(Dataset(numbers(*range(5)), lenient(AddRandomd())), 2, 4),
            network=network,
            optimizer=torch.optim.SGD(network.parameters(), 0.0),
            loss_function=lambda output, label: output.mean(),
        )
        trainer.state.epoch, trainer.state.iteration = first_epoch, first_epoch * 4
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED,
            lambda engine: seen.append([float(item["image"].mean()) for item in engine.state.batch]),
        )
        trainer.run()
        return seen

    straight = train(0)
    assert len(straight) == 12
    assert train(2) == straight[8:]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_cases_are_left_out_and_batches_stay_full(num_workers: int, caplog: pytest.LogCaptureFixture) -> None:
    loader = FaultTolerantLoader(numbers(0, 3, 1, 2, 4, 5, 6), Compose([ReadNumberd()]), 2, num_workers)
    assert loader.total == 7 and not hasattr(loader, "__len__")
    for _ in range(2):  # a second pass starts afresh
        caplog.clear()
        batches = list(loader)
        assert [batch["case_id"] for batch in batches] == [["case0", "case1"], ["case2", "case5"], ["case6"]]
        assert batches[1]["image"].shape == (2, 1, 8, 8) and batches[1]["label"].tolist() == [0, 1]
        (bad, sentence), (broken, generic) = loader.failures
        assert (bad["case_id"], sentence, broken["case_id"]) == ("case3", SENTENCE, "case4")
        assert "KeyError" in generic and "Doe" not in generic and "Doe" not in caplog.text
        assert [record.getMessage() for record in caplog.records] == [
            f"left out case3: {SENTENCE}",
            f"left out case4: {generic}",
        ]


@pytest.mark.parametrize("values", [(0, 1, 3, 2, 5), (3, 4)])
def test_monai_evaluator_takes_a_loader_of_unknown_length(values: tuple[int, ...]) -> None:
    seen: list[str] = []
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=FaultTolerantLoader(numbers(*values), Compose([ReadNumberd()]), 2),
        network=torch.nn.Conv2d(1, 1, 1),
    )
    evaluator.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: seen.extend(item["case_id"] for item in engine.state.batch)
    )
    completed: list[int] = []
    evaluator.add_event_handler(Events.COMPLETED, lambda engine: completed.append(1))
    evaluator.run()
    assert seen == [f"case{value}" for value in values if value not in (3, 4)]
    assert completed == [1]


@pytest.mark.parametrize("kind", ["inference", "training", "cached"])
def test_orientation_survives_worker_processes(tmp_path: Path, kind: str) -> None:
    """Known trouble of MONAI: the affine that Orientation traced is a view of memory that sending moves."""
    preprocessing, random, cases = ScanPreprocessing(ScanFormat(3, 8)), np.random.RandomState(0), []
    for number in range(8):
        affine = np.array([[0, 2, 0, number], [-3, 0, 0, 5], [0, 0, 4, -7], [0, 0, 0, 1]], dtype=float)
        volume = random.uniform(size=(9, 10, 11 + number)).astype(np.float32)
        path = tmp_path / f"{number}.nii.gz"
        nib.save(nib.Nifti1Image(volume, affine), path)
        cases.append({"image": str(path), "case_id": str(number)})

    def traces(num_workers: int) -> list[np.ndarray]:
        if kind == "inference":
            loader: Any = FaultTolerantLoader(cases, preprocessing, 4, num_workers)
        else:
            is_cached = kind == "cached"
            data = cached_dataset(cases, preprocessing, progress=False) if is_cached else Dataset(cases, preprocessing)
            loader = IterationLoader(data, 4, 2, num_workers=num_workers)
        found = []
        for batch in [batch for _ in range(2) for batch in loader]:
            for item in decollate_batch(batch):
                restored = Invertd("image", preprocessing, "image")(item)["image"]
                assert restored.shape[-1] == 11 + int(item["case_id"])
                traced = [step["extra_info"].get("original_affine") for step in item["image"].applied_operations]
                found += [np.asarray(affine) for affine in traced if affine is not None]
        return found

    here, sent = traces(0), traces(2)
    assert len(here) >= 16
    np.testing.assert_array_equal(here, sent)


def test_real_preprocessing_is_cached_and_tolerated(tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    for name in ("a", "b"):
        Image.fromarray(random.randint(0, 255, (32, 24)).astype(np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    cases = [{"image": str(tmp_path / f"{name}.png"), "case_id": name} for name in "acb"]
    preprocessing = ScanPreprocessing(ScanFormat(2, 16))
    loader = FaultTolerantLoader(cases, preprocessing, batch_size=2)
    batch = next(iter(loader))
    assert batch["image"].shape == (2, 1, 16, 16) and batch["case_id"] == ["a", "b"]
    assert "c.png" in loader.failures[0][1]
    augmented = Compose([preprocessing, RandShiftIntensityd("image", 0.1, prob=1.0)])
    with pytest.raises(InputError, match="c.png"):
        cached_dataset(cases, augmented, progress=False)
    dataset = cached_dataset([cases[0], cases[2]], augmented, progress=False)
    for name in "ab":
        (tmp_path / f"{name}.png").unlink()
    (images_,) = [batch["image"] for batch in IterationLoader(dataset, 4, 1)]
    assert images_.shape == (4, 1, 16, 16) and len({float(image.mean()) for image in images_}) == 4


@pytest.mark.parametrize(
    ("iterations", "length"), [(1, 1), (2, 2), (49, 49), (50, 50), (51, 17), (97, 1), (600, 50), (4000, 50), (4001, 1)]
)
def test_epochs_divide_the_schedule(iterations: int, length: int) -> None:
    if iterations in (97, 4001):
        divisors = [n for n in range(1, 51) if iterations % n == 0]
        assert length == max(divisors)
    loader = IterationLoader(Dataset(numbers(*range(5)), lenient()), batch_size=2, max_iterations=iterations)
    assert (len(loader), loader.epochs) == (length, iterations // length)


def test_a_chosen_epoch_must_divide_the_schedule() -> None:
    dataset = Dataset(numbers(*range(5)), lenient())
    assert IterationLoader(dataset, 2, 12, max_iterations=120).epochs == 10
    assert IterationLoader(dataset, 2).epochs is None
    with pytest.raises(InputError, match="max_iterations .expected a multiple of the epoch's 7, found 120"):
        IterationLoader(dataset, 2, 7, max_iterations=120)
    with pytest.raises(InputError, match="max_iterations .expected at least 1, found 0"):
        IterationLoader(dataset, 2, max_iterations=0)


def test_batches_of_scans_hold_one_size_and_no_more_than_fits() -> None:
    sizes = [4, 4, 4, 5, 5, 4]
    cases = [{"case_id": str(number), "image": size} for number, size in enumerate(sizes)]

    def prepare(case: dict[str, Any]) -> dict[str, Any]:
        return {**case, "image": torch.zeros(1, case["image"], 2)}

    def batches(batch_bytes: int) -> list[int]:
        loader = FaultTolerantLoader(cases, prepare, batch_size=8, batch_bytes=batch_bytes)
        return [len(batch["image"]) for batch in loader]

    assert batches(2**20) == [3, 2, 1]
    assert batches(2 * 4 * 2 * 4) == [2, 1, 1, 1, 1]
    assert batches(1) == [1] * 6, "a scan of any size is a batch"
