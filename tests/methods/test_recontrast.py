"""ReContrast by its paper: crossed pairs, what learns, norms, loss, map and score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_resnet import varied_taps, vary_norms
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.methods.recontrast import HardMinedCosineLoss, ReContrast


def _recontrast(spatial_dims: int = 2, **arguments: Any) -> ReContrast:
    torch.manual_seed(0)
    return ReContrast(spatial_dims, 1, "resnet10", "none", **arguments)


def _parted(network: ReContrast) -> ReContrast:
    """As after a training: the encoder is no longer the teacher, the norms do something."""
    vary_norms(network)
    vary_norms(network.encoder, seed=1)
    return network


@pytest.fixture(scope="module")
def network() -> ReContrast:
    """In eval mode; not to be changed."""
    return _parted(_recontrast(sigma=1.5)).eval()


def _scan(*size: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(0))


def _crossed(network: ReContrast, image: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Pairs (rebuilt, true) of both directions, each passed through the network by itself."""
    trained, frozen = network.encoder(image), network.teacher(image)
    pairs = []
    for given, heads, wanted in (
        (trained, network.teacher_heads, frozen),
        (frozen, network.encoder_heads, trained),
    ):
        decoded = network.decoder(network.bottleneck(given), [list(tap.shape[2:]) for tap in given])
        for features, head, true in zip(decoded, heads, wanted, strict=True):
            assert isinstance(head, nn.Conv2d | nn.Conv3d) and head.bias is not None
            pointwise = head.weight.flatten(1) @ features.flatten(2) + head.bias.unsqueeze(1)
            pairs.append((pointwise.reshape(true.shape), true))
    return pairs


@pytest.mark.parametrize("size", [(64, 64), (50, 37)])
def test_from_one_encoder_the_others_features_are_rebuilt(network: ReContrast, size: tuple[int, int]) -> None:
    image = _scan(*size)
    with torch.no_grad():
        rebuilt, true = network.training_output(image)
        expected = _crossed(network, image)
    assert len(rebuilt) == len(true) == 6
    for r, t, (expected_r, expected_t) in zip(rebuilt, true, expected, strict=True):
        torch.testing.assert_close(r, expected_r, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(t, expected_t, rtol=1e-4, atol=1e-5)
    # the two directions and their heads differ, so a swap would show
    assert float((rebuilt[0] - rebuilt[3]).abs().mean()) > 0.01 and float((true[0] - true[3]).abs().mean()) > 0.01


def test_both_encoders_start_as_the_pretrained_one(tmp_path: Path) -> None:
    state = {n: v for n, v in varied_taps("resnet10", in_channels=1).state_dict().items() if "layer4" not in n}
    torch.save(state, tmp_path / "weights.pth")
    for weights in ("none", str(tmp_path / "weights.pth")):
        network = ReContrast(2, 1, "resnet10", weights)
        own, other = network.encoder.state_dict(), network.teacher.state_dict()
        assert own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)
    assert all(torch.equal(network.teacher.state_dict()[name], value) for name, value in state.items())


def _loss_written_out(network: ReContrast, image: Tensor, stop: bool) -> Tensor:
    """Half of the sum of all scales of both directions, all locations hard."""
    loss = torch.zeros((), dtype=image.dtype)
    for rebuilt, true in _crossed(network, image):
        r, t = rebuilt.flatten(1), (true.detach() if stop else true).flatten(1)
        loss = loss + 0.5 * (1 - ((r * t).sum(1) / (r.norm(dim=1) * t.norm(dim=1))).mean())
    return loss


def test_the_encoder_learns_through_the_bottleneck_alone_and_the_teacher_nothing() -> None:
    network, image = _parted(_recontrast()).double().eval(), _scan(40, 40).double()
    loss = HardMinedCosineLoss(hardness=-100.0, weight=0.5)(network.training_output(image))
    assert loss.item() == pytest.approx(_loss_written_out(network, image, True).item(), rel=1e-5)
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in named} == {
        "encoder", "bottleneck", "decoder", "teacher_heads", "encoder_heads"
    }  # fmt: skip
    parameters = list(named.values())
    actual = torch.autograd.grad(loss, parameters)
    stopped = torch.autograd.grad(_loss_written_out(network, image, True), parameters)
    free = torch.autograd.grad(_loss_written_out(network, image, False), parameters)
    for name, is_, should, unstopped in zip(named, actual, stopped, free, strict=True):
        assert float(is_.norm()) > 1e-6, name
        assert float((is_ - should).norm()) < 1e-4 * float(should.norm()), name
        if name.startswith("encoder."):
            assert float((is_ - unstopped).norm()) > 0.01 * float(unstopped.norm()), name


