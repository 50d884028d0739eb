"""Plans of a benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from medad_plugins.benchmark import quick_plan, read_plan, survey_figures
from medad_plugins.errors import InputError

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bundles_dir(tmp_path: Path) -> Path:
    """Two bundles and a folder that is none."""
    for name in ("ae", "edc"):
        (tmp_path / "bundles" / name / "configs").mkdir(parents=True)
        (tmp_path / "bundles" / name / "configs" / "train.yaml").touch()
    (tmp_path / "bundles" / "notes").mkdir()
    return tmp_path / "bundles"


def _plan(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_cells_are_all_combinations_with_their_keys(tmp_path: Path, bundles_dir: Path) -> None:
    text = f"""
    datasets:
      one: {{dataset_dir: {tmp_path}, where: rep=1, bundles: {{edc: {{image_size: 64}}}}}}
      two: {{}}
    bundles: {{ae: {{latent_size: 4}}, edc: {{image_size: 128}}}}
    seeds: [0, 3]
    """
    plan = read_plan(_plan(tmp_path, text), bundles_dir)
    cells = plan.cells()
    assert [(cell.dataset, cell.bundle, cell.seed) for cell in cells[:4]] == [
        ("one", "ae", 0),
        ("one", "edc", 0),
        ("two", "ae", 0),
        ("two", "edc", 0),
    ]
    assert len(cells) == 8
    assert cells[0].keys == {"dataset_dir": str(tmp_path), "where": "rep=1", "latent_size": 4}
    assert cells[1].keys["image_size"] == 64  # the data set's own beats the bundle's
    assert cells[3].keys["image_size"] == 128
    assert [cell.name for cell in plan.only(["ae"], ["two"], [7]).cells()] == ["ae on two, seed 7"]


def test_command(tmp_path: Path, bundles_dir: Path) -> None:
    keys = "in_channels: 3, flip: true, sizes: [1, 2], weights: [/a/b-1.pth, none]"
    text = f"datasets: {{one: {{{keys}}}}}\nbundles: {{edc: }}\nseeds: [5]"
    (cell,) = read_plan(_plan(tmp_path, text), bundles_dir).cells()
    arguments = cell.arguments(bundles_dir, Path("out"))
    assert arguments[:5] == ["-m", "monai.bundle", "run", "--config_file", str(bundles_dir / "edc/configs/train.yaml")]
    assert dict(zip(arguments[5::2], arguments[6::2], strict=True)) == {
        "--in_channels": "3",
        "--flip": "true",
        "--sizes": "[1, 2]",
        "--weights": '["/a/b-1.pth", "none"]',
        "--seed": "5",
        "--output_dir": "out/one/edc/seed5/test",
        "--ckpt_path": "out/one/edc/seed5/model.pt",
    }


def test_variables_are_filled_in(tmp_path: Path, bundles_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _plan(tmp_path, "datasets: {one: {dataset_dir: $SCANS_FOR_TEST}}")
    monkeypatch.setenv("SCANS_FOR_TEST", str(tmp_path))
    assert read_plan(path, bundles_dir).datasets[0].keys == {"dataset_dir": str(tmp_path)}
    monkeypatch.delenv("SCANS_FOR_TEST")
    with pytest.raises(InputError, match="an environment variable is not set.*SCANS_FOR_TEST"):
        read_plan(path, bundles_dir)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("datasets: {}", "the plan has no data set"),
        ("data: {one: {}}", "there is no such key.*did you mean datasets"),
        ("datasets: {one: {}}\nbundles: {edcc: {}}", "there is no such bundle.*found edcc.*did you mean edc"),
        ("datasets: {one: {dataset_dir: /no/such/folder}}", "the data folder does not exist.*/no/such/folder"),
        ("datasets: {one: {survey: br35h}}", "the survey has no such data set.*Br35H.*found br35h"),
        ("datasets: {../one: {}}", "name cannot be used"),
        ("datasets: [", "not valid YAML"),
        ("- one", "the plan does not have the expected form"),
    ],
)
def test_faulty_plans(tmp_path: Path, bundles_dir: Path, text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=f"(?s){sentence}"):
        read_plan(_plan(tmp_path, text), bundles_dir)


def test_missing_plan_and_bundles(tmp_path: Path, bundles_dir: Path) -> None:
    with pytest.raises(InputError, match="the plan cannot be read"):
        read_plan(tmp_path / "none.yaml", bundles_dir)
    with pytest.raises(InputError, match="there are no bundles"):
        quick_plan(tmp_path / "empty")
    with pytest.raises(InputError, match="no such data set.*sample_cohort"):
        quick_plan(bundles_dir).only(datasets=["mine"])


def test_quick_plan_has_every_bundle(bundles_dir: Path) -> None:
    assert [cell.name for cell in quick_plan(bundles_dir).cells()] == [
        "ae on sample_cohort, seed 0",
        "edc on sample_cohort, seed 0",
    ]


@pytest.mark.parametrize("path", sorted((PROJECT / "tools" / "plans").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_projects_plans_can_be_read(
    path: Path, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDAD_DATA", str(shared_data))
    monkeypatch.setenv("MEDAD_PREPARED", str(tmp_path))
    for name in ("pneumoniamnist_28", "br35h_audited", "hippocampus_made", "hippocampus_blobs", "oasis_lesions"):
        (tmp_path / name).mkdir()
    assert read_plan(path, PROJECT / "bundles").cells()


def test_survey() -> None:
    assert survey_figures("edc", "Br35H") == (0.9985, 0.9935)
    assert survey_figures("padim", "RSNA") == (0.8148, 0.7816)
    assert survey_figures("mine", "RSNA") is None
    with pytest.raises(ValueError, match="no results on MNIST"):
        survey_figures("edc", "MNIST")
