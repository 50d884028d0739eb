"""Few steps of a diffusion, with more or less noise."""

from __future__ import annotations

import math

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler
from torch import Tensor

from medad_plugins.diffusion import RespacedDDPMScheduler, draw_samples
from medad_plugins.errors import InputError

BOTH = pytest.mark.parametrize("spatial_dims", [2, 3])


def _image(spatial_dims: int, seed: int = 0) -> Tensor:
    return torch.randn(2, 1, *[5] * spatial_dims, generator=torch.Generator().manual_seed(seed))


@BOTH
@pytest.mark.parametrize("predicts", ["epsilon", "sample", "v_prediction"])
def test_with_all_times_kept_a_step_is_monais(spatial_dims: int, predicts: str) -> None:
    ours = RespacedDDPMScheduler(50, num_train_timesteps=50, prediction_type=predicts)
    monais = DDPMScheduler(50, prediction_type=predicts)
    monais.set_timesteps(50)
    for time in (49, 20, 1, 0):
        found, clean = ours.step(_image(spatial_dims, 1), time, _image(spatial_dims), torch.Generator().manual_seed(3))
        expected = monais.step(_image(spatial_dims, 1), time, _image(spatial_dims), torch.Generator().manual_seed(3))
        torch.testing.assert_close(found, expected[0], rtol=1e-3, atol=1e-3)  # MONAI rounds more
        torch.testing.assert_close(clean, expected[1], rtol=1e-3, atol=1e-3)


def _alphas(times: int) -> list[float]:
    """Cumulative products for betas rising linearly from 0.0001 to 0.02, by hand."""
    products, product = [], 1.0
    for t in range(times):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * t / (times - 1))
        products.append(product)
    return products


@BOTH
@pytest.mark.parametrize("factor", [1.0, 1.15])
def test_a_step_is_the_posterior_between_kept_times(spatial_dims: int, factor: float) -> None:
    scheduler, products = RespacedDDPMScheduler(5, factor), _alphas(1000)
    assert scheduler.timesteps.tolist() == [999, 749, 500, 250, 0]
    sample, output = _image(spatial_dims), _image(spatial_dims, 1)
    noise = torch.randn(sample.shape, generator=torch.Generator().manual_seed(3))
    found, _ = scheduler.step(output, 500, sample, torch.Generator().manual_seed(3))
    now, then = products[500], products[250]
    clean = ((sample - math.sqrt(1 - now) * output) / math.sqrt(now)).clamp(-1, 1)
    beta = 1 - now / then
    mean = math.sqrt(then) * beta / (1 - now) * clean + math.sqrt(1 - beta) * (1 - then) / (1 - now) * sample
    expected = mean + math.sqrt(factor * beta * (1 - then) / (1 - now)) * noise
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    last, clean = scheduler.step(output, 0, sample)
    assert torch.allclose(last, clean, atol=1e-5), "the last step adds no noise"


@BOTH
def test_each_sample_may_have_its_own_factor(spatial_dims: int) -> None:
    sample, output = _image(spatial_dims), _image(spatial_dims, 1)
    results = []
    for factor in (torch.tensor([1.0, 1.2]), 1.0, 1.2):
        scheduler = RespacedDDPMScheduler(5, factor)
        results.append(scheduler.step(output, 500, sample, torch.Generator().manual_seed(3))[0])
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[2][1])
    assert not torch.allclose(results[1][1], results[2][1], atol=1e-3)


class _Denoiser(torch.nn.Module):
    """Knows that every image is normal with a mean and a deviation: the best prediction of the noise."""

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self.mean, self.deviation, self.products = mean, deviation, torch.tensor(_alphas(1000))
        self.times: list[int] = []

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        self.times.append(int(times[0]))
        product = self.products[times].reshape(-1, *[1] * (x.dim() - 1))
        spread = product * self.deviation**2 + 1 - product
        clean = self.mean + product.sqrt() * self.deviation**2 / spread * (x - product.sqrt() * self.mean)
        noise: Tensor = (x - product.sqrt() * clean) / (1 - product).sqrt()
        return noise


@BOTH
def test_samples_are_spread_as_the_images_and_more_so_with_a_factor(spatial_dims: int) -> None:
    shape = (40, 1, *[9 if spatial_dims == 2 else 4] * spatial_dims)
    spreads = {}
    for factor in (1.0, 1.2):
        network = _Denoiser(0.2, 0.2)
        scheduler = RespacedDDPMScheduler(1000, factor)
        samples = draw_samples(network, scheduler, shape, torch.Generator().manual_seed(0))
        assert network.times == scheduler.timesteps.tolist()
        assert float(samples.mean()) == pytest.approx(0.6, abs=0.01)
        spreads[factor] = float(samples.std()) * 2
    assert spreads[1.0] == pytest.approx(0.2, abs=0.01)
    assert spreads[1.2] > 1.03 * spreads[1.0]
    again = draw_samples(_Denoiser(0.2, 0.2), scheduler, shape, torch.Generator().manual_seed(0))
    assert torch.equal(again, samples)


def test_more_steps_than_times_are_refused() -> None:
    with pytest.raises(InputError, match=r"number of steps is out of range: steps \(expected 1 to 10, found 20\)"):
        RespacedDDPMScheduler(20, num_train_timesteps=10)
