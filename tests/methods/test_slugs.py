"""One file or folder of `medad_plugins.methods` for each bundle, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bundle_runs import BUNDLES
from torch import nn

import medad_plugins.methods
from medad_plugins.methods.anatpaste import AnatPaste
from medad_plugins.methods.cutpaste import CutPaste
from medad_plugins.methods.fpi import FPI
from medad_plugins.methods.nsa import NSA
from medad_plugins.methods.pii import PII
from medad_plugins.networks import PixelPredictor, PretextClassifier


def test_methods_and_bundles_have_the_same_slugs() -> None:
    entries = Path(medad_plugins.methods.__path__[0]).iterdir()
    assert sorted(entry.stem for entry in entries if not entry.name.startswith("__")) == BUNDLES


@pytest.mark.parametrize(
    ("method", "family"),
    [
        (FPI, PixelPredictor),
        (PII, PixelPredictor),
        (NSA, PixelPredictor),
        (CutPaste, PretextClassifier),
        (AnatPaste, PretextClassifier),
    ],
)
def test_a_configured_method_is_its_family(method: type[nn.Module], family: type[nn.Module]) -> None:
    states = []
    for kind in (method, family):
        torch.manual_seed(0)
        states.append(kind(weights="none").state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
