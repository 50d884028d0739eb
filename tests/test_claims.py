"""One run at a time for an output folder."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medad_plugins.claims import claim_folder, claimed_folder, release_folder
from medad_plugins.errors import InputError


def _in_another_process(act: Callable[[], object]) -> int:
    """Its number, once ``act`` has been called there; it goes on until it is killed."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            act()
            os.write(tell, b"done")
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(tell)  # or a child that failed would be waited for
    assert os.read(ready, 4) == b"done"
    return child


def test_a_folder_that_another_process_writes_into_is_refused_until_that_is_killed(tmp_path: Path) -> None:
    child = _in_another_process(lambda: claim_folder(tmp_path))
    try:
        with pytest.raises(InputError, match=rf"another run is writing into this folder: {tmp_path}; .*--output_dir"):
            claim_folder(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    claim_folder(tmp_path)
    release_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_loading_process_that_outlives_a_killed_run_claims_nothing(tmp_path: Path) -> None:
    numbers, tell = os.pipe()

    def claim_and_fork() -> None:
        claim_folder(tmp_path)
        if (loader := os.fork()) == 0:
            time.sleep(60)
            os._exit(0)
        os.write(tell, str(loader).encode())

    child = _in_another_process(claim_and_fork)
    loader = int(os.read(numbers, 20))
    try:
        with pytest.raises(InputError, match="another run"):
            claim_folder(tmp_path)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        claim_folder(tmp_path)
        release_folder(tmp_path)
    finally:
        os.kill(loader, signal.SIGKILL)


def test_a_process_may_claim_its_own_folder_again(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with claimed_folder(tmp_path), claimed_folder(tmp_path / "link"):
        pass

    def claim_and_end() -> None:
        claim_folder(tmp_path)

    child = _in_another_process(claim_and_end)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_what_is_not_claimed_is_left_alone(tmp_path: Path) -> None:
    release_folder(tmp_path)
