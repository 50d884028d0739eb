"""Students of a frozen backbone: a channel that hardly ever fires does not rule loss and map."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.methods.efficient_ad import EfficientAD
from medad_plugins.methods.uninformed_students import UninformedStudents

RARE = 7
Students = EfficientAD | UninformedStudents


def _with_a_rare_channel(kind: type[Students], limit: float) -> Students:
    torch.manual_seed(0)
    network = kind(2, 1, "resnet10", "none", widths=(4, 8), limit=limit).eval()
    variance = network.get_buffer("align.scale.running_var")
    variance[RARE] = variance.min() * 1e-4
    return network


def _scans() -> Tensor:
    return torch.rand(2, 1, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [EfficientAD, UninformedStudents])
def test_a_rare_channel_is_cut_off(kind: type[Students]) -> None:
    scans, share = _scans(), {}
    for limit in (0.0, 3.0):
        network = _with_a_rare_channel(kind, limit)
        with torch.no_grad():
            whole = network.align(network.features(scans))
            expected = whole.clamp(-limit, limit) if limit else whole
            torch.testing.assert_close(network.known(scans), expected)
            torch.testing.assert_close(network.taught(scans), expected)
            missed = (network.known(scans) - network.described(scans)[0][:, : network.width]).square().mean((0, 2, 3))
            share[limit] = float(missed[RARE] / missed.sum())
            network.parts(scans)[0].sum()
    assert share[0.0] > 0.3 and share[3.0] < 0.1, share


def test_a_limit_is_not_negative() -> None:
    with pytest.raises(InputError, match="limit"):
        EfficientAD(2, 1, "resnet10", "none", widths=(4, 8), limit=-1.0)
