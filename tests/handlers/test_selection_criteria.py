"""What weights are chosen by: plain figures of held-out normal scans, as they are and with synthetic anomalies."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from medad_plugins.data import Case
from medad_plugins.errors import InputError
from medad_plugins.handlers.selection_criteria import NormalMaps, SyntheticAnomalies
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.synthesis.published import cutpaste, held_out_recipes, many_tasks, nsa, pii

PREPARE = Compose([LoadImaged("image", image_only=True), EnsureChannelFirstd("image")])


class _Brightness(AnomalyNetwork):
    """The map is the scan times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__("mean")
        self.factor = factor

    def anomaly_map(self, image: Tensor) -> Tensor:
        assert not self.training
        return image * self.factor


def _cases(folder: Path, count: int, dims: int = 2, level: float = 1.0) -> list[Case]:
    rng = np.random.RandomState(0)
    cases = []
    for number in range(count):
        scan = np.zeros((24,) * dims, dtype=np.float32)
        scan[(slice(4, 20),) * dims] = level * (0.3 + 0.4 * rng.rand(*(16,) * dims))
        np.save(folder / f"{number}.npy", scan)
        cases.append({"image": str(folder / f"{number}.npy"), "case_id": str(number)})
    return cases


def test_normal_maps_are_judged_by_their_mean(tmp_path: Path) -> None:
    cases = _cases(tmp_path, 11)
    criterion = NormalMaps(cases, PREPARE)
    criterion.prepare()
    network = _Brightness(2.0).train()
    expected = -np.mean([2 * np.load(case["image"]).mean() for case in cases])
    assert criterion(network, SimpleInferer()) == pytest.approx(expected, rel=1e-5)
    assert network.training
    with pytest.raises(InputError, match="no held-out normal case could be read"):
        NormalMaps([{"image": str(tmp_path / "none.npy"), "case_id": "none"}], PREPARE).prepare()


@pytest.mark.parametrize("dims", [2, 3])
def test_synthetic_anomalies_are_judged_by_both_figures(tmp_path: Path, dims: int) -> None:
    criterion = SyntheticAnomalies(_cases(tmp_path, 10, dims), PREPARE, [cutpaste("box"), many_tasks()[3]])
    criterion.prepare()
    assert len(criterion.anomalies) == 10
    assert all(torch.equal((one.clean != one.image).any(0, keepdim=True), one.mask > 0) for one in criterion.anomalies)
    # brighter where the anomaly is, by hand
    scores = [float(one.clean.mean()) for one in criterion.anomalies] + [
        float(one.image.mean()) for one in criterion.anomalies
    ]
    precisions = [average_precision_score(one.mask.flatten(), one.image.flatten()) for one in criterion.anomalies]
    auroc = roc_auc_score([0] * 10 + [1] * 10, scores)
    found = criterion(_Brightness(), SimpleInferer())
    assert found == pytest.approx((auroc + np.mean(precisions)) / 2, abs=1e-6)
    assert math.isnan(criterion(_Brightness(math.nan), SimpleInferer()))
    # the same anomalies in the next run
    again = SyntheticAnomalies(criterion.cases, PREPARE, criterion.recipes)
    again.prepare()
    assert all(torch.equal(one.image, two.image) for one, two in zip(criterion.anomalies, again.anomalies, strict=True))


def test_at_most_so_many_and_from_the_whole_list(tmp_path: Path) -> None:
    cases = _cases(tmp_path, 11)
    chosen = SyntheticAnomalies(cases, PREPARE, [pii()], most=3).cases
    assert [case["case_id"] for case in chosen] == ["0", "5", "10"]


def test_one_scan_does_with_recipes_that_take_nothing_foreign(tmp_path: Path) -> None:
    criterion = SyntheticAnomalies(_cases(tmp_path, 1), PREPARE, [pii(), cutpaste("box")])
    criterion.prepare()
    assert len(criterion.anomalies) == 1


def test_what_is_trained_with_is_not_chosen_by() -> None:
    names = {recipe.name for recipe in held_out_recipes()}
    assert names >= {"fpi", "pii", "nsa", "cutpaste_box", "cutpaste_scar", "anatpaste", "circle", "noise_blend", "sink"}
    assert names - {recipe.name for recipe in held_out_recipes([nsa(0.5), *many_tasks()])} == {
        "nsa",
        *(recipe.name for recipe in many_tasks()),
    }
    with pytest.raises(ValueError, match="every recipe is trained with"):
        SyntheticAnomalies([], PREPARE, [])


def test_scans_without_a_body_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no anomaly can be made.*--select_by last"):
        SyntheticAnomalies(_cases(tmp_path, 3, level=0), PREPARE, [cutpaste("box")]).prepare()
