"""Every host in an environment of its own, made where there is none, and the tests that need it run there.

    python tools/check_hosts.py                      # ray, fl, deploy and label, one after the other
    python tools/check_hosts.py label                # one of them
    python tools/check_hosts.py --minutes 45         # stop then, for continuous integration
    python tools/check_hosts.py --slow true          # also the tests of every bundle

One line per host gives the outcome: passed, failed, could not be installed (why), not finished in its time, or left out
where no time is left for it. The exit status is 1 if a host's tests failed: a machine without the packages, or a slow
one, is no fault of the code. An environment that was made from the same requirements is used again.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medad_plugins.command_line import run_tool
from medad_plugins.errors import InputError

PROJECT = Path(__file__).resolve().parents[1]
TESTS = PROJECT / "tests" / "hosts"
STAMP = "made_from.txt"
GRACE = 30.0  # seconds
# What must work before a test means anything, typed in the tests' folder. The cheapest host comes first: where time
# runs out, as many as possible have been tested.
HOSTS = {
    "ray": "import ray.data",
    "fl": "import nvflare",
    "deploy": "import monai.deploy.core, highdicom",
    "label": "import label_server; label_server.import_host(); import monailabel.tasks.infer.bundle",
}
# a wait for a package index that does not answer is not worth the tests of the other hosts
PIP = ["pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--timeout", "60", "--retries", "2"]


@dataclass
class Outcome:
    """How it went with a host, and the words for it."""

    failed: bool
    words: str


@dataclass
class Host:
    """A host's environment.

    Args:
        name: of the host, of its tests' marker and of its file of requirements.
        folder: of its environment.
        ends: when to stop, on the clock of ``time.monotonic``.
        slow: run the slow tests too.
    """

    name: str
    folder: Path
    ends: float
    slow: bool = False

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / "bin" / "python"

    @property
    def log(self) -> Path:
        """What was printed."""
        return self.folder.parent / f"{self.name}.log"

    def check(self) -> Outcome:
        """Install it if need be, and run its tests."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("", encoding="utf-8")
        start = time.monotonic()
        try:
            problem = self._install()
            if problem:
                return Outcome(False, f"could not be installed ({problem})")
            installed = time.monotonic()
            outcome = self._test()
        except subprocess.TimeoutExpired:
            # of a run that was stopped, what failed until then counts
            failures = re.findall(r"^(\S+::.*) (?:FAILED|ERROR)", self.log.read_text(encoding="utf-8"), re.MULTILINE)
            if failures:
                return Outcome(True, f"failed, and not finished in its time: {', '.join(failures)}")
            return Outcome(False, f"not finished in its time, {time.monotonic() - start:.0f} s")
        seconds = f"{installed - start:.0f} s to install, {time.monotonic() - installed:.0f} s to test"
        return Outcome(outcome.failed, f"{outcome.words}; {seconds}")

    def _install(self) -> str:
        """Make the environment, if there is none from the same requirements; what is wrong with it, or nothing."""
        stamp, made_from = self.folder / STAMP, self._requirements()
        # pip is what an environment gets last
        if not self.python.with_name("pip").exists() and self._run(sys.executable, "-m", "venv", self.folder):
            return self._reason()
        if not stamp.is_file() or stamp.read_text(encoding="utf-8") != made_from:
            stamp.unlink(missing_ok=True)
            requirements = TESTS / "environments" / f"{self.name}.txt"
            if self._run(self.python, "-m", *PIP, "-r", requirements, "-e", PROJECT):
                return self._reason()
            stamp.write_text(made_from, encoding="utf-8")
        return self._reason() if self._run(self.python, "-c", HOSTS[self.name], cwd=TESTS) else ""

    def _requirements(self) -> str:
        """A digest of what decides about the packages."""
        files = TESTS / "environments" / f"{self.name}.txt", PROJECT / "constraints.txt", PROJECT / "pyproject.toml"
        return hashlib.sha256(sys.version.encode() + b"".join(path.read_bytes() for path in files)).hexdigest()

    def _test(self) -> Outcome:
        files = sorted(TESTS.glob(f"test_{self.name}*.py"))
        if not files:
            return Outcome(True, f"failed (there is no {TESTS}/test_{self.name}*.py)")
        chosen = self.name if self.slow else f"{self.name} and not slow"
        options = ["-v", "-rfEs", "-p", "no:cacheprovider", "-m", chosen]
        status = self._run(self.python, "-m", "pytest", *options, *files)
        text = self.log.read_text(encoding="utf-8")
        counts = re.findall(r"^=*\s*(\d+ \w+(?:, \d+ \w+)*) in [\d.]+s", text, re.MULTILINE)
        skipped = re.findall(r"^SKIPPED \[\d+\] \S+ (.*)$", text, re.MULTILINE)
        words = "; ".join([*counts[-1:], *dict.fromkeys(skipped)]) or f"pytest ended with status {status}"
        return Outcome(status != 0, f"{'failed' if status else 'passed'} ({words})")

    def _run(self, *command: Any, cwd: Path = PROJECT) -> int:
        """The exit status of a command that writes into the log, and that is ended with all it started."""
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(map(str, command))}\n")
            log.flush()
            process = subprocess.Popen(
                list(map(str, command)), cwd=cwd, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                return process.wait(max(0.0, self.ends - time.monotonic()))
            finally:
                if process.poll() is None:
                    _end(process)

    def _reason(self) -> str:
        """The last error in the log, or its last line."""
        lines = [line.strip() for line in self.log.read_text(encoding="utf-8").splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"(ERROR|\w+Error)\b", line)]
        return (errors or lines)[-1][:300]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process and what it started, so that servers are shut down too, and kill who does not listen."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main(
    *hosts: str,
    folder: str = "",
    minutes: float = 24 * 60,
    minutes_each: float = 24 * 60,
    minutes_least: float = 3,
    slow: bool = False,
    lines: int = 60,
) -> None:
    """Run the tests of the hosts.

    Args:
        hosts: ray, fl, deploy or label; all where none is named.
        folder: for the environments, several GB; .venv-hosts in the project.
        minutes: for all hosts together; one that is not finished then is reported as such.
        minutes_each: for each host.
        minutes_least: with less left of all a host is left out, and reported as such.
        slow: run the slow tests too.
        lines: of its log are shown where tests failed.
    """
    for name in hosts:
        if name not in HOSTS:
            raise InputError("there is no such host", where=name, expected=f"one of {', '.join(HOSTS)}")
    # in the project, for each environment holds this very clone as an editable package
    home = Path(folder or PROJECT / ".venv-hosts").resolve()
    ends = time.monotonic() + 60 * minutes
    failed = []
    for name in hosts or HOSTS:
        if ends - time.monotonic() < 60 * minutes_least:
            print(f"{name}: left out: no time left", flush=True)
            continue
        host = Host(name, home / name, min(ends, time.monotonic() + 60 * minutes_each), slow)
        outcome = host.check()
        if outcome.failed:
            failed.append(name)
            print(*host.log.read_text(encoding="utf-8").splitlines()[-lines:], sep="\n")
        print(f"{name}: {outcome.words}", flush=True)
    if failed:
        sys.exit(f"tests failed with {', '.join(failed)}; all that was printed is in {home}")


if __name__ == "__main__":
    # a check that is stopped from outside leaves no servers behind
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped."))
    run_tool(main)
