"""The token transformer against a plain computation of both its kinds of decoder, and what it may not see."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medad_plugins.networks.coders.token_transformer import TokenTransformer

GRID, CHANNELS, WIDTH, HEADS = [3, 4], 5, 8, 2


def _transformer(**settings: Any) -> TokenTransformer:
    torch.manual_seed(0)
    values = {"encoder_layers": 2, "decoder_layers": 2, "hidden": 6, **settings}
    network = TokenTransformer(GRID, CHANNELS, WIDTH, HEADS, **values)
    for parameter in network.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return network.eval()


def _features(*grid: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, CHANNELS, *grid, generator=torch.Generator().manual_seed(3))


class Plain:
    """Every step written out with NumPy for one case: tokens ``(P, D)``."""

    def __init__(self, state: Mapping[str, Tensor], hidden: np.ndarray | None) -> None:
        self.state = {name: value.double().numpy() for name, value in state.items()}
        self.hidden = hidden

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
        return scaled * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def attention(self, name: str, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        q, k, v = (self.linear(f"{name}.{p}", x) for p, x in (("query", query), ("key", key), ("value", value)))
        parts = []
        for head in range(HEADS):
            own = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
            likeness = q[:, own] @ k[:, own].T / np.sqrt(WIDTH / HEADS)
            if self.hidden is not None:
                likeness = np.where(self.hidden, -np.inf, likeness)
            weights = np.exp(likeness - likeness.max(1, keepdims=True))
            parts.append(weights / weights.sum(1, keepdims=True) @ v[:, own])
        return self.linear(f"{name}.out", np.concatenate(parts, 1))

    def perceptron(self, name: str, x: np.ndarray) -> np.ndarray:
        return self.linear(f"{name}.3", np.maximum(self.linear(f"{name}.0", x), 0))

    def positions(self) -> np.ndarray:
        tables = [self.state[f"positions.axes.{axis}.table"] for axis in range(len(GRID))]
        places = itertools.product(*map(range, GRID))
        return np.stack([np.concatenate([table[i] for table, i in zip(tables, place)]) for place in places])

    def __call__(self, features: np.ndarray, layerwise: bool) -> np.ndarray:
        where = self.positions()
        memory = self.linear("inwards", features.reshape(CHANNELS, -1).T)
        for layer in range(2):
            at = f"encoder.{layer}"
            memory = self.norm(
                f"{at}.norm1", memory + self.attention(f"{at}.attention", memory + where, memory + where, memory)
            )
            memory = self.norm(f"{at}.norm2", memory + self.perceptron(f"{at}.perceptron", memory))
        x = memory if layerwise else self.state["queries.0.queries"]
        for layer in range(2):
            at = f"decoder.{layer}"
            query = self.state[f"queries.{layer}.queries"] if layerwise else x
            first, second = (memory, x) if layerwise else (x, memory)
            x = self.norm(
                f"{at}.norm1", query + self.attention(f"{at}.attention1", query + where, first + where, first)
            )
            x = self.norm(f"{at}.norm2", x + self.attention(f"{at}.attention2", x + where, second + where, second))
            x = self.norm(f"{at}.norm3", x + self.perceptron(f"{at}.perceptron", x))
        rebuilt: np.ndarray = self.linear("outwards", self.norm("norm", x)).T.reshape(CHANNELS, *GRID)
        return rebuilt


@pytest.mark.parametrize("layerwise", [False, True])
@pytest.mark.parametrize("neighbourhood", [0, 3])
@torch.no_grad()
def test_it_is_what_is_written_out(layerwise: bool, neighbourhood: int) -> None:
    network = _transformer(layerwise_queries=layerwise, neighbourhood=neighbourhood)
    hidden = None
    if neighbourhood:
        places = list(itertools.product(*map(range, GRID)))
        hidden = np.array([[max(abs(a - b) for a, b in zip(one, other)) <= 1 for other in places] for one in places])
    plain = Plain(network.state_dict(), hidden)
    features = _features(*GRID)
    expected = np.stack([plain(case.double().numpy(), layerwise) for case in features])
    np.testing.assert_allclose(network(features).numpy(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("grid", [(5, 6), (4, 4, 3)])
def test_what_is_hidden_cannot_be_copied(grid: tuple[int, ...]) -> None:
    """Of one decoder layer without an encoder, a place's output knows nothing of its window."""
    torch.manual_seed(0)
    network = TokenTransformer(
        list(grid), CHANNELS, WIDTH, HEADS, 6, 0, 1, layerwise_queries=True, neighbourhood=3
    ).eval()
    features = _features(*grid, batch=1).requires_grad_()
    place = (1,) * len(grid)
    network(features)[(0, slice(None), *place)].sum().backward()
    assert features.grad is not None
    seen = features.grad[0].abs().sum(0) > 0
    for other in itertools.product(*map(range, grid)):
        assert bool(seen[other]) == (max(abs(a - b) for a, b in zip(place, other)) > 1)


def test_noise_and_dropout_are_of_training_alone() -> None:
    network = _transformer(jitter=20.0, dropout=0.1)
    features = _features(*GRID)
    assert torch.equal(network(features), network(features))
    torch.manual_seed(1)
    first = network.train()(features)
    torch.manual_seed(1)
    assert torch.equal(network(features), first), "the same seed draws the same"
    assert not torch.equal(network(features), first)


def test_every_layer_has_queries_of_its_own_where_asked() -> None:
    assert len(_transformer(layerwise_queries=True, decoder_layers=3).queries) == 3
    assert len(_transformer(decoder_layers=3).queries) == 1


@torch.no_grad()
def test_another_grid_and_a_script() -> None:
    network = _transformer(layerwise_queries=True, neighbourhood=3, positions="sine")
    features = _features(6, 5)
    rebuilt = network(features)
    assert rebuilt.shape == features.shape
    torch.testing.assert_close(torch.jit.script(network)(features), rebuilt)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="there must be a decoder layer"):
        _transformer(decoder_layers=0)
    with pytest.raises(ValueError, match="neighbourhood must be odd, or 0 for none, got 4"):
        _transformer(neighbourhood=4)
