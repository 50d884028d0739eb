"""Normalisation and activation layers by name."""

from __future__ import annotations

import pytest
import torch

from medad_plugins.networks.blocks.norm_layers import activation_layer, norm_layer


@pytest.mark.parametrize("norm", ["instance", "layer", "group"])
@torch.no_grad()
def test_norms_other_than_batch_see_one_case_alone(norm: str) -> None:
    layer = norm_layer(norm, 2, 12)
    assert layer is not None and any(True for _ in layer.parameters())
    x = torch.rand(3, 12, 5, 5)
    torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]))
    if norm == "layer":
        torch.testing.assert_close(layer(x)[0], (x[0] - x[0].mean()) / (x[0].var(correction=0) + 1e-5).sqrt())


def test_layers_by_name() -> None:
    assert norm_layer("none", 2, 12) is None
    assert isinstance(norm_layer("batch", 1, 12), torch.nn.BatchNorm1d)
    with pytest.raises(ValueError, match="norm must be one of .*, got 'local'"):
        norm_layer("local", 2, 12)
    values = torch.tensor([-2.0, 3.0])
    assert activation_layer(0.0)(values.clone()).tolist() == [0.0, 3.0]
    torch.testing.assert_close(activation_layer(0.1)(values.clone()), torch.tensor([-0.2, 3.0]))
