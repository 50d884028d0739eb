"""The examples in the docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import medad_plugins

PACKAGE = Path(medad_plugins.__file__).parent

# what users of Python call first, as they import it
SHOWN = """
    data.Cohort data.IterationLoader data.PassLoader data.ScanFormat data.cached_dataset data.find_cases
    data.find_scans data.generate_case data.hold_out data.read_datalist data.read_scan data.sample_cohort
    engines.FittingTrainer engines.GradientTrainer engines.ModelFile engines.NamedOptimizers engines.Phase
    engines.PhasedTrainer engines.ScanBatch engines.TrainingSetup engines.parameters_of engines.save_model
    engines.score_cases errors.InputError
    inferers.PrecisionInferer inferers.SlicewiseInferer inferers.scan_inferer
    losses.GlobalCosineLoss losses.ResidualLoss
    methods.ae.ConvAE methods.edc.EDC methods.padim.PaDiM
    metrics.DetectionMetric metrics.LocalizationMetric metrics.PixelCounts metrics.binomial_interval
    metrics.compute_aupro metrics.compute_pixel_metrics metrics.describe_detection metrics.detection_summary
    metrics.dice metrics.lesions.false_components metrics.lesions.find_lesions
    networks.AnomalyNetwork networks.find_weights
    scorers.Calibration scorers.MapPool scorers.residual_map
    synthesis.Host synthesis.Recipe synthesis.SynthesizeAnomalyd
    transforms.AnomalyPostprocessing transforms.ScanPreprocessing
""".split()


def _examples() -> Iterator[doctest.DocTest]:
    """Every docstring with an example, of the modules whose text has a prompt: the others need not be imported."""
    finder = doctest.DocTestFinder()
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>>" in path.read_text(encoding="utf-8"):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
            yield from (test for test in finder.find(module) if test.examples)


EXAMPLES = {example.name.removeprefix("medad_plugins."): example for example in _examples()}


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.usefixtures("process_settings")
def test_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # examples write where they are
    example = EXAMPLES[name]
    # copied elsewhere it must work too, so all but these it has to import
    own = example.name.removeprefix(example.globs["__name__"] + ".").partition(".")[0]
    names = {"np": np, "torch": torch, own: example.globs[own]}
    report: list[str] = []
    test = doctest.DocTest(example.examples, names, example.name, example.filename, example.lineno, example.docstring)
    failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert not failed, "".join(report)


@pytest.mark.parametrize("name", SHOWN)
def test_what_users_call_first_has_an_example(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    shown = getattr(importlib.import_module(f"medad_plugins.{module}"), attribute)
    assert f"{shown.__module__}.{shown.__qualname__}".removeprefix("medad_plugins.") in EXAMPLES
    assert "Example:\n" in shown.__doc__
