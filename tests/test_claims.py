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
    assert os.read(ready, 4) == b"done"
    return child


def test_a_folder_that_another_process_writes_into_is_refused_until_that_is_killed(tmp_path: Path) -> None:
    child = _in_another_process(lambda: claim_folder(tmp_path))
    try:
        with pytest.raises(InputError, match=rf"another run is writing into this folder: {tmp_path}; .*--output_dir"):
            claim_folder(tmp_path, patience=0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    claim_folder(tmp_path, patience=0)
    release_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_process_may_claim_its_own_folder_again(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with claimed_folder(tmp_path), claimed_folder(tmp_path / "link"):
        pass

    def claim_and_end() -> None:
        claim_folder(tmp_path, patience=0)

    child = _in_another_process(claim_and_end)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_what_is_not_claimed_is_left_alone(tmp_path: Path) -> None:
    release_folder(tmp_path)
