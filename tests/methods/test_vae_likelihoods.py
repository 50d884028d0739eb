"""Scores that take from a scan's likelihood what is not its content."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medad_plugins.methods.vae import VAE, VariationalTerms
from medad_plugins.scorers.coded_length import coded_length, gaussian_code_length


def _vae(spatial_dims: int = 2, **arguments: str | float) -> VAE:
    torch.manual_seed(0)
    small = {"image_size": 16, "channels": (4, 8), "hidden_size": 16, "latent_size": 3}
    return VAE(spatial_dims, **{**small, **arguments})  # type: ignore[arg-type]


def _scan(spatial_dims: int = 2) -> Tensor:
    return torch.rand(3, 1, *[16] * spatial_dims, generator=torch.Generator().manual_seed(1))


def _bound(rebuilt: Tensor, image: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return 0.5 * (2 * (rebuilt - image)).square().flatten(1).sum(1) + divergence


@pytest.mark.parametrize("spatial_dims", [2, 3])
@torch.no_grad()
def test_complexity_is_taken_from_the_code_length(spatial_dims: int) -> None:
    network, image = _vae(spatial_dims, score="complexity", reduction="mean").eval(), _scan(spatial_dims)
    mean, log_variance = network.posterior(image)
    rebuilt = network.reconstruct(image)
    divergence = _bound(image, image, mean, log_variance) / image[0].numel()
    squares = (rebuilt - image).square().flatten(1).mean(1)
    expected = divergence + gaussian_code_length(squares) - coded_length(image)
    torch.testing.assert_close(network.pool(network(image)), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@torch.no_grad()
def test_ratio_is_the_difference_of_both_bounds(spatial_dims: int) -> None:
    network, image = _vae(spatial_dims, score="ratio", reduction="mean").eval(), _scan(spatial_dims)
    own = _bound(network.reconstruct(image), image, *network.posterior(image))
    rebuilt, mean, log_variance = network.background(image)
    expected = (own - _bound(rebuilt, image, mean, log_variance)) / image[0].numel()
    torch.testing.assert_close(network.pool(network(image)), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


def test_the_background_learns_damaged_scans_and_the_network_whole_ones() -> None:
    network, image = _vae(score="ratio", perturbed=0.3), _scan()
    damaged = network.background.damaged(image.expand(3, 2, 16, 16))
    changed = damaged != image
    assert torch.equal(changed[:, 0], changed[:, 1]) and 0.2 < float(changed.float().mean()) < 0.4
    given: list[Tensor] = []
    network.background.encoder.register_forward_pre_hook(lambda _, values: given.append(values[0]))
    network.encoder.register_forward_pre_hook(lambda _, values: given.append(values[0]))
    terms = VariationalTerms()(network, {"image": image})
    assert set(terms) == {"reconstruction", "divergence", "background", "background_divergence"}
    torch.testing.assert_close(given[0], 2 * image - 1)
    assert 0.2 < float((given[1] != 2 * image - 1).float().mean()) < 0.4
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    with pytest.raises(ValueError, match="perturbed must lie between"):
        _vae(score="ratio", perturbed=0.0)
