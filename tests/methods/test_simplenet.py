"""SimpleNet by its paper: what is frozen, the noise, the shared batch norm, the map and the score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_resnet import vary_norms
from torch import Tensor
from torch.nn import functional

from medad_plugins.losses import TwoSidedMarginLoss
from medad_plugins.methods.simplenet import SimpleNet


def _simplenet(spatial_dims: int = 2, **arguments: str | float) -> SimpleNet:
    torch.manual_seed(0)
    return SimpleNet(
        spatial_dims,
        1,
        "resnet10",
        "none",
        12,
        8,
        **arguments,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def network() -> SimpleNet:
    """In eval mode, with norms that do something; not to be changed."""
    network = _simplenet(sigma=1.5)
    vary_norms(network)
    return network.eval()


def _scan(*size: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x)


def _said(network: SimpleNet, vectors: np.ndarray, own_statistics: bool = False) -> np.ndarray:
    """The discriminator written out for adapted vectors ``(N, D)``."""
    state = {name: value.double().numpy() for name, value in network.discriminator.state_dict().items()}
    hidden = vectors @ state["body.0.weight"].T + state["body.0.bias"]
    mean, variance = state["body.1.running_mean"], state["body.1.running_var"]
    if own_statistics:
        mean, variance = hidden.mean(0), hidden.var(0)
    hidden = (hidden - mean) / np.sqrt(variance + 1e-5) * state["body.1.weight"] + state["body.1.bias"]
    said: np.ndarray = _leaky(hidden) @ state["tail.weight"][0]
    return said


def _adapted(network: SimpleNet, image: Tensor) -> tuple[np.ndarray, tuple[int, ...]]:
    """Adapted embeddings ``(B * P, D)``, location by location, and the grid."""
    with torch.no_grad():
        embedded = network.embedding(network.features(image)).double()
    vectors = np.stack(
        [embedded.movedim(1, -1)[place].numpy() for place in np.ndindex(len(embedded), *embedded.shape[2:])]
    )
    weight, bias = network.adaptor.weight.detach().double().numpy(), network.adaptor.bias.detach().double().numpy()
    return vectors @ weight.T + bias, tuple(embedded.shape[2:])


def test_embeds_stages_2_and_3_in_neighbourhoods_of_three(network: SimpleNet) -> None:
    assert network.embedding.out_channels == 12
    assert network.features.stages == 3
    taps = network.features(_scan(40, 48))
    assert network.adapted(taps)[0].shape == (2 * 5 * 6, 12) == (2 * taps[0][0, 0].numel(), 12)
    # of neighbours beyond the border there is nothing
    embedded = network.embedding([torch.ones(2, tap.shape[1], 12 // k, 12 // k) for k, tap in enumerate(taps, 1)])
    torch.testing.assert_close(embedded[:, :, 6, 6], torch.ones(2, 12))
    assert float(embedded[:, :, 0, 0].max()) < 1


def test_only_adaptor_and_discriminator_learn() -> None:
    network = _simplenet().train()
    before = {name: value.clone() for name, value in network.features.state_dict().items()}
    # scores of 0 lie within the margin on both sides
    TwoSidedMarginLoss()(network(_scan(32, 32))).backward()
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == {"adaptor", "discriminator"}
    assert float(network.adaptor.weight.grad.norm()) > 0  # type: ignore[union-attr]
    assert not network.features.training
    assert all(torch.equal(value, before[name]) for name, value in network.features.state_dict().items())
    assert network.discriminator.tail.bias is None


def test_the_noise_is_normal_and_of_the_given_size(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _simplenet(noise=0.3).train()
    # what the discriminator is given, and not what it says
    monkeypatch.setattr(network.discriminator, "forward", lambda vectors: vectors.detach())
    normal, noisy = network(_scan(128, 128, batch=4))
    np.testing.assert_allclose(normal.numpy(), _adapted(network, _scan(128, 128, batch=4))[0], atol=1e-4)
    noise = noisy - normal
    assert float(noise.std()) == pytest.approx(0.3, rel=0.03)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    # every value has its own
    assert float(torch.corrcoef(noise.T).fill_diagonal_(0).abs().max()) < 0.15
    assert float((noise.abs() < 0.3).float().mean()) == pytest.approx(0.683, abs=0.02)


def test_noise_in_deviations_of_the_adapted_features(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _simplenet(noise=0.3, noise_unit="deviations").train()
    monkeypatch.setattr(network.discriminator, "forward", lambda vectors: vectors.detach())
    normal, noisy = network(_scan(128, 128, batch=4))
    deviation = float(normal.double().var(0, correction=0).mean().sqrt())
    assert float((noisy - normal).std()) == pytest.approx(0.3 * deviation, rel=0.03)
    with pytest.raises(ValueError, match="noise_unit must be one of"):
        _simplenet(noise_unit="voxels")


def test_normal_and_noisy_vectors_share_the_batch_norm() -> None:
    network = _simplenet(noise=0.5).train()
    image = _scan(40, 40)
    torch.manual_seed(3)
    normal, noisy = network(image)
    vectors, _ = _adapted(network, image)
    torch.manual_seed(3)
    noise = 0.5 * torch.randn(vectors.shape)
    expected = _said(network, np.concatenate([vectors, vectors + noise.double().numpy()]), own_statistics=True)
    np.testing.assert_allclose(torch.cat([normal, noisy]).detach().numpy(), expected, atol=1e-4)
    assert len(normal) == len(noisy) == 2 * 5 * 5


@pytest.mark.parametrize("size", [(32, 40), (37, 50), (24, 17, 24)])
def test_map_is_what_the_discriminator_says_brought_to_the_image(size: tuple[int, ...]) -> None:
    network = _simplenet(len(size), sigma=1.0)
    vary_norms(network)
    image = _scan(*size)
    with torch.no_grad():
        anomaly_map = network.eval()(image)
    vectors, grid = _adapted(network, image)
    minus = -_said(network, vectors)
    fine = torch.from_numpy(np.log1p(np.exp(minus))).float().reshape(2, 1, *grid)
    assert grid == tuple(-(-edge // 8) for edge in size)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    resized = network.to_image.smoothing(functional.interpolate(fine, size, mode=mode, align_corners=False))
    highest = tuple(range(1, fine.dim()))
    scale = fine.amax(highest, keepdim=True) / resized.amax(highest, keepdim=True)
    torch.testing.assert_close(anomaly_map, resized * scale, rtol=1e-3, atol=1e-4)
    # the order of the cases is that of the paper's score, the highest -D of a case
    torch.testing.assert_close(network.pool(anomaly_map), fine.amax(highest), rtol=1e-4, atol=1e-5)
    assert float(anomaly_map.min()) > 0 and anomaly_map.dtype == torch.float32


def test_an_abnormal_locations_score_is_the_papers(network: SimpleNet) -> None:
    minus = torch.tensor([-6.0, -0.5, 0.5, 12.0])
    ours = functional.softplus(minus)
    assert ours.tolist() == sorted(ours.tolist())
    assert float(ours[-1]) == pytest.approx(12, abs=1e-4)


def test_a_map_does_not_depend_on_batch_mates(network: SimpleNet) -> None:
    image = _scan(32, 32, batch=3)
    with torch.no_grad():
        together = network(image)
        for i in range(3):
            torch.testing.assert_close(network(image[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)


def test_scripted_it_gives_the_same_map(network: SimpleNet) -> None:
    image = _scan(37, 50)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)


def test_linear_layers_start_as_xavier_says() -> None:
    network = SimpleNet(2, 1, "resnet10", "none", 256, 128)
    assert float(network.adaptor.weight.detach().std()) == pytest.approx((2 / 512) ** 0.5, rel=0.05)
    assert float(network.discriminator.get_parameter("body.0.weight").detach().std()) == pytest.approx(
        (2 / 384) ** 0.5, rel=0.05
    )


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="dimensions, hidden and noise must be positive, got 0, 8 and 0.1"):
        SimpleNet(2, 1, "resnet10", "none", 0, 8, 0.1)
