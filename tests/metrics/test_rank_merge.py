"""Two real processes see different cases and report the same figures as one that sees all."""

from __future__ import annotations

import json
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import pytest
import torch

from medad_plugins.metrics import DetectionMetric, LocalizationMetric

_CASES = 25


def _case(index: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Values of other magnitude in later cases, so that ranks need different bins."""
    random = np.random.default_rng(index)
    truth = np.zeros((40, 36), dtype=bool)
    if index % 3:
        truth[4:12, 4 : 6 + index % 7] = True
    values = random.normal(size=truth.shape) * (1 + index) ** 2 + truth * 30 - 5
    return values.astype(np.float32), truth, f"patient {index // 2}"


def _figures(indices: range) -> str:
    localization = LocalizationMetric(40.0, froc_thresholds=[100.0], resamples=50)
    detection = DetectionMetric(resamples=50)
    for index in indices:
        values, truth, patient = _case(index)
        localization.update(values, truth, patient)
        score = torch.tensor([[float(np.sort(values.ravel())[-5]), 1 / (1 + index)]])
        detection(score, torch.tensor([int(truth.any())]), [patient])
    localization.aggregate()  # asking twice must not count anybody twice
    return json.dumps([localization.aggregate(), detection.aggregate()])


def _rank(rank: int, folder: str) -> None:
    # shares of different sizes, as the last batch leaves them
    share = range(0, 9) if idist.get_rank() == 0 else range(9, _CASES)
    Path(folder, f"{rank}.json").write_text(_figures(share), encoding="utf-8")


def _flat(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in _flat(value[key])]
    if isinstance(value, list):
        return [number for item in value for number in _flat(item)]
    return [-1.0 if value is None else float(str(value))]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch is built without torch.distributed")
def test_two_ranks_give_what_one_process_gives(tmp_path: Path) -> None:
    idist.spawn("gloo", _rank, (str(tmp_path),), nproc_per_node=2)
    expected = json.loads(_figures(range(_CASES)))
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    assert ranks[0][0]["n_masked"] == expected[0]["n_masked"] == 16
    for index in (0, 1):
        assert _flat(ranks[0][index]) == pytest.approx(_flat(expected[index]), rel=1e-5, abs=1e-6)
