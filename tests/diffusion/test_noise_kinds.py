"""Kinds of noise: their spread, their seeds, and that no case shares another's."""

from __future__ import annotations

import pytest
import torch

from medad_plugins.diffusion import NOISES, draw_noise

SHAPES = {2: (3, 1, 64, 64), 3: (3, 1, 20, 20, 20)}


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("kind", NOISES)
def test_every_case_has_noise_of_its_own_and_a_seed_repeats_it(kind: str, spatial_dims: int) -> None:
    shape = SHAPES[spatial_dims]
    noise, again, other = (draw_noise(kind, shape, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert noise.shape == shape and noise.dtype == torch.float32
    assert torch.equal(noise, again) and not torch.equal(noise, other)
    assert not torch.equal(noise[0], noise[1])
    torch.manual_seed(5)
    drawn = draw_noise(kind, shape)
    torch.manual_seed(5)
    assert torch.equal(drawn, draw_noise(kind, shape)), "without a generator PyTorch's own draws"


def test_spreads_are_the_papers() -> None:
    noise = {kind: draw_noise(kind, (12, 1, 64, 64), torch.Generator().manual_seed(0)) for kind in NOISES}
    assert float(noise["gaussian"].std()) == pytest.approx(1, abs=0.02)
    # AnoDDPM's octaves are not brought to unit variance
    assert float(noise["simplex"].std()) == pytest.approx(0.51, abs=0.08)
    assert float(noise["coarse"].std()) == pytest.approx(0.2 * 2 / 3, abs=0.03), "linear interpolation smooths"

    def roughness(kind: str) -> float:
        return float(noise[kind].diff(dim=-1).std() / noise[kind].std())

    assert roughness("simplex") < 0.7 * roughness("gaussian")
    assert roughness("coarse") < 0.5 * roughness("gaussian")


@pytest.mark.parametrize("edge", [32, 64, 128])
def test_simplex_noise_may_keep_its_size_beside_the_image(edge: int) -> None:
    """A period of 64 pixels is a shift of the whole brightness of a smaller image: no lesion looks like that."""

    def shift(period: float) -> float:
        noise = draw_noise("simplex", (40, 1, edge, edge), torch.Generator().manual_seed(0), period)
        return float(noise.mean((1, 2, 3)).std() / noise.std())

    assert shift(edge / 4) < 0.35
    if edge == 32:
        assert shift(64.0) > 0.4


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="noise must be one of"):
        draw_noise("pink", (1, 1, 8, 8))
