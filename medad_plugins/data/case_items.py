"""Prepared cases one by one, or why a case could not be prepared, from whichever process prepares them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from monai.data import Dataset, MetaTensor
from monai.data.utils import list_data_collate, pad_list_data_collate
from monai.transforms import Randomizable
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import get_worker_info

from medad_plugins.data.datalists import Case
from medad_plugins.errors import InputError, find_input_error

__all__ = [
    "Failure",
    "GuardedCases",
    "SeededItems",
    "as_it_is",
    "collate_unless_failed",
    "dataset_layers",
    "failure_sentence",
    "refuse_failure",
    "same_size",
]


@dataclass(frozen=True)
class Failure:
    """A case that could not be prepared, as a worker process sends it."""

    index: int
    sentence: str


def _sendable(item: Any) -> Any:
    """The item, in a worker process with meta data and trace of its own.

    MONAI's Orientation traces a NumPy view of the affine. Sending a tensor moves its memory, and such a view would be
    sent as whatever lies there by then: maps would be restored with a wrong orientation.
    """
    if get_worker_info() is None:
        return item
    for part in item if isinstance(item, list) else [item]:
        for image in part.values():
            if isinstance(image, MetaTensor):
                image.meta, image.applied_operations = deepcopy(image.meta), deepcopy(image.applied_operations)
    return item


def dataset_layers(dataset: Any) -> Iterator[Any]:
    """A dataset and those that it stands on, each of which may have random transforms of its own."""
    while dataset is not None and not isinstance(dataset, (list, tuple)):
        yield dataset
        dataset = getattr(dataset, "data", None)


class SeededItems(TorchDataset):
    """Items of a dataset by ``(index, seed)``: the seed sets the random transforms, whichever process runs them."""

    def __init__(self, dataset: TorchDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, place: tuple[int, int]) -> Any:
        index, seed = place
        for dataset in dataset_layers(self.dataset):
            transform = getattr(dataset, "transform", None)
            if isinstance(transform, Randomizable):
                transform.set_random_state(seed=seed)
        try:
            return _sendable(self.dataset[index])
        except Exception as error:
            found = find_input_error(error)
            if found is None:
                raise
            return Failure(index, str(found))


def collate_unless_failed(items: list[Any]) -> Any:
    """A batch, the first `Failure` among its items, or an empty dictionary of no items.

    Images of different sizes are padded with zeros at their ends to the largest.
    """
    failures = [item for item in items if isinstance(item, Failure)]
    if failures:
        return failures[0]
    if not items:
        return {}
    return list_data_collate(items) if same_size(items) else pad_list_data_collate(items)


def same_size(items: Sequence[Any]) -> bool:
    """Whether the images of prepared cases, or of lists of them, have one size."""
    parts = [part for item in items for part in (item if isinstance(item, list) else [item])]
    return len({tuple(part["image"].shape) for part in parts if isinstance(part.get("image"), Tensor)}) < 2


class GuardedCases(TorchDataset):
    """Prepared cases, or the `Failure` of those that cannot be prepared."""

    def __init__(self, data: Sequence[Case], transform: Callable[..., Any]) -> None:
        self.dataset = Dataset(data, transform)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            return _sendable(self.dataset[index])
        except Exception as error:  # whatever a damaged file provokes, the other cases go on
            return Failure(index, failure_sentence(error, self.dataset.data[index]))


def failure_sentence(error: BaseException, case: Case, what: str = "the scan cannot be prepared") -> str:
    """What to report to the user; the text of an unforeseen exception may hold header values and is not repeated."""
    found = find_input_error(error)
    if found is not None:
        return str(found)
    while error.__cause__ is not None:
        error = error.__cause__
    todo = "look at the file with another program"
    return str(InputError(what, where=case["image"], found=type(error).__name__, todo=todo))


def refuse_failure(batch: Any) -> None:
    """Raise the InputError that a batch stands for."""
    if isinstance(batch, Failure):
        raise InputError(batch.sentence.removesuffix("."))


def as_it_is(item: Any) -> Any:
    """Collation of single cases: none; a function of its own, for worker processes are sent it."""
    return item
