"""PaDiM by its paper: one Gaussian for each location, the Mahalanobis distance to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_resnet import varied_taps
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import mahalanobis
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.methods.padim import PaDiM
from medad_plugins.networks import PatchGaussians


def _patches(scans: int, locations: int = 4, dimensions: int = 3, seed: int = 0) -> Tensor:
    """Correlated, of very different scale, away from zero."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=torch.Generator().manual_seed(99))
    mixed = torch.randn(scans, locations, dimensions, generator=generator) @ mixing
    return 3 + mixed * torch.tensor([1.0, 0.1, 10.0])[:dimensions]


def _fitted(patches: Tensor, batch_size: int = 100, regularisation: float = 0.01) -> PatchGaussians:
    gaussians = PatchGaussians(regularisation)
    for batch in patches.split(batch_size):
        gaussians.collect(batch)
    gaussians.fit()
    return gaussians


def test_moments_are_those_of_all_scans_at_once() -> None:
    patches = _patches(23)
    gaussians = PatchGaussians()
    for batch in patches.split(5):
        gaussians.collect(batch)
    everything = patches.double().numpy()
    n = int(gaussians.count)
    mean = gaussians.moment_1.numpy() / n
    assert n == 23 and gaussians.moment_1.dtype == gaussians.moment_2.dtype == torch.float64
    np.testing.assert_allclose(mean, everything.mean(0), rtol=1e-8)
    for place in range(4):
        scatter = gaussians.moment_2[place].numpy() - n * np.outer(mean[place], mean[place])
        np.testing.assert_allclose(scatter / (n - 1), np.cov(everything[:, place].T), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("regularisation", [0.01, 0.5])
def test_distances_are_mahalanobis_with_a_regularised_covariance(regularisation: float) -> None:
    normal, others = _patches(23), _patches(5, seed=1) + 1
    distances = _fitted(normal, regularisation=regularisation)(others)
    assert distances.shape == (5, 4)
    for place in range(4):
        seen = normal[:, place].double().numpy()
        inverse = np.linalg.inv(np.cov(seen.T) + regularisation * np.eye(3))
        for scan in range(5):
            expected = mahalanobis(others[scan, place].double().numpy(), seen.mean(0), inverse)
            assert float(distances[scan, place]) == pytest.approx(expected, rel=1e-4)


def test_more_locations_than_a_block_of_the_solver() -> None:
    """The covariances are solved in blocks of 256."""
    normal = torch.randn(8, 300, 2, generator=torch.Generator().manual_seed(0))
    together, last = _fitted(normal), _fitted(normal[:, 290:])
    torch.testing.assert_close(together(normal)[:, 290:], last(normal[:, 290:]))


def test_what_a_scan_would_have_had_it_been_left_out() -> None:
    patches = _patches(12)
    distances = _fitted(patches, regularisation=1e-9).left_out(patches)
    for scan in range(12):
        others = torch.cat([patches[:scan], patches[scan + 1 :]])
        expected = _fitted(others, regularisation=1e-9)(patches[scan : scan + 1])[0]
        torch.testing.assert_close(distances[scan], expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_unit_length_of_all_channels_before_some_are_chosen(weights: str) -> None:
    settings: dict[str, Any] = {"weights": weights, "dimensions": 30, "finest_stage": 2}
    network = PaDiM(2, 1, "resnet10", unit_length=True, **settings)
    image = _scans(24, 32)
    fine, coarse = network.features(image)
    coarse = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, :3, :4]
    joined = functional.normalize(torch.cat([fine, coarse], 1), dim=1)
    expected = joined[:, network.selection].flatten(2).transpose(1, 2)
    torch.testing.assert_close(network.embed(image)[0], expected)


@torch.no_grad()
def test_square_roots_and_a_score_by_both(weights: str) -> None:
    scans, image = _scans(24, 32, batch=12), _scans(24, 32, batch=2, seed=1)
    settings: dict[str, Any] = {"weights": weights, "dimensions": 4, "finest_stage": 2, "reduction": 0.05}
    rooted = PaDiM(2, 1, "resnet10", square_roots=True, score="both", **settings)
    plain = PaDiM(2, 1, "resnet10", **settings)
    torch.testing.assert_close(rooted.embed(image)[0], plain.embed(image)[0].sqrt())
    for batch in scans.split(5):
        rooted.collect(batch)
    rooted.fit()
    rooted.eval()
    distances = rooted.gaussians(rooted.embed(image)[0]).reshape(2, 1, 3, 4)
    local = rooted.pool(rooted.to_image(distances, [24, 32]))
    left_out = rooted.gaussians.left_out(rooted.embed(scans)[0]).reshape(12, 1, 3, 4)
    unit = rooted.pool(rooted.to_image(left_out, [24, 32])).std()
    torch.testing.assert_close(
        rooted.scan_score.unit, unit, rtol=1e-2, atol=0
    )  # the examples are kept in half precision
    assert rooted.scan_score.pooled is not None
    expected = (local / rooted.scan_score.unit + rooted.scan_score.pooled(rooted.embed(image)[2])) / 2
    torch.testing.assert_close(rooted.pool(rooted(image)), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.jit.script(rooted)(image), rooted(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 4, 23])
def test_order_and_batch_size_do_not_matter(batch_size: int) -> None:
    normal = _patches(23)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(1))
    one, other = _fitted(normal), _fitted(normal[order], batch_size)
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.whitening, other.whitening, rtol=1e-5, atol=1e-6)


