"""RIAD: filled in by parts, against a loop over parts and sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.losses import gaussian_ssim
from medad_plugins.methods.riad import RIAD, RIADLoss
from medad_plugins.scorers import EdgeDissimilarity, local_mean

BOTH = pytest.mark.parametrize("size", [(32, 36), (16, 16, 20)])


def _riad(spatial_dims: int = 2, **others: Any) -> RIAD:
    torch.manual_seed(0)
    return RIAD(spatial_dims, **{"width": 8, "sizes": (2, 4), "window": 3, **others}).eval()


def _scan(*size: int, batch: int = 3) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(1))


@BOTH
@torch.no_grad()
def test_map_is_the_mean_over_sizes_of_what_the_parts_give(size: tuple[int, ...]) -> None:
    network, image = _riad(len(size)), _scan(*size)
    maps, rebuilt = [], []
    for cell in (2, 4):
        parts = network._fixed_parts(image, cell)
        whole = torch.zeros_like(image)
        for part in range(3):
            answer = network.unet(image * (parts != part))
            whole = whole + answer * (parts == part)
        maps.append(EdgeDissimilarity(len(size))(whole, image))
        rebuilt.append(whole)
    torch.testing.assert_close(network.reconstruct(image), sum(rebuilt) / 2, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(network(image), local_mean(sum(maps) / 2, 3), rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(network(image)[1:], network(image[1:]), rtol=1e-3, atol=1e-4)


@BOTH
def test_parts_are_cells_and_equally_many(size: tuple[int, ...]) -> None:
    network, image = _riad(len(size)), _scan(*size)
    torch.manual_seed(3)
    drawn = network.drawn_parts(image, 4)
    assert drawn.shape == (3, 1, *size)
    assert not torch.equal(drawn[0], drawn[1]), "every scan has its own"
    for parts in (*drawn, network._fixed_parts(image, 4)[0]):
        cells = parts[0]
        for axis in range(len(size)):
            steps = cells.narrow(axis, 1, size[axis] - 1) != cells.narrow(axis, 0, size[axis] - 1)
            along = steps.movedim(axis, 0).flatten(1).any(1)
            assert not bool(along[[i for i in range(len(along)) if i % 4 != 3]].any()), "cells of four pixels"
        shares = [float((cells == part).float().mean()) for part in range(3)]
        assert all(0.2 < share < 0.47 for share in shares)
    counts = [int((drawn[0] == part).sum()) for part in range(3)]
    assert max(counts) - min(counts) <= 4 ** len(size) * 1


@torch.no_grad()
def test_no_pixel_sees_itself() -> None:
    """What a cell is filled with does not change with what was in it."""
    network, image = _riad(), _scan(32, 32, batch=1)
    parts = network._fixed_parts(image, 4)
    other = torch.where(parts == 1, 1 - image, image)
    filled, again = network.fill_in(image, parts), network.fill_in(other, parts)
    torch.testing.assert_close(filled[parts == 1], again[parts == 1])
    assert not torch.allclose(filled[parts == 0], again[parts == 0]), "but that of its neighbours does"


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_loss_is_the_sum_of_three(spatial_dims: int) -> None:
    image = _scan(*[16] * spatial_dims)
    rebuilt = (image + 0.1).requires_grad_()
    loss = RIADLoss(spatial_dims, 2.0, 0.5)((rebuilt, image))
    expected = functional.mse_loss(rebuilt, image) + 2 * EdgeDissimilarity(spatial_dims)(rebuilt, image).mean()
    expected = expected + 0.5 * (1 - gaussian_ssim(rebuilt, image).mean())
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert rebuilt.grad is not None and bool(torch.isfinite(rebuilt.grad).all())
    flat = torch.zeros_like(image).requires_grad_()
    RIADLoss(spatial_dims)((flat, image)).backward()
    assert flat.grad is not None and bool(torch.isfinite(flat.grad).all()), "where there are no edges either"


@pytest.mark.costly
def test_a_short_training_finds_what_was_not_there() -> None:
    """A blob in smooth scans of one pattern is filled in without it."""
    torch.manual_seed(0)
    base = functional.interpolate(torch.rand(1, 1, 6, 6), (32, 32), mode="bilinear")
    scans = (base + 0.02 * torch.randn(8, 1, 32, 32)).clamp(0, 1)
    changed = scans.clone()
    changed[:, :, 12:16, 12:16] = 1 - changed[:, :, 12:16, 12:16]
    network = _riad(sizes=(4,), reduction=0.05)
    before = network.pool(network(changed)) - network.pool(network(scans))
    network.train()
    optimizer, loss = torch.optim.Adam(network.parameters(), 0.003), RIADLoss(2)
    for _ in range(60):
        optimizer.zero_grad()
        loss(network(scans)).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        after = network.pool(network(changed)) - network.pool(network(scans))
        assert float(after.min()) > 0 and float(after.mean()) > 2 * float(before.abs().mean())


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _riad(), _scan(32, 36)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-5)


def test_what_a_user_may_get_wrong() -> None:
    with pytest.raises(InputError, match=r"no such width: width \(expected a multiple of 8, found 12\)"):
        _riad(width=12)
    with pytest.raises(InputError, match="too small for a U-Net"):
        _riad()(_scan(8, 32))
    for wrong in ({"sizes": ()}, {"parts": 1}, {"window": 2}):
        with pytest.raises(ValueError, match="sizes must be positive, parts"):
            _riad(**wrong)
