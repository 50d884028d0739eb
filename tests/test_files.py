"""Writing results so that a file is either complete or not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medad_plugins.errors import InputError
from medad_plugins.files import atomic_path, home_path, output_folder, require_place, write_json


def test_atomic_path_replaces_on_success(tmp_path: Path) -> None:
    target = tmp_path / "map.nii.gz"
    target.write_text("old")
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_path_keeps_the_old_file_on_failure(tmp_path: Path) -> None:
    target = tmp_path / "results.json"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_written_files_can_be_read_by_others(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    write_json(tmp_path / "a.json", {"a": 1})
    assert (tmp_path / "a.json").stat().st_mode == plain.stat().st_mode
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"output folder cannot be written.*file/results.*--output_dir"):
        output_folder(tmp_path / "file" / "results")


def test_a_full_disk_is_an_input_error(tmp_path: Path) -> None:
    import errno

    with pytest.raises(InputError, match=r"No space left.*--output_dir"), atomic_path(tmp_path / "a.json"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_place_that_a_model_cannot_be_written_to_is_known_at_once(tmp_path: Path) -> None:
    require_place(tmp_path / "models" / "model.pt")
    with pytest.raises(InputError, match=r"there is a folder in place of the file: .*models; .*--ckpt_path"):
        require_place(tmp_path / "models")
    with pytest.raises(InputError, match=r"File name too long.*shorter name"):
        require_place(tmp_path / ("m" * 250))


def test_a_name_that_no_disk_takes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a name is too long for this disk: .*xxx; shorten it"):
        home_path(tmp_path / ("x" * 300))
    with pytest.raises(InputError, match=r"a name is too long"):
        home_path("医" * 90)


def test_other_faults_keep_their_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.json"):
        (tmp_path / "not there").read_text()


def test_a_file_in_place_of_the_folder_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file cannot be written: .*file/a.json .*Not a directory.*--output_dir"):
        write_json(tmp_path / "file" / "a.json", {})
