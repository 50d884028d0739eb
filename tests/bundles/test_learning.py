"""Every bundle learns: after a short training it finds the lesions of the sample cohort better than before.

Where one declares that it cannot, that must be so: when it can, the declaration goes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bundle_runs import BUNDLES, auroc_of, cannot, copy_bundle, declared, no_pictures, open_config, read_config
from monai.utils import set_determinism

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_settings")]
QUICK = {"image_size": 64, "batch_size": 8, "backbone": "resnet10", "weights": "none", "device": "cpu"}


def _quick_values(bundle: str) -> dict[str, Any]:
    """Keys for a training of seconds, those that the bundle's metadata names under ``medad.learning`` first."""
    keys = read_config(bundle, "train")
    return {**{key: value for key, value in QUICK.items() if key in keys}, **declared(bundle).get("learning", {})}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_trained_beats_untrained(bundle: str, tmp_path: Path) -> None:
    workflow = open_config(copy_bundle(bundle, tmp_path), "train", **_quick_values(bundle), **no_pictures(bundle))
    try:
        before = auroc_of(workflow, 120)
    except RuntimeError:  # nothing can be scored before it has been fitted
        before = 0.5
    try:
        workflow.run()
        after = auroc_of(workflow, 120)
    finally:
        set_determinism(None)
    print(f"{bundle}: AUROC {before:.3f} before, {after:.3f} after")
    assert (after >= max(0.75, before + 0.1)) != cannot(bundle, "short_training")
