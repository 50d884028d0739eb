"""The tool that measures the figures of localization beside those of other packages."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from medad_plugins.errors import InputError
from medad_plugins.metrics import compute_aupro

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "benchmark_metrics.py"))


def test_the_table_names_every_contender_and_the_figures_agree(tmp_path: Path) -> None:
    file = tmp_path / "metrics.md"
    TOOL["benchmark"](output_file=str(file), repeats=1, maps=(2,), aupro_maps=2, streamed=())
    text = file.read_text(encoding="utf-8")
    assert "1 thread; numpy" in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| AUROC", "| AUPRO"))]
    assert [row[3] for row in rows] == 2 * (
        2 * ["scikit-learn (no Dice)", "MONAI (no Dice)"] + ["loop over 200 thresholds"]
    )
    for row in rows:
        difference = float(row[-1].removesuffix(" |"))
        assert difference < (1e-2 if "loop" in row[3] else 2e-4)
    assert "One streamed map" in text


def test_the_loop_with_many_thresholds_comes_to_the_same_aupro() -> None:
    maps, masks = TOOL["make_maps"](4, "smooth", 64)
    thresholds = np.linspace(maps.min(), maps.max(), 400)
    assert TOOL["aupro_loop"](maps, masks, thresholds, 0.3) == pytest.approx(compute_aupro(maps, masks), rel=5e-3)


def test_an_interpreter_without_anomalib_is_named(tmp_path: Path) -> None:
    maps, masks = TOOL["make_maps"](1, "noisy", 64)
    with pytest.raises(InputError, match="anomalib cannot be measured: .*nowhere"):
        TOOL["_anomalib"](maps, masks, str(tmp_path / "nowhere"), 1, 1, "")
