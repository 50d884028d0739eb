"""Attributes that reveal the label."""

from __future__ import annotations

import numpy as np
import pytest

from medad_plugins.audit.shortcuts import _holm, find_shortcuts


def test_what_tells_the_label_is_found_and_noise_is_not() -> None:
    random = np.random.RandomState(0)
    labels = np.repeat([0, 1], 100)
    attributes: list[dict[str, float | str]] = [
        {
            "width": 256.0,
            "height": float(random.choice([300, 400]) + 100 * label),
            "file type": ["jpg", "png"][label if random.rand() < 0.9 else 1 - label],
            "noise": random.randn(),
            # abnormal in the middle: no order separates them, a tree does
            "middle": float(random.uniform(-1, 1) if label else random.choice([-1, 1]) * random.uniform(1.1, 2)),
        }
        for label in labels
    ]
    found = {shortcut.attribute: shortcut for shortcut in find_shortcuts(attributes, labels)}
    assert set(found) == {"height", "file type", "noise", "middle"}, "what is the same for all predicts nothing"
    assert found["middle"].auroc > 0.95
    assert found["file type"].auroc == pytest.approx(0.9, abs=0.06)
    assert 0.7 < found["height"].auroc < 0.95
    assert found["noise"].auroc < 0.6 and found["noise"].p_value > 0.05
    assert max(found[name].p_value for name in ("middle", "file type", "height")) < 1e-5
    assert found["file type"].normal.startswith("jpg (") and found["file type"].abnormal.startswith("png (")


def test_noise_is_seldom_called_a_shortcut() -> None:
    labels = np.repeat([0, 1], [40, 60])
    called = 0
    for seed in range(15):
        random = np.random.RandomState(seed)
        values = random.randn(100, 8)
        attributes: list[dict[str, float | str]] = [{f"a{k}": float(v) for k, v in enumerate(row)} for row in values]
        called += min(shortcut.p_value for shortcut in find_shortcuts(attributes, labels)) < 0.05
    assert called <= 2


def test_few_cases_of_a_class_say_nothing() -> None:
    attributes: list[dict[str, float | str]] = [{"width": float(k)} for k in range(30)]
    assert find_shortcuts(attributes, np.array([0] * 21 + [1] * 9)) == []


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    assert _holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert _holm([0.6, 0.9]) == [1.0, 1.0]
