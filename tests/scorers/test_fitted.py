"""Buffers that take their size from a checkpoint."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.scorers.fitted import FittedModule


class Memory(FittedModule):
    """A bank of unknown size, a parameter of known size and an integer."""

    def __init__(self) -> None:
        super().__init__()
        self.bank: Tensor = nn.Buffer(torch.empty(0))
        self.count: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.scale = nn.Parameter(torch.ones(2))


def _fitted() -> nn.Sequential:
    model = nn.Sequential(Memory(), nn.BatchNorm1d(2))
    model[0].bank = torch.rand(5, 3)
    model[0].count = torch.tensor(5)
    return model


def test_sizes_come_with_a_strict_load() -> None:
    fitted: Any = _fitted()
    other: Any = nn.Sequential(Memory(), nn.BatchNorm1d(2))
    assert other.load_state_dict(fitted.state_dict(), strict=True).missing_keys == []
    assert torch.equal(other[0].bank, fitted[0].bank) and int(other[0].count) == 5
    # still a buffer, with memory of its own
    assert "0.bank" in dict(other.named_buffers())
    other[0].bank.zero_()
    assert float(fitted[0].bank.sum()) > 0


def test_a_fitted_module_takes_another_size_and_none() -> None:
    fitted = _fitted()
    larger = _fitted()
    larger[0].bank = torch.rand(9, 3)
    fitted.load_state_dict(larger.state_dict())
    assert fitted[0].bank.shape == (9, 3)
    fitted.load_state_dict(nn.Sequential(Memory(), nn.BatchNorm1d(2)).state_dict())
    assert fitted[0].bank.shape == (0,)


def test_the_type_is_the_modules() -> None:
    state = _fitted().state_dict()
    state["0.bank"] = state["0.bank"].double()
    other = nn.Sequential(Memory(), nn.BatchNorm1d(2))
    other.load_state_dict(state)
    assert other[0].bank.dtype == torch.float32


def test_parameters_and_missing_buffers_are_as_strict_as_ever() -> None:
    state = _fitted().state_dict()
    with pytest.raises(RuntimeError, match="size mismatch for 0.scale"):
        _fitted().load_state_dict({**state, "0.scale": torch.ones(3)})
    del state["0.bank"]
    with pytest.raises(RuntimeError, match='Missing key.*"0.bank"'):
        _fitted().load_state_dict(state)
