"""A bundle that does what its keys say, for tests of what runs bundles."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_scripted_bundle"]

# A bundle of MONAI's in seven lines: writes the figures of its keys, or fails as its keys say.
TRAIN = """
imports: [$import json, $import os, $import pathlib, "$from medad_plugins.bundle import begin"]
bundle_root: ''
output_dir: ''
ckpt_path: ''
seed: 0
auroc: 0.5
crash: ''
content: "$json.dumps({'auroc': @auroc + @seed, 'run': {'torch': 'x'}})"
folder: $pathlib.Path(@output_dir).mkdir(parents=True, exist_ok=True)
figures: $@crash or (@folder, (pathlib.Path(@output_dir) / 'evaluation.json').write_text(@content))
initialize: ["$begin('train')"]
run: ["$os.kill(os.getpid(), 9) if @crash == 'kill' else None", $@figures]
"""


def write_scripted_bundle(parent: Path) -> Path:
    """Write the bundle ``scripted`` below ``parent/bundles``, and return that folder."""
    configs = parent / "bundles" / "scripted" / "configs"
    configs.mkdir(parents=True, exist_ok=True)
    (configs / "train.yaml").write_text(TRAIN, encoding="utf-8")
    (configs / "metadata.json").write_text("{}", encoding="utf-8")
    return parent / "bundles"
