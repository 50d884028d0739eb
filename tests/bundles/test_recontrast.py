"""What stands in ReContrast's train.yaml and in no other: the schedule of its hard mining and its two rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bundle_runs import copy_bundle, open_config, small_values, write_cohort
from monai.utils import set_determinism

pytestmark = pytest.mark.usefixtures("process_settings")
ITERATIONS = 40


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort") / "2d", 2)


@pytest.fixture
def workflow(cohort: Path, tmp_path: Path) -> Any:
    values = small_values("recontrast", max_iterations=ITERATIONS, datalist="fitting.csv", batch_size=2)
    return open_config(copy_bundle("recontrast", tmp_path), "train", dataset_dir=str(cohort), **values)


def test_hardness_rises_from_minus_3_to_1_in_the_first_tenth(workflow: Any) -> None:
    loss = workflow.parser.get_parsed_content("loss")
    seen: list[float] = []
    loss.register_forward_pre_hook(lambda module, _: seen.append(module.hardness))
    try:
        workflow.run()
    finally:
        set_determinism(None)
    assert loss.weight == 0.5 and loss.easy_factor == 0
    assert seen == pytest.approx([min(-3 + 4 * done / (0.1 * ITERATIONS), 1) for done in range(ITERATIONS)])


def test_encoder_and_the_rest_learn_at_their_rates(workflow: Any) -> None:
    network, optimizer = workflow.network_def, workflow.parser.get_parsed_content("optimizer")
    slow, fast = optimizer.param_groups
    assert (slow["lr"], fast["lr"], slow["weight_decay"], fast["weight_decay"]) == (1e-5, 2e-3, 1e-5, 1e-5)
    assert len(slow["params"]) == len(list(network.encoder.parameters()))
    learning = {id(p) for p in network.parameters() if p.requires_grad}
    assert {id(p) for group in (slow, fast) for p in group["params"]} == learning
    assert learning.isdisjoint(id(p) for p in network.teacher.parameters())
