"""The list of a packaged bundle's files with their hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from medad_plugins.errors import InputError
from medad_plugins.manifest import MANIFEST, Manifest, sha256


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with two files and their manifest."""
    for name, text in (("configs/a.yaml", "a: 1\n"), ("models/model.pt", "weights")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    files = [tmp_path / "models" / "model.pt", tmp_path / "configs" / "a.yaml"]
    Manifest.of_files(tmp_path, files, bundle="toy").write()
    return tmp_path


def _read(root: Path) -> Manifest:
    manifest = Manifest.of_bundle(root)
    assert manifest is not None
    return manifest


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(range(256)) * 5000)
    assert sha256(tmp_path / "big") == hashlib.sha256((tmp_path / "big").read_bytes()).hexdigest()


def test_lists_the_files_by_path_below_the_root(root: Path) -> None:
    content = json.loads((root / MANIFEST).read_text())
    assert content == {
        "bundle": "toy",
        "files": {
            "configs/a.yaml": {"sha256": hashlib.sha256(b"a: 1\n").hexdigest(), "bytes": 5},
            "models/model.pt": {"sha256": hashlib.sha256(b"weights").hexdigest(), "bytes": 7},
        },
    }


def test_a_bundle_without_one(tmp_path: Path) -> None:
    assert Manifest.of_bundle(tmp_path) is None


def test_unchanged_files_pass_and_changed_ones_are_found(root: Path) -> None:
    manifest, model = _read(root), root / "models" / "model.pt"
    manifest.verify(model)
    assert manifest.edited("configs") == []
    model.write_text("Weights")
    (root / "configs" / "a.yaml").write_text("a: 2\n")
    with pytest.raises(InputError, match=r"the file is not the one that was packaged.*expected SHA-256 .*7 bytes"):
        manifest.verify(model)
    assert manifest.edited("configs") == ["configs/a.yaml"]
    manifest.record(model)
    _read(root).verify(model)
    assert _read(root).edited("configs") == ["configs/a.yaml"]


def test_removed_files_are_no_edited_ones(root: Path) -> None:
    (root / "configs" / "a.yaml").unlink()
    assert _read(root).edited("configs") == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": {"a": 3}}', '{"files": {"a": {"sha256": 3}}}'])
def test_damaged_ones_are_refused(root: Path, text: str) -> None:
    (root / MANIFEST).write_text(text)
    with pytest.raises(InputError, match=r"manifest.*manifest\.json.*unpack the bundle again"):
        Manifest.of_bundle(root)
