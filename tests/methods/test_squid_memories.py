"""Memories by position: queues that forget the oldest, and learnt pieces of maps."""

from __future__ import annotations

import pytest
import torch

from medad_plugins.methods.squid import MemoryMatrices, MemoryQueues
from medad_plugins.networks import look_up


def _numbered(first: int, count: int) -> torch.Tensor:
    """Vectors ``(count, 2, 1)``: case n at position p holds 10 n + p."""
    return torch.tensor([[[10.0 * n], [10.0 * n + 1]] for n in range(first, first + count)])


def test_a_queue_forgets_the_oldest() -> None:
    queues = MemoryQueues(positions=2, slots=5, dimensions=1, top_k=2)
    written: list[int] = []
    for first, count in ((1, 3), (4, 3), (7, 1), (8, 5), (13, 12)):
        queues.remember(_numbered(first, count))
        written += range(first, first + count)
        held = sorted(int(value) // 10 for value in queues.slots[0, :, 0] if value > 5)
        assert held == written[-5:]
        assert torch.equal(queues.slots[1], torch.where(queues.slots[0] > 5, queues.slots[0] + 1, queues.slots[1]))
        assert int(queues.place) == len(written) % 5


def test_the_place_to_write_is_kept_with_the_state() -> None:
    queues, other = MemoryQueues(2, 5, 1, 2), MemoryQueues(2, 5, 1, 2)
    queues.remember(_numbered(1, 3))
    other.load_state_dict(queues.state_dict(), strict=True)
    for each in (queues, other):
        each.remember(_numbered(4, 4))
    assert torch.equal(queues.slots, other.slots)


def test_queues_are_read_and_not_trained() -> None:
    queues = MemoryQueues(2, 6, 4, 3)
    queries = torch.randn(3, 2, 4, requires_grad=True)
    before = queues.slots.clone()
    found = queues(queries)
    torch.testing.assert_close(found, look_up(queries, queues.slots, 3))
    found.sum().backward()
    assert queries.grad is not None and not list(queues.parameters())
    assert torch.equal(queues.slots, before), "reading writes nothing"


def test_queues_of_several_sites_lie_side_by_side() -> None:
    queues = MemoryQueues(2, 4, 1, 2)
    states = []
    for site in (1.0, 2.0):
        states.append({"slots": torch.full((2, 4, 1), site), "place": torch.tensor(3)})
    merged = queues.merge_buffers(states)
    assert merged["slots"][:, :, 0].tolist() == [[1, 2, 1, 2], [1, 2, 1, 2]]
    assert int(merged["place"]) == 3


@pytest.mark.parametrize("patch_size", [(2, 3), (2, 1, 3)])
def test_each_piece_of_a_map_is_looked_up_at_its_own_place(patch_size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    memory = MemoryMatrices(channels=2, patch_size=patch_size, parts=2, slots=6, top_k=3)
    x = torch.randn(2, 2, *(2 * edge for edge in patch_size))
    out = memory(x)
    assert out.shape == x.shape
    # the last piece, by hand
    last = tuple(slice(edge, None) for edge in patch_size)
    piece = x[(slice(None), slice(None), *last)]
    expected = look_up(piece.flatten(1)[:, None], memory.slots[-1:], 3).reshape(piece.shape)
    torch.testing.assert_close(out[(slice(None), slice(None), *last)], expected)
    out.square().sum().backward()
    assert memory.slots.grad is not None and float(memory.slots.grad.abs().max()) > 0, "these are trained"


def test_more_strongest_than_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="top_k must lie between 2 and the 4 slots"):
        MemoryQueues(2, 4, 1, 5)
