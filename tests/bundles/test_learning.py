"""Every bundle learns: after a short training it finds the lesions of the sample cohort better than before.

Where one declares that it cannot, that must be so: when it can, the declaration goes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bundle_runs import BUNDLES, cannot, copy_bundle, declared, open_config, read_config
from monai.bundle import ConfigWorkflow
from monai.utils import set_determinism
from sklearn.metrics import roc_auc_score

from medad_plugins.data import FaultTolerantLoader
from medad_plugins.engines import score_cases

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_settings")]
QUICK = {"image_size": 64, "batch_size": 8, "backbone": "resnet10", "weights": "none", "device": "cpu"}


def _quick_values(bundle: str) -> dict[str, Any]:
    """Keys for a training of seconds, those that the bundle's metadata names under ``medad.learning`` first."""
    keys = read_config(bundle, "train")
    return {**{key: value for key, value in QUICK.items() if key in keys}, **declared(bundle).get("learning", {})}


def _no_pictures(bundle: str) -> dict[str, Any]:
    handlers = read_config(bundle, "train")["train"]["handlers"]
    assert handlers[-1]["_target_"].endswith("StandardHandlers")
    return {f"train::handlers::{len(handlers) - 1}::test_pictures": 0}


def _auroc(workflow: ConfigWorkflow) -> float:
    """AUROC of the network as it stands, on the test set of the sample cohort."""
    setup = workflow.parser.get_parsed_content("setup")
    loader = FaultTolerantLoader(setup.cohort.test, setup.preprocessing, batch_size=20)
    scored = list(score_cases(workflow.network_def, loader, setup.inferer))
    assert len(scored) == 120
    return float(roc_auc_score([case.label for case in scored], [case.score for case in scored]))


@pytest.mark.parametrize("bundle", BUNDLES)
def test_trained_beats_untrained(bundle: str, tmp_path: Path) -> None:
    workflow = open_config(copy_bundle(bundle, tmp_path), "train", **_quick_values(bundle), **_no_pictures(bundle))
    try:
        before = _auroc(workflow)
    except RuntimeError:  # nothing can be scored before it has been fitted
        before = 0.5
    try:
        workflow.run()
        after = _auroc(workflow)
    finally:
        set_determinism(None)
    print(f"{bundle}: AUROC {before:.3f} before, {after:.3f} after")
    assert (after >= max(0.75, before + 0.1)) != cannot(bundle, "short_training")
