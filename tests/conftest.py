"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Randomizable
from monai.utils import set_determinism

# the bundles' suites share what they train; a second conftest.py would be a second module of this name
pytest_plugins = ["trained_bundles", "cpu_seconds"]

if "PYTEST_XDIST_WORKER" in os.environ:
    # the workers share the processor
    torch.set_num_threads(1)

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real scans beside the project; tests that need it skip where it is absent."""
    folder = PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/data with real scans is not here")
    return folder


@pytest.fixture(autouse=True)
def log_level() -> None:
    """The level that a run has set for the process's log is put back: the next test would see other messages."""
    logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture(autouse=True)
def random_state() -> None:
    """What a test draws without a seed of its own is the same in every run, whatever ran before it.

    MONAI's transforms share one state, that of the class, until they are given one.
    """
    Randomizable.R.seed(0)
    np.random.seed(0)
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def process_settings() -> Iterator[None]:
    """One thread, for small tensors gain nothing from more; what the bundles set for the process is put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    set_determinism(None)
