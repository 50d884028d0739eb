"""Networks that mark anomalies begin with how rare they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medad_plugins.methods.circle import DropoutUNet
from medad_plugins.methods.destseg import DeSTSeg
from medad_plugins.methods.realnet import RealNet
from medad_plugins.networks.blocks.say_rare import say_rare

BOTH = pytest.mark.parametrize("spatial_dims", [2, 3])


@pytest.mark.parametrize("logits", [1, 2])
def test_the_last_logit_says_one_voxel_in_twenty(logits: int) -> None:
    last = nn.Conv3d(3, logits, 1)
    say_rare(last)
    assert last.bias is not None and last.bias.tolist() == [0.0] * (logits - 1) + [-3.0]


def test_without_a_bias_it_is_refused() -> None:
    with pytest.raises(ValueError, match="must have a bias, Conv2d has none"):
        say_rare(nn.Conv2d(1, 1, 1, bias=False))


@torch.no_grad()
@BOTH
def test_an_untrained_network_marks_little(spatial_dims: int) -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 1, *[32] * spatial_dims)
    realnet = RealNet(spatial_dims, 1, "resnet10", "none", (1, 2), (8, 8), 4, 2, "mean", False, "seen")
    destseg = DeSTSeg(spatial_dims, 1, "resnet10", "none", width=8)
    for network in (DropoutUNet(spatial_dims, 1, (4, 8)), realnet, destseg):
        assert float(network.eval()(image).mean()) < 0.2