def test_in_training_the_teacher_stays_as_it_is_and_the_norms_see_both_halves_together() -> None:
    network, image = _recontrast().train(), _scan(64, 64)
    before = {name: value.clone() for name, value in network.teacher.state_dict().items()}
    with torch.no_grad():
        trained, frozen = network.encoder(image), network.teacher(image)
        first: Any = network.bottleneck.reduce2[0]
        halves = [first(taps[1]) for taps in (trained, frozen)]
        network.bottleneck.load_state_dict(_recontrast().bottleneck.state_dict())
        network(image)
    norm: Any = network.bottleneck.reduce2[1]
    torch.testing.assert_close(norm.running_mean, 0.1 * torch.cat(halves).mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    assert int(norm.num_batches_tracked) == 1
    assert not network.teacher.training and network.encoder.training
    assert all(torch.equal(value, before[name]) for name, value in network.teacher.state_dict().items())
    assert not torch.equal(network.encoder.bn1.running_mean, before["bn1.running_mean"])


def test_encoder_norm_eval_keeps_the_statistics_and_groups_leave_out_the_teacher() -> None:
    network = _recontrast(encoder_norm="eval").eval().train()
    before = network.encoder.bn1.running_mean.clone()
    network(_scan(32, 32))
    assert torch.equal(network.encoder.bn1.running_mean, before)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    slow = {names[id(p)].split(".")[0] for p in network.pretrained_parameters()}
    fresh = {names[id(p)].split(".")[0] for p in network.fresh_parameters()}
    assert slow == {"encoder"}
    assert fresh == {"bottleneck", "decoder", "teacher_heads", "encoder_heads"}


@pytest.mark.parametrize("size", [(48, 40), (37, 50)])
def test_map_is_the_smoothed_sum_of_six_on_the_image_grid(network: ReContrast, size: tuple[int, int]) -> None:
    image = _scan(*size)
    total = torch.zeros(2, 1, *size)
    with torch.no_grad():
        for rebuilt, true in _crossed(network, image):
            dot = (rebuilt * true).sum(1, keepdim=True)
            distance = 1 - dot / (rebuilt.norm(dim=1, keepdim=True) * true.norm(dim=1, keepdim=True))
            total += functional.interpolate(distance, size, mode="bilinear", align_corners=True)
        anomaly_map = network(image)
    expected = np.stack([gaussian_filter(each, 1.5, mode="nearest") for each in total[:, 0].numpy()])[:, None]
    np.testing.assert_allclose(anomaly_map.numpy(), expected, rtol=1e-3, atol=1e-3)
    # the score is taken after the smoothing
    np.testing.assert_allclose(network.pool(anomaly_map).numpy(), expected.max((1, 2, 3)), rtol=1e-3)
    assert anomaly_map.dtype == torch.float32 and 0 <= float(anomaly_map.min()) < float(anomaly_map.max()) <= 12


def test_volumes() -> None:
    network, image = _recontrast(3, sigma=0.5).train(), _scan(32, 24, 33)
    with torch.no_grad():
        assert 0 < float(HardMinedCosineLoss(weight=0.5)(network(image))) < 6
        assert network.eval()(image).shape == image.shape


def test_the_papers_decoder_has_its_encoders_depths_from_the_deepest_stage_on() -> None:
    with torch.device("meta"):
        network = ReContrast(2, 3, "resnet50", "none")
    depths = [len(stage.blocks) for stage in network.decoder.stages]
    assert depths == [3, 4, 6]
    assert [head.out_channels for head in network.teacher_heads] == [256, 512, 1024]