def test_moments_do_not_grow_with_the_scans_and_are_dropped() -> None:
    sizes = []
    for scans in (2, 200):
        gaussians = PatchGaussians()
        gaussians.collect(_patches(scans))
        sizes.append(sum(buffer.numel() for buffer in gaussians.buffers()))
    assert sizes == [1 + 4 * 3 + 4 * 3 * 3] * 2
    gaussians.fit()
    assert gaussians.moment_1.numel() == gaussians.moment_2.numel() == 0
    assert gaussians.mean.shape == (4, 3) and gaussians.whitening.shape == (4, 3, 3)


def test_a_second_fit_begins_anew() -> None:
    gaussians = _fitted(_patches(23))
    gaussians.collect(_patches(9, seed=2))
    gaussians.fit()
    fresh = _fitted(_patches(9, seed=2))
    assert int(gaussians.count) == 9
    torch.testing.assert_close(gaussians.whitening, fresh.whitening)


def test_less_scans_than_dimensions_still_give_distances_and_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    normal = torch.randn(3, 2, 20, generator=torch.Generator().manual_seed(0))
    assert bool(torch.isfinite(_fitted(normal)(normal)).all())
    (message,) = caplog.messages
    assert message.startswith("covariances of 20 dimensions are fitted to 3 normal scans and rest on their regularis")
    _fitted(_patches(23))
    assert caplog.messages == [message], "enough scans are not worth a word"


def test_one_scan_is_not_enough() -> None:
    gaussians = PatchGaussians()
    with pytest.raises(InputError, match="at least two normal scans .found 0.; list more"):
        gaussians.fit()
    gaussians.collect(_patches(1))
    with pytest.raises(InputError, match="at least two normal scans .found 1."):
        gaussians.fit()


def test_unfitted_or_of_another_size() -> None:
    with pytest.raises(RuntimeError, match="PaDiM has not been fitted"):
        PatchGaussians()(_patches(2))
    with pytest.raises(RuntimeError, match="fitted on another image size"):
        _fitted(_patches(23))(_patches(2, locations=5))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    return str(path)


