"""Coupling flow: its inverse, its volume change against the Jacobian, and what it keeps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medad_plugins.losses import bits_per_dimension
from medad_plugins.networks import CouplingFlow
from medad_plugins.networks.blocks.flow import CouplingStep, ResidualSubnet, Subnet, convolutional_subnet, log_density

SUBNETS = pytest.mark.parametrize("subnet", [convolutional_subnet, ResidualSubnet], ids=["convolution", "residual"])
DIMS = pytest.mark.parametrize("spatial_dims", [2, 3])


def _flow(spatial_dims: int, subnet: Subnet, channels: int = 5, steps: int = 3) -> CouplingFlow:
    """In double precision and eval mode, with parameters that make every part of it do something."""
    torch.manual_seed(0)
    flow = CouplingFlow(channels, spatial_dims, steps, subnet).double().eval()
    for name, parameter in flow.named_parameters():
        if name.endswith(("raw_scale", "shift")):
            parameter.data += torch.randn_like(parameter)
        else:
            parameter.data *= 3
    return flow


def _features(spatial_dims: int, channels: int = 5, batch: int = 2) -> Tensor:
    size = (3, 2, 2)[:spatial_dims]
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@SUBNETS
@DIMS
def test_inverse_gives_the_features_back(spatial_dims: int, subnet: Subnet) -> None:
    flow, features = _flow(spatial_dims, subnet), _features(spatial_dims)
    z, _ = flow(features)
    assert z.shape == features.shape and float((z - features).detach().abs().mean()) > 0.1
    torch.testing.assert_close(flow.inverse(z), features, rtol=0, atol=1e-9)
    there, _ = flow(flow.inverse(features))
    torch.testing.assert_close(there, features, rtol=0, atol=1e-9)


@SUBNETS
@DIMS
def test_log_determinant_is_that_of_the_jacobian_of_each_case(spatial_dims: int, subnet: Subnet) -> None:
    flow, features = _flow(spatial_dims, subnet), _features(spatial_dims)
    _, log_det = flow(features)
    assert log_det.shape == (2,) and float((log_det[0] - log_det[1]).detach().abs()) > 1e-3
    for index, case in enumerate(features):
        jacobian = torch.autograd.functional.jacobian(lambda x: flow(x[None])[0][0], case)
        assert isinstance(jacobian, Tensor)
        expected = torch.linalg.slogdet(jacobian.reshape(case.numel(), case.numel())).logabsdet
        assert float(log_det[index]) == pytest.approx(float(expected), abs=1e-8)


def test_a_fresh_step_without_its_subnet_is_its_permutation() -> None:
    step = CouplingStep(6, 2, convolutional_subnet)
    for parameter in step.subnet.parameters():
        parameter.data.zero_()
    x = torch.randn(2, 6, 3, 3)
    y, log_det = step(x)
    assert step.permutation.tolist() != list(range(6))
    torch.testing.assert_close(y, x[:, step.permutation])
    torch.testing.assert_close(log_det, torch.zeros(2), rtol=0, atol=1e-5)


def test_log_scales_stay_within_the_clamp() -> None:
    torch.manual_seed(0)
    step = CouplingStep(4, 2, convolutional_subnet, clamp=0.5)
    for parameter in step.subnet.parameters():
        parameter.data *= 1e4
    _, log_det = step(torch.randn(1, 4, 3, 3))
    # two active channels at nine locations
    assert 1 < abs(float(log_det.detach())) <= 0.5 * 2 * 9 + 1e-4


def test_permutations_differ_and_travel_in_the_state_dict() -> None:
    torch.manual_seed(0)
    flow, other = (CouplingFlow(8, 2, 2).eval() for _ in range(2))
    first, second = (step.state_dict()["permutation"] for step in flow.steps)
    assert first.tolist() != second.tolist()
    x = torch.randn(1, 8, 2, 2)
    assert not torch.allclose(flow(x)[0], other(x)[0])
    other.load_state_dict(flow.state_dict())
    assert torch.equal(flow(x)[0], other(x)[0])


def test_learns_a_correlated_density() -> None:
    """Of ``y = x + e``, both of variance 1: the true bits are those of a Gaussian with covariance [[1, 1], [1, 2]]."""
    torch.manual_seed(0)
    flow = CouplingFlow(2, 2, 4)
    optimizer = torch.optim.Adam(flow.parameters(), 0.01)
    for _ in range(300):
        x, noise = torch.randn(64, 1, 2, 2), torch.randn(64, 1, 2, 2)
        loss = bits_per_dimension(*flow(torch.cat([x, x + noise], 1))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # its determinant is 1, so that the entropy is that of two independent normal values
    assert loss.item() == pytest.approx(0.5 * math.log2(2 * math.pi * math.e), abs=0.08)


def test_bits_per_dimension_written_out() -> None:
    z, log_det = torch.randn(3, 2, 2, 2), torch.tensor([0.5, -1.0, 4.0])
    for index, case in enumerate(z):
        log_p = sum(-0.5 * float(v) ** 2 - 0.5 * math.log(2 * math.pi) for v in case.flatten())
        expected = -(log_p + float(log_det[index])) / 8 / math.log(2)
        assert float(bits_per_dimension(z, log_det)[index]) == pytest.approx(expected, rel=1e-5)
        assert float(log_density(case).sum()) == pytest.approx(log_p, rel=1e-5)


def test_half_precision_stays_outside() -> None:
    flow = CouplingFlow(4, 2, 2).eval()
    features = torch.randn(1, 4, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        z, log_det = flow(features.bfloat16())
    assert z.dtype == log_det.dtype == torch.float32
    exact, _ = flow(features.bfloat16().float())
    torch.testing.assert_close(z, exact, rtol=0.02, atol=0.02)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="channels must be at least 2 and clamp positive, got 1 and 2"):
        CouplingFlow(1)
