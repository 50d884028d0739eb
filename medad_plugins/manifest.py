"""The list of a packaged bundle's files with their hashes: what was packaged is what is used."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medad_plugins.errors import InputError
from medad_plugins.files import write_json

__all__ = ["MANIFEST", "Manifest", "sha256"]

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:  # Python 3.10
    digest = hashlib.sha256()
    while chunk := file.read(2**20):
        digest.update(chunk)
    return digest.hexdigest()


class Manifest:
    """Hashes of a bundle's files, in ``manifest.json`` at its root.

    They distinguish a damaged, exchanged or edited file from the one that was packaged. They are no signature: who
    can exchange a file can exchange the manifest too, so the zip's own hash must come from where it is trusted.

    Args:
        root: the bundle's folder.
        content: what the file says: ``bundle``, ``version``, and ``files``, by path below the root, with ``sha256``
            and ``bytes``.
    """

    def __init__(self, root: Path, content: Mapping[str, Any]) -> None:
        self.root, self.content = root, dict(content)

    @classmethod
    def of_bundle(cls, root: str | os.PathLike[str]) -> Manifest | None:
        """The manifest of a bundle's folder, None where there is none.

        Raises:
            InputError: it cannot be read.
        """
        path = Path(root) / MANIFEST
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text("utf-8"))
            hashes = [entry["sha256"] for entry in content["files"].values()]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            todo = "unpack the bundle again"
            raise InputError(
                "the bundle's manifest cannot be read", where=path, found=repr(error), todo=todo
            ) from error
        if not all(isinstance(value, str) for value in hashes):
            raise InputError("the bundle's manifest holds no hashes", where=path, todo="unpack the bundle again")
        return cls(Path(root), content)

    @classmethod
    def of_files(cls, root: Path, files: Iterable[Path], **about: str) -> Manifest:
        """A manifest of ``files`` below ``root`` as they are now; ``about`` stands first in it."""
        manifest = cls(root, {**about, "files": {}})
        for path in sorted(files):
            manifest._enter(path)
        return manifest

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """What is listed, by path below the root, with forward slashes."""
        files: dict[str, dict[str, Any]] = self.content["files"]
        return files

    def name(self, path: Path) -> str:
        """How the manifest calls a file below the root."""
        return Path(os.path.relpath(path, self.root)).as_posix()

    def _enter(self, path: Path) -> None:
        self.files[self.name(path)] = {"sha256": sha256(path), "bytes": path.stat().st_size}

    def write(self) -> None:
        """Write it to the root."""
        write_json(self.root / MANIFEST, self.content)

    def record(self, path: Path) -> None:
        """List a file that was deliberately replaced, e.g. a model by training."""
        self._enter(path)
        self.write()

    def expect(self, path: Path, new: Path) -> None:
        """List a file that is about to be replaced with the hash of both, the old one and the new."""
        entry = self.files.get(self.name(path), {"sha256": "", "bytes": 0})
        self.files[self.name(path)] = {**entry, "next_sha256": sha256(new)}
        self.write()

    def verify(self, path: Path) -> None:
        """Refuse a file that is not the listed one; one that is not listed at all is reported.

        Raises:
            InputError: size or hash differ.
        """
        name = self.name(path)
        if name not in self.files:
            logger.warning("%s is not listed in the bundle's %s: it did not come with the bundle.", path, MANIFEST)
            return
        found = sha256(path)
        if found not in (self.files[name]["sha256"], self.files[name].get("next_sha256")):
            raise InputError(
                "the file is not the one that was packaged: it is damaged or was exchanged",
                where=path,
                expected=f"SHA-256 {self.files[name]['sha256'][:16]}..., {self.files[name].get('bytes')} bytes",
                found=f"{found[:16]}..., {path.stat().st_size} bytes",
                todo=f"unpack the bundle again, or delete its {MANIFEST} if you exchanged the file yourself",
            )

    def edited(self, folder: str) -> list[str]:
        """Listed files of one of the bundle's folders that are there and differ from what was packaged."""
        listed = [name for name in self.files if name.startswith(f"{folder}/") and (self.root / name).is_file()]
        return [name for name in listed if sha256(self.root / name) != self.files[name]["sha256"]]