def _scans(*size: int, batch: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network(weights: str) -> PaDiM:
    """Fitted on six scans, not to be changed."""
    network = PaDiM(2, 1, "resnet10", weights=weights, dimensions=10, sigma=1.5)
    network.train()
    for batch in _scans(24, 32).split(4):
        network.collect(batch)
    network.fit()
    return network.eval()


def test_embedding_stacks_the_cells_that_a_location_lies_in(network: PaDiM) -> None:
    image = _scans(24, 32, batch=2)
    patches, grid, _ = network.embed(image)
    taps = network.features(image)
    assert grid == [6, 8] and patches.shape == (2, 48, 10)
    assert network.selection.tolist() == sorted(set(network.selection.tolist()))
    for row, column in ((0, 0), (5, 7), (2, 3)):
        everything = torch.cat([taps[k][:, :, row // 2**k, column // 2**k] for k in range(3)], 1)
        torch.testing.assert_close(patches[:, row * 8 + column], everything[:, network.selection])


def test_map_is_the_distance_enlarged_and_smoothed(network: PaDiM) -> None:
    image = _scans(24, 32, batch=2, seed=1)
    with torch.no_grad():
        anomaly_map = network(image)
        distances = network.gaussians(network.embed(image)[0]).reshape(2, 1, 6, 8)
    large = functional.interpolate(distances, (24, 32), mode="bilinear", align_corners=False)
    expected = np.stack([gaussian_filter(case.double().numpy(), 1.5, mode="nearest") for case in large[:, 0]])
    np.testing.assert_allclose(anomaly_map[:, 0].numpy(), expected, rtol=1e-4)
    torch.testing.assert_close(network.pool(anomaly_map), anomaly_map.amax((1, 2, 3)))


def test_other_scans_are_further_than_those_fitted(network: PaDiM) -> None:
    with torch.no_grad():
        seen, other = network(_scans(24, 32)), network(_scans(24, 32, seed=1).square())
    assert float(other.mean()) > 2 * float(seen.mean())


def test_the_state_fits_an_unfitted_network_strictly(network: PaDiM, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "state.pt")
    other = PaDiM(2, 1, "resnet10", weights="none", dimensions=10, sigma=1.5, feature_seed=3).eval()
    assert other.selection.tolist() != network.selection.tolist()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), strict=True)
    with torch.no_grad():
        assert torch.equal(other(_scans(24, 32)), network(_scans(24, 32)))


def test_a_stopped_pass_goes_on_where_it_stopped(weights: str) -> None:
    stopped = PaDiM(2, 1, "resnet10", weights=weights, dimensions=4)
    stopped.collect(_scans(16, 16, batch=3))
    resumed = PaDiM(2, 1, "resnet10", weights="none", dimensions=4)
    resumed.load_state_dict(stopped.state_dict(), strict=True)
    for other in (stopped, resumed):
        other.collect(_scans(16, 16, batch=3, seed=1))
        other.fit()
    assert torch.equal(stopped.gaussians.whitening, resumed.gaussians.whitening)


def test_channels_are_fixed_by_their_seed() -> None:
    def selection(torch_seed: int, **arguments: int) -> list[int]:
        torch.manual_seed(torch_seed)
        chosen: list[int] = PaDiM(backbone="resnet10", weights="none", **arguments).selection.tolist()  # type: ignore[arg-type]
        return chosen

    one, other = selection(1), selection(1, feature_seed=1)
    assert one == selection(2) != other
    assert len(one) == len(set(one)) == 100 and one == sorted(one)
    assert min(other) >= 0 and 64 + 128 < max(other) < 64 + 128 + 256


@pytest.mark.parametrize("stage", [1, 3])
def test_taps_of_which_no_channel_was_drawn(weights: str, stage: int) -> None:
    network = PaDiM(2, 1, "resnet10", weights=weights, dimensions=2, finest_stage=stage)
    image = _scans(32, 32, batch=1)
    everything = [
        tap.repeat_interleave(2**k, 2).repeat_interleave(2**k, 3) for k, tap in enumerate(network.features(image))
    ]
    # of the finest tap nothing, of one in the middle nothing
    for selection in ([64, 200], [3, 447]) if stage == 1 else ([0, 255],):
        network.load_state_dict({**network.state_dict(), "selection": torch.tensor(selection)})
        patches, grid, _ = network.embed(image)
        expected = torch.cat(everything, 1)[:, selection].flatten(2).transpose(1, 2)
        assert grid == list(everything[0].shape[2:])
        torch.testing.assert_close(patches, expected)


def test_an_image_smaller_than_the_deepest_stride(weights: str) -> None:
    network = PaDiM(2, 1, "resnet10", weights=weights, dimensions=4)
    with pytest.raises(InputError, match=r"at least 16 pixels along an edge, found 12 x 15.; raise --image_size"):
        network.collect(_scans(12, 15))


def test_features_are_frozen_whatever_the_mode(network: PaDiM) -> None:
    state = {name: value.clone() for name, value in network.features.state_dict().items()}
    network.train()
    with torch.no_grad():
        patches = network.embed(_scans(24, 32))[0]
    network.eval()
    torch.testing.assert_close(patches, network.embed(_scans(24, 32))[0])
    assert all(torch.equal(value, state[name]) for name, value in network.features.state_dict().items())
    assert not any(p.requires_grad for p in network.parameters())


def test_training_it_by_a_loss_is_refused(network: PaDiM) -> None:
    network.train()
    with pytest.raises(TypeError, match="PaDiM is not trained by a loss"):
        network(_scans(24, 32))
    network.eval()


def test_unfitted_network(weights: str) -> None:
    with pytest.raises(RuntimeError, match="has not been fitted"):
        PaDiM(backbone="resnet10", weights=weights).eval()(_scans(16, 16))


def test_scripted_it_gives_the_same_map(network: PaDiM) -> None:
    image = _scans(24, 32, batch=2)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-5)


def test_a_map_does_not_depend_on_batch_mates(network: PaDiM) -> None:
    image = _scans(24, 32, batch=3)
    torch.testing.assert_close(network(image)[1:2], network(image[1:2]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("stage", "grid", "channels"), [(2, [3, 2, 2], 384), (3, [2, 1, 1], 256)])
def test_volumes_on_a_coarse_grid(stage: int, grid: list[int], channels: int, weights: str) -> None:
    network = PaDiM(3, 1, "resnet10", weights=weights, dimensions=5, finest_stage=stage, sigma=1.0)
    scans = _scans(17, 12, 9, batch=3)
    network.collect(scans)
    network.fit()
    network.eval()
    with torch.no_grad():
        assert network.embed(scans)[1] == grid
        assert network(scans).shape == (3, 1, 17, 12, 9)
    assert int(network.selection.max()) < channels


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"dimensions": 449}, "dimensions must lie between 1 and 448 for resnet10, got 449"),
        ({"dimensions": 0}, "dimensions must lie between 1 and 448"),
        ({"finest_stage": 3, "dimensions": 257}, "dimensions must lie between 1 and 256"),
        ({"finest_stage": 4}, "finest_stage must be 1, 2 or 3, got 4"),
    ],
)
def test_wrong_arguments(arguments: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        PaDiM(backbone="resnet10", weights="none", **arguments)  # type: ignore[arg-type]
