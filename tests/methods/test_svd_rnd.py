"""SVD-RND: blur, what is learnt, and the map, by plain computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from medad_plugins.losses import ResidualLoss
from medad_plugins.methods.svd_rnd import SVDRND, blurred_by_rank


def _network(spatial_dims: int = 2, **arguments: object) -> SVDRND:
    torch.manual_seed(0)
    return SVDRND(spatial_dims, 2, 16, (4, 8), **arguments)  # type: ignore[arg-type]


def _scan(spatial_dims: int = 2, batch: int = 3) -> Tensor:
    return torch.rand(batch, 2, *[16] * spatial_dims, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(2, 1, 8, 12), (1, 2, 3, 8, 6)])
def test_blurred_copies_have_the_largest_singular_values_alone(shape: tuple[int, ...]) -> None:
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    found = blurred_by_rank(image, 0.25)
    count = round(0.25 * min(shape[-2:]))
    for plane, blurred in zip(image.reshape(-1, *shape[-2:]), found.reshape(-1, *shape[-2:]), strict=True):
        u, s, v = np.linalg.svd(plane.double().numpy())
        expected = sum(s[k] * np.outer(u[:, k], v[k]) for k in range(count))
        np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-5)
        assert np.linalg.matrix_rank(blurred.numpy(), tol=1e-4) == count
    assert float((blurred_by_rank(image, 0.999) - image).abs().max()) < 1e-5
    assert int(torch.linalg.matrix_rank(blurred_by_rank(image, 0.001)[0, 0].reshape(-1, *shape[-2:])[0])) == 1


@pytest.mark.parametrize("local", [True, False])
def test_scans_and_copies_are_taught_by_networks_of_their_own(local: bool) -> None:
    network, image = _network(kept=(0.25, 0.5), local=local), _scan()
    said, meant = network(image)
    assert said.shape == meant.shape == (9, 8, *((4, 4) if local else (1, 1)))
    copies = [image, blurred_by_rank(image, 0.25), blurred_by_rank(image, 0.5)]
    for index, (target, scan) in enumerate(zip(network.targets, copies, strict=True)):
        features = target(scan * 2 - 1)
        expected = features if local else features.mean((2, 3), keepdim=True)
        torch.testing.assert_close(meant[3 * index : 3 * index + 3], expected)
    loss = ResidualLoss("l2")((said, meant))
    torch.testing.assert_close(loss, (said - meant).square().mean())
    loss.backward()
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == {"predictor"}
    assert not any(parameter.requires_grad for parameter in network.targets.parameters())


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("spatial_dims", [2, 3])
@torch.no_grad()
def test_map_is_the_error_of_the_first_network(spatial_dims: int, local: bool) -> None:
    network, image = _network(spatial_dims, local=local).eval(), _scan(spatial_dims)
    scan = image * 2 - 1
    said, meant = network.predictor(scan), network.targets[0](scan)
    if not local:
        said, meant = (x.flatten(2).mean(2) for x in (said, meant))
    expected = (said - meant).square().flatten(1).mean(1)
    found = network(image)
    assert found.shape == (3, 1, *image.shape[2:]) and found.dtype == torch.float32
    torch.testing.assert_close(network.pool(found), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(network(image[1:2]), found[1:2], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(torch.jit.script(network)(image), found)
    assert (float(found.flatten(1).std(1).min()) < 1e-6) != local


@pytest.mark.costly
def test_it_learns_normal_scans_and_not_what_is_blurred() -> None:
    network, image = _network(), _scan(batch=8)
    optimizer = torch.optim.Adam(network.predictor.parameters(), 3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        ResidualLoss("l2")(network(image)).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        normal, blurred = (network.pool(network(scan)) for scan in (image, blurred_by_rank(image, 0.125)))
    assert float(blurred.min()) > 2 * float(normal.max())


def test_wrong_shares() -> None:
    with pytest.raises(ValueError, match="kept must be shares between 0 and 1"):
        _network(kept=(1.0,))
