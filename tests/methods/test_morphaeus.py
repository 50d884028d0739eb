"""MorphAEus by its paper: a code of one place, a flow integrated in small steps, a loss of five terms, the residual."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.methods.morphaeus import DeformationLoss, MorphAEus
from medad_plugins.networks.blocks.perceptual import PerceptualResidual
from medad_plugins.networks.blocks.warp import integrate_velocity, warp

BOTH = pytest.mark.parametrize("size", [(20, 28), (12, 16, 10)])


def _network(*size: int, flow: float = 3.0, **others: Any) -> MorphAEus:
    torch.manual_seed(0)
    network = MorphAEus(len(size), others.pop("in_channels", 1), size, **{"channels": (4, 6, 8), **others})
    for name, parameter in network.named_parameters():
        if name == "flow.weight":
            nn.init.normal_(parameter, std=flow)  # it begins near zero, where nothing would show
    return network


def _scan(*size: int, channels: int = 1, batch: int = 3) -> Tensor:
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(1))


def _moved(image: NDArray[Any], displacement: NDArray[Any]) -> NDArray[Any]:
    places = np.indices(image.shape[1:]) + displacement
    return np.stack([ndimage.map_coordinates(one, places, order=1, mode="nearest") for one in image])


@BOTH
@torch.no_grad()
def test_map_is_the_residual_to_the_prior_carried_along_the_flow(size: tuple[int, ...]) -> None:
    """The flow by its 128th part, followed by itself seven times."""
    network, image = _network(*size, in_channels=2).eval(), _scan(*size, channels=2)
    prior, velocity = network.prior_and_velocity(image)
    assert 0 < float(prior.min()) and float(prior.max()) < 1 and float(velocity.abs().max()) > 0.3
    for scan, own, speed, found in zip(image.numpy(), prior.numpy(), velocity.numpy(), network(image).numpy()):
        displacement = speed.astype(np.float64) / 128
        for _ in range(7):
            displacement = displacement + _moved(displacement, displacement)
        expected = np.abs(_moved(own, displacement) - scan).mean(0)
        np.testing.assert_allclose(found[0], expected, rtol=1e-3, atol=1e-4)


@BOTH
def test_code_is_one_place_and_the_deformation_begins_with_none(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = MorphAEus(len(size), 1, size, channels=(4, 6, 8)).eval()
    grids: list[tuple[int, ...]] = []
    for block in network.encoder:
        block.register_forward_hook(lambda _, __, output: grids.append(tuple(output.shape[1:])))
    with torch.no_grad():
        displacement = network.deformation(_scan(*size))
    assert [grid[0] for grid in grids] == [4, 6, 8, 8, 8][: len(grids)], "the last width is repeated"
    assert grids[-1][1:] == (1,) * len(size) and max(grids[-2][1:]) == 2
    for finer, coarser in pairwise([size, *(grid[1:] for grid in grids)]):
        assert coarser == tuple(-(-edge // 2) for edge in finer)
    assert displacement.shape == (3, len(size), *size) and float(displacement.abs().max()) < 1e-2


def _correlation(one: Tensor, other: Tensor, window: int) -> float:
    """Mean squared correlation in all windows around the places, which are zero beyond the border."""
    half, total = window // 2, []
    for a, b in zip(one.double().numpy(), other.double().numpy(), strict=True):
        a, b = (np.pad(values[0], half) for values in (a, b))
        for place in product(*(range(edge - 2 * half) for edge in a.shape)):
            part = tuple(slice(at, at + window) for at in place)
            x, y = a[part] - a[part].mean(), b[part] - b[part].mean()
            total.append((x * y).sum() ** 2 / ((x * x).sum() * (y * y).sum()))
    return float(np.mean(total))


@BOTH
def test_loss_by_plain_computation(size: tuple[int, ...]) -> None:
    network, image = _network(*size, flow=0.1), _scan(*size)
    loss = DeformationLoss(len(size), 1, perceptual=0.5, smoothness=2.0, window=5, backbone="resnet10")
    loss.set_deformation(0.7)
    output = network.train()(image)
    value = loss(output, image)
    prior, velocity, deformed, scan_deformed = (part.detach() for part in output)
    squares = 0.0
    for axis in range(len(size)):
        inner = [slice(1, -1)] * len(size)
        ahead, behind = list(inner), list(inner)
        ahead[axis], behind[axis] = slice(2, None), slice(None, -2)
        squares += float((((velocity[(..., *ahead)] - velocity[(..., *behind)]) / 2) ** 2).mean())
    alike = (_correlation(image, deformed, 5) + _correlation(prior, scan_deformed, 5)) / 2
    looks = loss.looks
    assert isinstance(looks, PerceptualResidual)
    expected = float(((prior - image) ** 2).mean()) + 0.5 * float(looks(prior, image).mean())
    expected += 0.7 * (1 - alike + 2.0 * squares / 2)
    assert float(value.detach()) == pytest.approx(expected, rel=1e-3)
    value.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    loss.set_smoothness(0.0)
    assert float(loss(output, image).detach()) == pytest.approx(expected - 0.7 * squares, rel=1e-3)


def test_deformation_fits_shapes_and_no_lesions() -> None:
    """A prior that lies three pixels off is moved to its place; a disk that it has not stays in the map."""
    rows, columns = np.mgrid[:32, :32]

    def head(middle: float) -> Tensor:
        inside = np.clip(9 - np.hypot(rows - 16, columns - middle), 0, 1)
        return torch.from_numpy(np.float32(0.2 + 0.5 * inside * (1 + 0.2 * np.sin(rows))))[None, None]

    prior, scan = head(13), head(16)
    lesion = scan.clone()
    lesion[..., 14:19, 14:19] = 1.0
    velocity = torch.zeros(1, 2, 32, 32, requires_grad=True)
    optimizer = torch.optim.Adam([velocity], lr=0.1)
    loss = DeformationLoss(2, smoothness=3.0)
    for _ in range(100):
        optimizer.zero_grad()
        deformed, back = warp(prior, integrate_velocity(velocity)), warp(lesion, integrate_velocity(-velocity))
        loss((prior, velocity, deformed, back), lesion).backward()
        optimizer.step()
    before, after = (prior - lesion).abs(), (warp(prior, integrate_velocity(velocity)) - lesion).abs().detach()
    inside = torch.zeros_like(prior, dtype=torch.bool)
    inside[..., 14:19, 14:19] = True
    assert float(after[~inside].mean()) < 0.5 * float(before[~inside].mean())
    assert float(after[inside].mean()) > 0.75 * float(before[inside].mean())


def test_what_cannot_be_coded_is_refused() -> None:
    with pytest.raises(InputError, match="the scan is too small"):
        MorphAEus(2, 1, 8)
    with pytest.raises(InputError, match="more than one case"):
        _network(20, 20).train()(_scan(20, 20, batch=1))


@torch.no_grad()
def test_scripted_it_gives_the_same_map() -> None:
    network, image = _network(20, 24).eval(), _scan(20, 24)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-5)
