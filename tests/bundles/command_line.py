"""Starting MONAI's command line in a process of its own, as users do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE = 300.0


def command(config_file: str | Path, **overrides: Any) -> list[str]:
    """The command that runs a configuration."""
    values = [text for key, value in overrides.items() for text in (f"--{key}", str(value))]
    return [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config_file), *values]


def environment() -> dict[str, str]:
    """This process's environment, with the package importable from any folder and one thread, for equal rounding."""
    paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def run_command(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder to its end."""
    return subprocess.run(
        arguments, cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def succeed(arguments: list[str], folder: Path) -> str:
    """Run a command that must succeed; its output."""
    done = run_command(arguments, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _hear_interrupts() -> None:
    # tests that run in the background of a shell inherit that Ctrl-C is ignored
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt(arguments: list[str], folder: Path, when: Callable[[str], bool], number: int) -> tuple[int, str, str]:
    """Start a command and send it a signal as soon as ``when`` is true of its output so far.

    Returns:
        exit status, output, error output.
    """
    out, err = folder / "interrupted.out", folder / "interrupted.err"
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(
            arguments, cwd=folder, env=environment(), stdout=stdout, stderr=stderr, preexec_fn=_hear_interrupts
        )
        try:
            limit = time.monotonic() + PATIENCE
            while not when(out.read_text()):
                assert process.poll() is None, f"ended too early: {out.read_text()}{err.read_text()}"
                assert time.monotonic() < limit, "nothing happened"
                time.sleep(0.005)
            process.send_signal(number)
            status = process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
    return status, out.read_text(), err.read_text()
