"""RD4AD by its paper and public code: what learns, loss, map and score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_resnet import vary_norms
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.inferers import PrecisionInferer
from medad_plugins.losses import GlobalCosineLoss
from medad_plugins.methods.rd4ad import RD4AD


def _rd4ad(spatial_dims: int = 2, seed: int = 0, **arguments: str | float) -> RD4AD:
    torch.manual_seed(seed)
    return RD4AD(spatial_dims, 1, "resnet10", "none", **arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def network() -> RD4AD:
    """In eval mode, with norms that do something; not to be changed."""
    network = _rd4ad()
    vary_norms(network)
    return network.eval()


def _scan(*size: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _features(network: RD4AD, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Student's and teacher's features, put together from the parts."""
    with torch.no_grad():
        taps = network.teacher(image)
        return network.student(network.bottleneck(taps), [list(tap.shape[2:]) for tap in taps]), taps


def _plain_map(network: RD4AD, image: Tensor, combine: str, sigma: float) -> np.ndarray:
    """``(B, *size)`` by loops: 1 - cosine of every scale, to the image, combined, smoothed."""
    maps = []
    for s, t in zip(*_features(network, image), strict=True):
        cosine = (s * t).sum(1) / (s.square().sum(1).sqrt() * t.square().sum(1).sqrt())
        mode = "bilinear" if image.dim() == 4 else "trilinear"
        up = functional.interpolate(1 - cosine[:, None], image.shape[2:], mode=mode, align_corners=True)
        maps.append(up[:, 0].numpy())
    first, second, third = maps
    combined = first * second * third if combine == "product" else first + second + third
    combined = combined / 3 if combine == "mean" else combined
    return np.stack([gaussian_filter(case, sigma, mode="nearest") for case in combined])


def test_loss_is_the_sum_over_scales_of_one_minus_the_cosine_of_whole_maps() -> None:
    network, image = _rd4ad().train(), _scan(48, 40, batch=3)
    student, teacher = network.training_output(image)
    expected = 0.0
    for s, t in zip(student, teacher, strict=True):
        pairs = zip(s.detach().double().numpy(), t.detach().double().numpy(), strict=True)
        expected += 1 - float(np.mean([np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in pairs]))
    assert 0.1 < expected < 3
    assert GlobalCosineLoss()(network(image)).item() == pytest.approx(expected, rel=1e-5)


def test_the_student_and_the_bottleneck_learn_and_the_teacher_stays_as_it_is() -> None:
    network = _rd4ad().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.student_parameters(), 0.1)
    GlobalCosineLoss()(network(_scan(48, 48))).backward()
    with_gradient = {name for name, p in network.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}
    assert with_gradient == {name for name, _ in network.named_parameters() if not name.startswith("teacher.")}
    optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith("teacher.") for name in changed), "neither its weights nor its running statistics"
    assert {name.split(".")[0] for name in changed} == {"bottleneck", "student"}
    assert any("running_mean" in name for name in changed)
    # so a case's teacher features do not depend on its batch mates, even in train mode
    with torch.no_grad():
        three, one = network.teacher(_scan(40, 40, batch=3)), network.teacher(_scan(40, 40, batch=3)[:1])
    torch.testing.assert_close(three[2][:1], one[2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("backbone", "millions"), [("resnet18", 15.383168), ("wide_resnet50_2", 83.802624)])
def test_as_many_parameters_learn_as_in_the_public_code(backbone: str, millions: float) -> None:
    # counted there, without the convolution and norm that it never calls
    with torch.device("meta"):
        network = RD4AD(2, 3, backbone, "none")
    assert sum(parameter.numel() for parameter in network.student_parameters()) == round(millions * 1e6)
    depths = [len(stage.blocks) for stage in network.student.stages]
    assert depths == {"resnet18": [2, 2, 2], "wide_resnet50_2": [3, 4, 6]}[backbone], "deepest stage first"
    grown = [m for m in network.student.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert len(grown) == 6 and {m.kernel_size for m in grown} == {(2, 2)}


@pytest.mark.parametrize("combine", ["sum", "mean", "product"])
@pytest.mark.parametrize(("size", "sigma"), [((32, 40), 4.0), ((37, 50), 1.0), ((64, 64), 0.0)])
def test_map_is_the_smoothed_combination_of_the_scales_on_the_image(
    network: RD4AD, combine: str, size: tuple[int, int], sigma: float
) -> None:
    other = _rd4ad(combine=combine, sigma=sigma).eval()
    other.load_state_dict(network.state_dict())
    image = _scan(*size)
    expected = _plain_map(network, image, combine, sigma)
    with torch.no_grad():
        anomaly_map = other(image)
        scores = other.pool(anomaly_map)
    assert anomaly_map.shape == (2, 1, *size) and anomaly_map.dtype == torch.float32
    np.testing.assert_allclose(anomaly_map[:, 0].numpy(), expected, rtol=1e-4, atol=1e-5)
    # the score is taken after the smoothing
    np.testing.assert_allclose(scores.numpy(), expected.max((1, 2)), rtol=1e-4)


def test_by_default_scales_are_summed_and_smoothed_by_four_pixels(network: RD4AD) -> None:
    image = _scan(64, 64)
    with torch.no_grad():
        np.testing.assert_allclose(network(image)[:, 0].numpy(), _plain_map(network, image, "sum", 4.0), rtol=1e-4)


def test_a_map_does_not_depend_on_batch_mates(network: RD4AD) -> None:
    image = _scan(32, 32, batch=3)
    with torch.no_grad():
        together = network(image)
        for i in range(3):
            torch.testing.assert_close(network(image[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)


def test_scripted_it_gives_the_same_map(network: RD4AD) -> None:
    image = _scan(37, 50)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)


def test_in_bfloat16_the_map_is_float32_and_about_the_same(network: RD4AD) -> None:
    image = _scan(64, 64)
    with torch.no_grad():
        anomaly_map, half = network(image), PrecisionInferer("bfloat16")(image, network)
    assert half.dtype == torch.float32 and torch.unique(half).numel() > 2000
    torch.testing.assert_close(half, anomaly_map, rtol=0, atol=0.02)


def test_volumes() -> None:
    network, image = _rd4ad(3, sigma=1.0).train(), _scan(17, 40, 33)
    with torch.no_grad():
        assert 0 < GlobalCosineLoss()(network(image)).item() < 3
        network.eval()
        anomaly_map = network(image)
    assert anomaly_map.shape == (2, 1, 17, 40, 33)
    np.testing.assert_allclose(anomaly_map[:, 0].numpy(), _plain_map(network, image, "sum", 1.0), rtol=1e-4, atol=1e-5)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="combine must be one of .*, got 'max'"):
        _rd4ad(combine="max")
    with pytest.raises(ValueError, match="a backbone of convolutions: backbone .expected one of resnet10.*, found vgg"):
        RD4AD(backbone="vgg", weights="none")
