"""Gradients of chosen parameters are what ``backward()`` gives, for every optimiser."""

from __future__ import annotations

import torch
from torch import nn

from medad_plugins.engines.gradients import set_gradients


def _trained(fused: bool, ours: bool) -> list[torch.Tensor]:
    """A step of Adam on a convolution whose gradient comes in another memory layout than its weights."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 4, 3))
    image = torch.rand(2, 4, 12, 12).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, fused=fused)
    loss = network(image).square().mean()
    if ours:
        set_gradients(loss, list(network.parameters()))
    else:
        loss.backward()
    optimizer.step()
    return [parameter.detach() for parameter in network.parameters()]


def test_a_fused_optimiser_takes_the_step_of_any_other() -> None:
    expected = _trained(fused=False, ours=False)
    for ours in (False, True):
        for own, true in zip(_trained(fused=True, ours=ours), expected, strict=True):
            torch.testing.assert_close(own, true, rtol=1e-4, atol=1e-6)


def test_gradients_lie_in_memory_as_their_parameters() -> None:
    network = nn.Conv2d(4, 6, 3)
    image = torch.rand(2, 4, 12, 12).to(memory_format=torch.channels_last)
    used = set_gradients(network(image).sum(), list(network.parameters()))
    assert len(used) == 2
    for parameter in used:
        assert parameter.grad is not None and parameter.grad.stride() == parameter.stride()
