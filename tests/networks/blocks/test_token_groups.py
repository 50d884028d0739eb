"""Which feature maps a decoder is given and rebuilds, and by which of its blocks."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from medad_plugins.networks.blocks.token_groups import TokenGroups


@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 4)])
def test_maps_that_are_alike_are_averaged_in_groups(grid: tuple[int, ...]) -> None:
    groups = TokenGroups([5] * 7, [14] * 7, len(grid), depth=6)
    taps = [torch.randn(2, 5, *grid) for _ in range(7)]
    tokens, targets = groups(taps)
    assert groups.width == 5 and tokens.shape == (2, torch.tensor(grid).prod(), 5)
    torch.testing.assert_close(tokens[1, 5], torch.stack([tap[1].flatten(1)[:, 5] for tap in taps]).mean(0))
    torch.testing.assert_close(targets[0], (taps[0] + taps[1] + taps[2]) / 3)
    torch.testing.assert_close(targets[1], (taps[3] + taps[4] + taps[5] + taps[6]) / 4)
    decoded = [torch.randn(tokens.shape) for _ in range(6)]
    rebuilt = groups.rebuilt(decoded, targets)
    assert [one.shape for one in rebuilt] == [two.shape for two in targets]
    # what is shallow is rebuilt by the last blocks
    torch.testing.assert_close(rebuilt[0].flatten(2).mT, torch.stack(decoded[3:]).mean(0))
    torch.testing.assert_close(rebuilt[1].flatten(2).mT, torch.stack(decoded[:3]).mean(0))


def test_maps_that_differ_are_joined_and_each_is_a_group() -> None:
    groups = TokenGroups([3, 2], [8, 16], depth=4)
    taps = [torch.randn(2, 3, 8, 4), torch.randn(2, 2, 4, 2)]
    tokens, targets = groups(taps)
    fine = functional.avg_pool2d(taps[0], 2)
    torch.testing.assert_close(tokens, torch.cat([fine, taps[1]], 1).flatten(2).mT)
    torch.testing.assert_close(targets[0], fine)
    torch.testing.assert_close(targets[1], taps[1])
    decoded = [torch.randn(tokens.shape) for _ in range(4)]
    rebuilt = groups.rebuilt(decoded, targets)
    torch.testing.assert_close(rebuilt[0].flatten(2).mT, (decoded[2] + decoded[3])[:, :, :3] / 2)
    torch.testing.assert_close(rebuilt[1].flatten(2).mT, (decoded[0] + decoded[1])[:, :, 3:] / 2)


def test_one_map_is_one_group() -> None:
    groups = TokenGroups([3], [8], depth=2)
    tap = torch.randn(1, 3, 2, 2)
    tokens, targets = groups([tap])
    torch.testing.assert_close(targets[0], tap)
    torch.testing.assert_close(groups.rebuilt([tokens, tokens], targets)[0], tap)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="depth must be at least 3, one block for each group, got 2"):
        TokenGroups([1, 2, 3], [4, 8, 16], depth=2)
    with pytest.raises(ValueError, match="groups must be at least 1"):
        TokenGroups([1, 1], [4, 4], groups=0)
