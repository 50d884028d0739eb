"""Blocks and codebook: layout, choice by cosine, gradients, and how the codes follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.methods.p_vq.quantizer import PatchBlocks, PatchQuantizer


def _vectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _quantizer(dimensions: int = 6, codes: int = 8, **arguments: float) -> PatchQuantizer:
    torch.manual_seed(0)
    return PatchQuantizer(dimensions, codes, **arguments)


# blocks


@pytest.mark.parametrize("grid", [(4, 6), (4, 2, 6)])
def test_a_block_is_one_vector(grid: tuple[int, ...]) -> None:
    x = _vectors(2, 3, *grid)
    blocks = PatchBlocks(len(grid), 2)(x)
    assert blocks.shape == (2, 3 * 2 ** len(grid), *(edge // 2 for edge in grid))
    for place in np.ndindex(*blocks.shape[2:]):
        block = x
        for axis, start in enumerate(place):
            block = block.narrow(2 + axis, 2 * start, 2)
        assert torch.equal(blocks.movedim((0, 1), (-2, -1))[place], block.reshape(2, -1))


@pytest.mark.parametrize(("grid", "size"), [((4, 6), 2), ((5, 7), 2), ((3, 5, 4), 2), ((7, 4), 3), ((5, 4), 1)])
def test_blocks_join_again(grid: tuple[int, ...], size: int) -> None:
    x, blocks = _vectors(2, 3, *grid), PatchBlocks(len(grid), size)
    assert torch.equal(blocks.join(blocks(x), list(grid)), x)


def test_a_grid_that_does_not_divide_is_continued_by_its_last_cells() -> None:
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert PatchBlocks(2, 2)(x)[0, :, 1, 1].tolist() == [8, 8, 8, 8]
    assert PatchBlocks(2, 2)(x)[0, :, 0, 1].tolist() == [2, 2, 5, 5]


# choice


@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 2)])
def test_takes_the_nearest_code_by_cosine(grid: tuple[int, ...]) -> None:
    quantizer, x = _quantizer().eval(), 5 * _vectors(2, 6, *grid)
    quantised, distance = quantizer(x)
    assert quantised.shape == x.shape and distance.shape == (2, 1, *grid)
    codes = quantizer.codes.numpy()
    for index in np.ndindex(2, *grid):
        vector = x.movedim(1, -1)[index].numpy()
        cosines = [float(vector @ code / np.linalg.norm(vector) / np.linalg.norm(code)) for code in codes]
        torch.testing.assert_close(
            quantised.movedim(1, -1)[index].numpy(), codes[int(np.argmax(cosines))], atol=1e-6, rtol=0
        )
        assert float(distance[:, 0][index]) == pytest.approx(1 - max(cosines), abs=1e-5)


def test_the_gradient_passes_straight_to_the_vectors_and_the_codes_stay() -> None:
    quantizer = _quantizer().eval()
    x = functional.normalize(_vectors(1, 6, 2, 2), dim=1).requires_grad_()
    quantised, distance = quantizer(x)
    weight = _vectors(1, 6, 2, 2, seed=1)
    (through,) = torch.autograd.grad((quantised * weight).sum(), x, retain_graph=True)
    # what is left of it by the normalisation: the part across the vector
    torch.testing.assert_close(through, weight - (weight * x).sum(1, keepdim=True) * x)
    (pull,) = torch.autograd.grad(distance.sum(), x)
    torch.testing.assert_close(pull, -(quantised - (quantised * x).sum(1, keepdim=True) * x).detach())
    assert not list(quantizer.parameters())


def test_choosing_alone_changes_nothing() -> None:
    quantizer = _quantizer()
    quantizer.train()(_vectors(4, 6, 3, 3))
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer.eval()(_vectors(4, 6, 3, 3, seed=1))
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


# training


def test_codes_are_running_means_of_the_directions_that_chose_them() -> None:
    quantizer = _quantizer(decay=0.9, drop_chance=0.0).train()
    quantizer(_vectors(8, 6, 3, 3))
    state = {name: value.clone().double().numpy() for name, value in quantizer.state_dict().items()}
    x = _vectors(8, 6, 3, 3, seed=1)
    quantised, _ = quantizer(x)
    vectors = functional.normalize(x, dim=1).movedim(1, -1).reshape(-1, 6).double().numpy()
    sums, counts = np.zeros_like(state["codes"]), np.zeros_like(state["usage"])
    for vector in vectors:
        chosen = int(np.argmax(state["codes"] @ vector))
        sums[chosen] += vector
        counts[chosen] += 1
    sums = 0.9 * state["codes"] * state["lengths"][:, None] + 0.1 * sums
    usage = 0.9 * state["usage"] + 0.1 * counts
    np.testing.assert_allclose(quantizer.usage.numpy(), usage, rtol=1e-5)
    lengths = np.linalg.norm(sums, axis=1)
    np.testing.assert_allclose(quantizer.lengths.numpy(), lengths, rtol=1e-4)
    expected = sums / lengths[:, None]
    np.testing.assert_allclose(quantizer.codes.numpy(), expected, rtol=1e-4, atol=1e-5)
    # the batch itself was quantised by the codes as they were
    given = quantised.detach().movedim(1, -1).reshape(-1, 6).numpy()
    assert all(np.abs(state["codes"] - vector).max(1).min() < 1e-5 for vector in given)


def test_the_first_batch_gives_the_first_codes() -> None:
    quantizer, x = _quantizer(decay=0.5, drop_chance=0.0).train(), _vectors(4, 6, 4, 4)
    _, distance = quantizer(x)
    assert int((distance < 1e-5).sum()) >= 8, "every code was a vector of the batch"
    assert int((_quantizer().eval()(x)[1] < 1e-5).sum()) == 0


def test_the_most_used_codes_are_forbidden_in_training_only() -> None:
    quantizer = _quantizer(drop_fraction=0.25, drop_chance=1.0)
    quantizer.usage.copy_(torch.tensor([9.0, 1, 8, 1, 1, 1, 1, 1]))
    quantizer.lengths.copy_(quantizer.usage)
    x = quantizer.codes[[0, 2, 5]].T.reshape(1, 6, 3, 1).contiguous()
    _, distance = quantizer.eval()(x)
    assert float(distance.abs().max()) < 1e-5
    _, distance = quantizer.train()(x)
    assert float(distance[0, 0, :2].min()) > 0.01 and abs(float(distance[0, 0, 2])) < 1e-5


def test_the_share_of_batches_with_forbidden_codes() -> None:
    quantizer = _quantizer(drop_fraction=0.25, drop_chance=0.3, decay=0.999999).train()
    quantizer.usage.copy_(torch.tensor([9.0, 1, 8, 1, 1, 1, 1, 1]))
    quantizer.lengths.copy_(quantizer.usage)
    x = quantizer.codes[:1].T.reshape(1, 6, 1, 1).contiguous()
    forbidden = sum(float(quantizer(x)[1]) > 0.01 for _ in range(400))
    assert 80 < forbidden < 160


def test_codes_that_nothing_chooses_move_to_vectors_of_the_batch() -> None:
    quantizer = _quantizer(decay=0.9, drop_chance=0.0).train()
    around = functional.normalize(torch.tensor([1.0, 0, 0, 0, 0, 0]), dim=0).reshape(1, 6, 1, 1)
    x = around + 0.05 * _vectors(4, 6, 4, 4)
    quantizer.usage.fill_(4.0)
    quantizer.codes.copy_(torch.cat([quantizer.codes[:1], -x[0].flatten(1).T[:7]]))
    quantizer.codes.copy_(functional.normalize(quantizer.codes, dim=1))
    quantizer.lengths.fill_(4.0)
    for _ in range(100):
        quantizer(x)
    assert float((quantizer.codes[:, 0]).min()) > 0.9
    assert float(quantizer.usage.min()) > 0


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="codes must be at least 2, .* got 1, 0.99, 0.2 and 0.5"):
        PatchQuantizer(4, 1)
    with pytest.raises(ValueError, match="size of a block must be at least 1, got 0"):
        PatchBlocks(2, 0)
