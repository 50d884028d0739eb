"""RD++ by its paper and public code: the projections, what is trained on what, the map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_resnet import vary_norms
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.methods.rd_plus_plus import RDPlusPlus, RDPlusPlusLoss
from medad_plugins.networks.blocks.projection import Projection


def _network(spatial_dims: int = 2, **arguments: str | float) -> RDPlusPlus:
    torch.manual_seed(0)
    network = RDPlusPlus(spatial_dims, 1, "resnet10", "none", **arguments)  # type: ignore[arg-type]
    vary_norms(network)
    return network


@pytest.fixture(scope="module")
def network() -> RDPlusPlus:
    """In eval mode; not to be changed."""
    return _network().eval()


def _scan(*size: int, batch: int = 2, channels: int = 1) -> Tensor:
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(0))


def _projected(projection: Projection, x: Tensor) -> Tensor:
    """Four times: 3x3 convolution with bias, each channel of each case to mean 0 and variance 1, leaky ReLU."""
    state = projection.state_dict()
    function = functional.conv2d if x.dim() == 4 else functional.conv3d
    axes = tuple(range(2, x.dim()))
    for layer in (0, 3, 6, 9):
        x = function(x, state[f"layers.{layer}.weight"], state[f"layers.{layer}.bias"], padding=1)
        x = (x - x.mean(axes, keepdim=True)) / (x.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()
        x = torch.where(x > 0, x, 0.01 * x)
    return x


@pytest.mark.parametrize("size", [(6, 5), (4, 3, 5), (1, 2)])
def test_projection_is_that_of_its_description(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    projection = Projection(8, len(size))
    x = torch.rand(3, 8, *size)
    with torch.no_grad():
        torch.testing.assert_close(projection(x), _projected(projection, x), rtol=1e-4, atol=1e-4)
        assert torch.equal(projection.eval()(x), projection.train()(x)), "the norms have no running statistics"
    convolutions = [m for m in projection.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(8, 4), (4, 2), (2, 4), (4, 8)]
    assert len(list(projection.parameters())) == 8


def test_scans_of_which_no_norm_can_be_had_are_refused() -> None:
    with pytest.raises(InputError, match=r"too small for the projections.*image_size"):
        _network().eval()(_scan(16, 16))
    with torch.no_grad():
        assert _network().eval()(_scan(16, 17)).shape == (2, 1, 16, 17)


def test_training_shows_the_student_clean_scans_and_the_projections_both() -> None:
    network, pair = _network().train(), _scan(40, 48, batch=3, channels=2)
    with torch.no_grad():
        features = network.training_output(pair)
        network.load_state_dict(_network().state_dict())
        clean, noisy = (network.teacher(pair[:, half : half + 1]) for half in (0, 1))
        expected = {
            "clean": clean,
            "noisy": noisy,
            "projected": [_projected(p, t) for p, t in zip(network.projections, clean, strict=True)],  # type: ignore[arg-type]
            "projected_noisy": [_projected(p, t) for p, t in zip(network.projections, noisy, strict=True)],  # type: ignore[arg-type]
        }
        sizes = [list(tap.shape[2:]) for tap in clean]
        expected["rebuilt"] = network.student(network.bottleneck(expected["projected"]), sizes)
    assert features.keys() == expected.keys()
    for name, values in expected.items():
        assert len(values) == 3
        for found, value in zip(features[name], values, strict=True):
            torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-3, msg=name)


def test_two_groups_learn_and_the_teacher_stays_as_it_is() -> None:
    network = _network().train()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    slow = [names[id(parameter)] for parameter in network.projection_parameters()]
    fast = [names[id(parameter)] for parameter in network.student_parameters()]
    assert {name.split(".")[0] for name in slow} == {"projections"} and len(slow) == 24
    assert {name.split(".")[0] for name in fast} == {"bottleneck", "student"}
    assert len(slow) + len(fast) == len([name for name in names.values() if not name.startswith("teacher.")])
    before = {name: value.clone() for name, value in network.teacher.state_dict().items()}
    RDPlusPlusLoss()(network(_scan(48, 48, channels=2))).backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == name.startswith("teacher."), name
    # a bias before an instance norm does nothing, all else learns
    still = {n for n, p in network.named_parameters() if p.grad is not None and float(p.grad.abs().max()) < 1e-6}
    assert all(name.startswith("projections.") and name.endswith(".bias") for name in still)
    assert all(torch.equal(value, before[name]) for name, value in network.teacher.state_dict().items())


@pytest.mark.parametrize("size", [(40, 48), (33, 40, 24)])
def test_map_compares_the_teacher_with_what_was_rebuilt_of_projections(size: tuple[int, ...]) -> None:
    network, image = _network(len(size), sigma=1.0).eval(), _scan(*size)
    with torch.no_grad():
        anomaly_map = network(image)
        taps = network.teacher(image)
        projected = [_projected(p, t) for p, t in zip(network.projections, taps, strict=True)]  # type: ignore[arg-type]
        rebuilt = network.student(network.bottleneck(projected), [list(tap.shape[2:]) for tap in taps])
    total = np.zeros((2, *size))
    for r, t in zip(rebuilt, taps, strict=True):
        cosine = (r * t).sum(1, keepdim=True) / (r.norm(dim=1, keepdim=True) * t.norm(dim=1, keepdim=True))
        mode = "bilinear" if len(size) == 2 else "trilinear"
        total += functional.interpolate(1 - cosine, size, mode=mode, align_corners=True)[:, 0].double().numpy()
    expected = np.stack([gaussian_filter(case, 1.0, mode="nearest") for case in total])
    np.testing.assert_allclose(anomaly_map[:, 0].numpy(), expected, rtol=1e-3, atol=1e-3)


def test_a_map_does_not_depend_on_batch_mates(network: RDPlusPlus) -> None:
    image = _scan(32, 32, batch=3)
    with torch.no_grad():
        together = network(image)
        for i in range(3):
            torch.testing.assert_close(network(image[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)


def test_scripted_it_gives_the_same_map(network: RDPlusPlus) -> None:
    image = _scan(37, 50)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)
