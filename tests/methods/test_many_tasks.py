"""Many Tasks: inputs and outputs of its network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.methods.many_tasks import ManyTasks, standardised


def _network(spatial_dims: int = 2) -> ManyTasks:
    torch.manual_seed(0)
    return ManyTasks(spatial_dims, 1, (4, 8, 8))


def _image(*size: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(16, 20), (37, 18), (12, 9, 14)])
@torch.no_grad()
def test_the_map_is_what_is_trained(size: tuple[int, ...]) -> None:
    network, image = _network(len(size)), _image(*size)
    trained = network.train()(image)
    anomaly_map = network.eval()(image)
    assert anomaly_map.shape == image.shape
    torch.testing.assert_close(trained, anomaly_map)
    torch.testing.assert_close(network.pool(anomaly_map), anomaly_map.flatten(1).mean(1))


@torch.no_grad()
def test_it_knows_where_it_looks() -> None:
    """Of a scan that is the same everywhere it says different things in different places."""
    network = _network().eval()
    even, inner = torch.full((1, 1, 16, 16), 0.5), (..., slice(2, -2), slice(2, -2))
    first = network.unet.encoder[0].get_submodule("0")
    assert float(first(even)[inner].std((2, 3)).max()) < 1e-6, "but not before it has learnt to"
    said = network(even)
    first.get_parameter("of_position.weight").normal_()
    assert float(first(even)[inner].std((2, 3)).min()) > 1e-3
    assert not torch.allclose(network(even), said, atol=1e-2)


def test_scans_are_standardised_over_what_is_no_background() -> None:
    image = torch.zeros(2, 2, 8, 8)
    image[:, :, 2:6, 1:7] = 0.4 + 0.1 * torch.rand(2, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    image[1] *= 0.3
    inside = standardised(image)[:, :, 2:6, 1:7]
    torch.testing.assert_close(inside.mean((2, 3)), torch.zeros(2, 2), rtol=0, atol=1e-4)
    torch.testing.assert_close(inside.var((2, 3), unbiased=False), torch.ones(2, 2), rtol=5e-3, atol=0)
    for value in (0.0, 0.5):
        assert float(standardised(torch.full((1, 1, 4, 4), value)).abs().max()) < 1e-3


def test_gelu_instance_norm_and_no_limit_to_what_it_says() -> None:
    network = _network()
    kinds = {type(module) for module in network.modules()}
    assert {nn.GELU, nn.InstanceNorm2d} <= kinds
    assert not kinds & {nn.ReLU, nn.LeakyReLU, nn.BatchNorm2d, nn.MaxPool2d, nn.ConvTranspose2d}
    with torch.no_grad():
        network.unet.last.bias.fill_(-3)
        assert float(network.eval()(_image(16, 16)).min()) < -1


def test_it_learns_with_the_squared_error() -> None:
    network = _network().train()
    nn.MSELoss()(network(_image(16, 16)), torch.zeros(2, 1, 16, 16)).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@torch.no_grad()
def test_scripted_and_alone_it_says_the_same() -> None:
    network, image = _network().eval(), _image(18, 21, batch=3)
    together = network(image)
    torch.testing.assert_close(torch.jit.script(network)(image), together, rtol=1e-4, atol=1e-5)
    for i in range(3):
        torch.testing.assert_close(network(image[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)
