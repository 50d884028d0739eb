"""A process that dies at whatever file it writes leaves the old file or the new one, and nothing for the next run."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from medad_plugins import files
from medad_plugins.engines import save_model
from medad_plugins.errors import InputError
from medad_plugins.files import append_text, atomic_path, output_folder, write_csv, write_json, write_text, write_torch


def _nifti(path: Path, value: int) -> None:
    with atomic_path(path) as temporary:
        nib.save(nib.Nifti1Image(np.full((8, 8, 8), value, np.float32), np.eye(4)), temporary)


def _picture(path: Path, value: int) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(temporary, format="PNG")


def _model(path: Path, value: int) -> None:
    network = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(network.weight, value)
    save_model(path, network, "mine", {"network": {}})


# every way in which a file is written: name of the file, and how
WRITERS: dict[str, tuple[str, Callable[[Path, int], object]]] = {
    "model": ("models/model.pt", _model),
    "state": ("models/model.pt.stopped", lambda path, value: write_torch(path, {"epoch": value})),
    "results": ("results.csv", lambda path, value: write_csv(path, [["case_id"], [value]])),
    "figures": ("evaluation.json", lambda path, value: write_json(path, {"auroc": value})),
    "report": ("report.html", lambda path, value: write_text(path, f"<p>{value}</p>")),
    "map": ("maps/scan.nii.gz", _nifti),
    "overlay": ("overlays/scan.png", _picture),
}


def _die_at(place: str, number: int) -> None:
    """Let this process be sent a signal where a file is opened, written or put in its place."""

    def send(*arguments: object, **others: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)

    if place == "replace":
        os.replace = send
    else:
        # half of the file is there: what follows the first bytes never is
        real = files._temporary

        def half(path: Path) -> Path:
            temporary = real(path)
            temporary.write_bytes(b"half")
            send()
            return temporary

        files._temporary = half


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize("place", ["half", "replace"])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_killed_write_leaves_what_was_there(kind: str, place: str, number: signal.Signals, tmp_path: Path) -> None:
    name, write = WRITERS[kind]
    path = tmp_path / name
    output_folder(path.parent)
    write(path, 1)
    before = path.read_bytes()
    child = os.fork()
    if child == 0:
        for own in (signal.SIGINT, signal.SIGTERM):  # earlier runs of this process may have set theirs
            signal.signal(own, signal.SIG_DFL)
        _die_at(place, number)
        try:
            write(path, 2)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -number
    assert path.read_bytes() == before
    # the next run finds its folder clean, and writes
    files._cleaned.clear()
    output_folder(path.parent)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    write(path, 3)
    assert path.read_bytes() != before


def test_the_leftovers_of_a_process_that_lives_are_its_own(tmp_path: Path) -> None:
    own = files._temporary(tmp_path / "map.nii.gz")
    own.touch()
    foreign = own.with_name(own.name.replace(files._HOST, "0" * 8).replace(str(os.getpid()), "1"))
    foreign.touch()
    (tmp_path / ".hidden.part").touch()
    output_folder(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


FAULTS = [
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
    errno.EFBIG,
    errno.ENAMETOOLONG,
]


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize("kind", WRITERS)
def test_a_disk_that_fails_is_a_sentence_with_file_and_cause(
    kind: str, fault: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, write = WRITERS[kind]
    path = tmp_path / name
    output_folder(path.parent)
    write(path, 1)
    before = path.read_bytes()

    def fail(*arguments: object) -> None:
        raise OSError(fault, os.strerror(fault))

    with monkeypatch.context() as patch, pytest.raises(InputError) as raised:
        patch.setattr(os, "replace", fail)
        write(path, 2)
    assert str(path) in str(raised.value)
    assert os.strerror(fault) in str(raised.value)
    assert ("--ckpt_path" if kind in ("model", "state") else "--output_dir") in str(raised.value)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("kind", WRITERS)
def test_a_disk_that_is_full_while_writing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, write = WRITERS[kind]
    path = tmp_path / name
    output_folder(path.parent)
    real = files._temporary

    def full(target: Path) -> Path:
        temporary = real(target)
        temporary.symlink_to("/dev/full")
        return temporary

    monkeypatch.setattr(files, "_temporary", full)
    with pytest.raises(InputError, match=rf"{path}.*No space left on device.*free some space"):
        write(path, 1)
    assert list(path.parent.iterdir()) == []


def test_rows_are_added_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.csv"
    write_csv(path, [["case_id"], ["a"]])
    append_text(path, "b\r\n")
    assert path.read_bytes() == b"case_id\r\na\r\nb\r\n"

    class Half:
        """A disk with room for two bytes."""

        def __init__(self, file: object) -> None:
            self.file = file

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

        def __enter__(self) -> Half:
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()  # type: ignore[attr-defined]

        def write(self, values: bytes) -> int:
            return self.file.write(values[:2])  # type: ignore[attr-defined]

    real = open
    monkeypatch.setattr("builtins.open", lambda *arguments, **others: Half(real(*arguments, **others)))
    with pytest.raises(InputError, match="results.csv.*No space left"):
        append_text(path, "scan\r\n")
    monkeypatch.undo()
    assert path.read_bytes() == b"case_id\r\na\r\nb\r\n"


def test_text_with_names_of_any_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"M\xfcller \xe5\x8c\xbb.png")
    write_csv(tmp_path / "a.csv", [["image"], [name]])
    assert (tmp_path / "a.csv").read_text("utf-8").splitlines()[1] == "M\\xfcller 医.png"
    write_json(tmp_path / "a.json", {"image": name})
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["image"] == name
