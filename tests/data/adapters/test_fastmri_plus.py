"""fastMRI+: labels and boxes of the tables, volumes and spacing of the h5 files."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medad_plugins.data import Cohort, find_cases, read_scan
from medad_plugins.data.adapters import ADAPTERS, Edition
from medad_plugins.errors import InputError
from medad_plugins.transforms import read_mask

SHAPE = (4, 12, 10)  # slices, rows, columns
HEADER = (
    '<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><subjectInformation><patientID>SECRET</patientID>'
    "</subjectInformation><encoding><encodedSpace><fieldOfView_mm><x>99</x><y>99</y><z>9</z></fieldOfView_mm>"
    "</encodedSpace><reconSpace><matrixSize><x>10</x><y>12</y><z>1</z></matrixSize><fieldOfView_mm><x>20</x><y>18</y>"
    "<z>5</z></fieldOfView_mm></reconSpace></encoding></ismrmrdHeader>"
)
LABELS = {
    "normal": [("0", "Yes", "", "Normal for age")],
    "variant": [("0", "Yes", "", "Normal variant")],
    "artefact": [("1", "No", "3,2,4,5", "Motion artifact")],
    "mass": [("1", "No", "3,2,4,5", "Mass"), ("2", "No", "0,0,2,2", "Edema")],
    "global": [("0", "Yes", "", "Enlarged ventricles")],
    "silent": [],
}
SMALL = replace(
    ADAPTERS["fastmri_plus"],
    editions=(Edition("small", {"normal": 3, "pathological": 2}),),
    sizes={("train", "normal"): 1, ("val", "normal"): 1, ("test", "normal"): 1, ("test", "pathological"): 2},
)


def name_of(kind: str, contrast: str = "AXT1") -> str:
    return f"file_brain_{contrast}_202_{2020000 + list(LABELS).index(kind)}"


def stack(kind: str) -> np.ndarray:
    return np.random.RandomState(list(LABELS).index(kind)).rand(*SHAPE).astype(np.float32)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The tables as published, with a file of another contrast; the h5 files are there by name."""
    root = tmp_path / "fastmri"
    lines = ["file,slice,study_level,x,y,width,height,label", "file_brain_AXFLAIR_200_1,0,Yes,,,,,Normal for age"]
    for kind, rows in LABELS.items():
        for index, level, corners, label in rows:
            lines.append(f"{name_of(kind)},{index},{level},{corners or ',,,'},{label}")
        path = root / "multicoil_train" / f"{name_of(kind)}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    tables = root / "fastmri-plus-main" / "Annotations"
    tables.mkdir(parents=True)
    (tables / "brain.csv").write_text("\n".join(lines), encoding="utf-8")
    names = ["file_brain_AXFLAIR_200_1", *(name_of(kind) for kind in LABELS)]
    (tables / "brain_file_list.csv").write_text("\n".join(names), encoding="utf-8")
    return root


def write_volumes(source: Path) -> None:
    h5py: Any = pytest.importorskip("h5py", reason="h5py is not installed")
    for kind in LABELS:
        with h5py.File(source / "multicoil_train" / f"{name_of(kind)}.h5", "w") as file:
            file["reconstruction_rss"] = stack(kind)
            file["ismrmrd_header"] = HEADER.encode()


def test_volumes_boxes_and_spacing(source: Path, tmp_path: Path) -> None:
    write_volumes(source)
    SMALL.prepare(source, tmp_path / "out")
    cohort = Cohort(tmp_path / "out", spatial_dims=3)
    assert (len(cohort.train), len(cohort.validation), len(cohort.test)) == (1, 1, 3)
    cases = {case["patient"]: case for case in find_cases(tmp_path / "out", split="all", spatial_dims=3)}
    assert {name for name, case in cases.items() if case["label"] == 0} == {
        name_of(kind) for kind in ("normal", "variant", "silent")
    }
    mass = cases[name_of("mass")]
    scan = read_scan(Path(mass["image"]))
    # boxes refer to the image turned upside down, as (x, y) with y downwards
    upright = stack("mass")[:, ::-1, :].transpose(2, 1, 0)
    assert np.allclose(scan[0], upright)
    assert np.allclose(np.abs(np.diag(scan[1])), [2.0, 1.5, 5.0, 1.0])
    mask = read_mask(mass["mask"], scan[0].shape)
    expected = np.zeros(upright.shape, bool)
    expected[3:7, 2:7, 1] = True
    expected[0:2, 0:2, 2] = True
    assert np.array_equal(mask, expected)
    # a finding of the whole study has no box, and a header's patient goes nowhere
    assert cases[name_of("global")]["mask"] == ""
    assert not any(b"SECRET" in file.read_bytes() for file in (tmp_path / "out").glob("*.*"))


def test_a_file_without_reconstruction_is_named(source: Path, tmp_path: Path) -> None:
    write_volumes(source)
    (source / "multicoil_train" / f"{name_of('mass')}.h5").write_bytes(b"cut")
    with pytest.raises(InputError, match="no reconstruction: .*multicoil_val"):
        SMALL.prepare(source, tmp_path / "out")
    # what was written stays and is not written again
    assert list((tmp_path / "out").rglob("*.nii.gz"))
    assert not (tmp_path / "out" / "datalist.csv").exists()


def test_a_missing_file_contrast_or_table_is_named(source: Path, tmp_path: Path) -> None:
    (source / "multicoil_train" / f"{name_of('mass')}.h5").unlink()
    with pytest.raises(InputError, match="1 of 5 missing, first file_brain_AXT1_202_2020003.h5"):
        SMALL.prepare(source, tmp_path / "out")
    with pytest.raises(InputError, match="expected AXT2, found AXFLAIR, AXT1"):
        SMALL.prepare(source, tmp_path / "out", contrast="AXT2")
    (source / "fastmri-plus-main" / "Annotations" / "brain_file_list.csv").unlink()
    with pytest.raises(InputError, match="the list of files is missing"):
        SMALL.prepare(source, tmp_path / "out")


def test_a_missing_h5py_is_named(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match="pip install h5py"):
        SMALL.prepare(source, tmp_path / "out")
