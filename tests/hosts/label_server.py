"""Starting the real MONAI Label server in a process of its own and speaking to it as viewers do."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from requests_toolbelt import MultipartDecoder

PROJECT = Path(__file__).resolve().parents[2]
APP = PROJECT / "apps" / "label"
# lets a torchvision without its own operators be imported, as beside some CPU builds of PyTorch
STUB_FOLDER = PROJECT.parent / "shared" / "tools"
NOWHERE = "http://127.0.0.1:9"
PATIENCE = 300.0


def import_host() -> None:
    """Let this process import MONAI Label and the app."""
    if (STUB_FOLDER / "torchvision_stub.py").is_file() and "torchvision_stub" not in sys.modules:
        sys.path.append(str(STUB_FOLDER))
        importlib.import_module("torchvision_stub")
    if str(APP) not in sys.path:
        sys.path.append(str(APP))
    importlib.import_module("medad_label")


def environment(folder: Path) -> dict[str, str]:
    """This process's environment for a server that finds the package, keeps its files in ``folder``, and no network."""
    paths = [str(PROJECT)]
    if (STUB_FOLDER / "torchvision_stub.py").is_file():
        site = folder / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text("import torchvision_stub\n", encoding="utf-8")
        paths += [str(site), str(STUB_FOLDER)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "MONAI_LABEL_SESSION_PATH": str(folder / "sessions"),
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE),
    }


def run_monailabel(folder: Path, *arguments: str) -> None:
    """Run one of ``monailabel``'s commands to its end."""
    subprocess.run([sys.executable, str(APP / "serve.py"), *arguments], env=environment(folder), check=True)


@dataclass
class Answer:
    """What the server answers to an inference: the bytes of the mask's file, and its parameters."""

    file: bytes
    params: dict[str, Any]


@dataclass
class LabelServer:
    """A running server."""

    client: httpx.Client
    log: Path

    def infer(self, model: str, scan: Path | str, **params: Any) -> Answer:
        """Send a file, or the id of a session, and get the answer to it.

        Raises:
            httpx.HTTPStatusError: the server refuses.
        """
        reply = self.client.post(f"/infer/{model}", **self._scan(scan), data={"params": json.dumps(params)})
        if reply.is_error:
            raise httpx.HTTPStatusError(reply.text, request=reply.request, response=reply)
        parts = MultipartDecoder(reply.content, reply.headers["content-type"]).parts
        return Answer(parts[1].content, json.loads(parts[0].content))

    @staticmethod
    def _scan(scan: Path | str) -> dict[str, Any]:
        if isinstance(scan, str):
            return {"params": {"session_id": scan}, "files": {}}
        return {"files": {"file": (scan.name, scan.read_bytes())}}

    def open_session(self, files: Sequence[Path]) -> str:
        """Send the files of a series; the session's id."""
        reply = self.client.put("/session/", files=[("files", (file.name, file.read_bytes())) for file in files])
        session: str = reply.raise_for_status().json()["session_id"]
        return session

    def add_scan(self, name: str, scan: Path, label: Path) -> None:
        """Put a scan with its final label into the server's datastore."""
        reply = self.client.put("/datastore/", params={"image": name}, files={"file": (scan.name, scan.read_bytes())})
        reply.raise_for_status()
        sent = {"label": (label.name, label.read_bytes())}
        reply = self.client.put("/datastore/label", params={"image": name, "tag": "final"}, files=sent)
        reply.raise_for_status()

    def train(self, model: str, **params: Any) -> dict[str, Any]:
        """Train to the end; the status of the task."""
        self.client.post(f"/train/{model}", json=params).raise_for_status()
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            status: dict[str, Any] = self.client.get("/train/").raise_for_status().json()
            if status["status"] in ("DONE", "ERROR"):
                return status
            time.sleep(0.5)
        raise TimeoutError(f"the training did not end: {self.log.read_text()[-3000:]}")


@contextmanager
def label_server(folder: Path, *arguments: str) -> Iterator[LabelServer]:
    """A server as it is started by hand, until the block ends.

    Args:
        folder: for its log and sessions.
        arguments: of ``start_server``.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "server.log"
    command = [sys.executable, str(APP / "serve.py"), "start_server", "--port", str(port), *arguments]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(folder), stdout=output, stderr=subprocess.STDOUT
        )
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False)
    try:
        _wait_until_up(client, process, log)
        yield LabelServer(client, log)
    finally:
        client.close()
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_up(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit and process.poll() is None:
        try:
            if client.get("/info/").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError(f"the server did not start: {log.read_text()[-3000:]}")
