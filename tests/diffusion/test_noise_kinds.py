"""Kinds of noise: their spread, their seeds, and that no case shares another's."""

from __future__ import annotations

from typing import Any

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


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_pyramid_has_unit_spread_and_all_sizes(spatial_dims: int) -> None:
    """Its shift of the whole brightness is a third of its spread; white noise of so many pixels has next to none."""
    shape = (64, 1, *[24] * spatial_dims)
    noise = draw_noise("pyramid", shape, torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise.flatten(1).std(1), torch.ones(64), rtol=1e-4, atol=1e-4)
    assert 0.15 < float(noise.flatten(1).mean(1).std()) < 0.8
    neighbours = (noise.narrow(-1, 0, 23) * noise.narrow(-1, 1, 23)).mean()
    assert 0.2 < float(neighbours) < 0.9
    flat = draw_noise("pyramid", shape, torch.Generator().manual_seed(0), discount=0.0)
    assert abs(float((flat.narrow(-1, 0, 23) * flat.narrow(-1, 1, 23)).mean())) < 0.05


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(("direction", "signs"), [("brighter", {1}), ("darker", {-1}), ("either", {-1, 1})])
def test_blobs_shift_white_noise_where_it_is_high(spatial_dims: int, direction: str, signs: set[int]) -> None:
    shape = (16, 2, *[24] * spatial_dims)
    settings: dict[str, Any] = {"sigma": 1.5, "threshold": 0.7, "offset": 0.5, "direction": direction}
    noise = draw_noise("synomaly", shape, torch.Generator().manual_seed(0), **settings)
    white = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    shift = noise - white
    found = set()
    for case, own in zip(shift, white, strict=True):
        blobs = case.abs() > 1e-3
        assert torch.equal(blobs[0], blobs[1]), "the channels have the same blobs"
        assert 0 < float(blobs.float().mean()) < 0.4
        value = case[blobs]
        torch.testing.assert_close(value, value[:1].expand_as(value), rtol=1e-3, atol=1e-3)
        assert 0.5 <= abs(float(value[0])) <= 1.5
        found.add(int(value[0].sign()))
        assert float(own[blobs].mean()) > 0.2, "they lie where the noise itself is high"
    assert found == signs
    bad: list[dict[str, Any]] = [{"direction": "up"}, {"threshold": 2.0}]
    for wrong in bad:
        with pytest.raises(ValueError, match="direction must be one of"):
            draw_noise("synomaly", shape, **wrong)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="noise must be one of"):
        draw_noise("pink", (1, 1, 8, 8))
