"""EDC by its paper: loss, gradients, norms, map and score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from plain_resnet import varied_taps, vary_norms
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses import GlobalCosineLoss
from medad_plugins.methods.edc import EDC


def _edc(spatial_dims: int = 2, seed: int = 0, **arguments: str | float) -> EDC:
    torch.manual_seed(seed)
    return EDC(spatial_dims, 1, "resnet10", "none", **arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def network() -> EDC:
    """In eval mode, with norms that do something; not to be changed."""
    network = _edc()
    vary_norms(network)
    return network.eval()


def _scan(*size: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _stride_4_map(network: EDC, image: Tensor) -> Tensor:
    """The mean over three scales of ``1 - cosine``, on the finest grid, written out."""
    with torch.no_grad():
        decoded, encoded = network.training_output(image)
    grid = encoded[0].shape[2:]
    maps = []
    for d, e in zip(decoded, encoded, strict=True):
        dot = (d * e).sum(1, keepdim=True)
        cosine = dot / (d.square().sum(1, keepdim=True).sqrt() * e.square().sum(1, keepdim=True).sqrt())
        mode = "bilinear" if image.dim() == 4 else "trilinear"
        maps.append(functional.interpolate(1 - cosine, grid, mode=mode, align_corners=False))
    return torch.stack(maps).mean(0)


def test_loss_is_the_sum_over_scales_of_one_minus_the_cosine_of_whole_maps() -> None:
    network, image = _edc().train(), _scan(48, 40, batch=3)
    output = network.training_output(image)
    expected = 0.0
    for decoded, encoded in zip(*output, strict=True):
        pairs = zip(decoded.detach().double().numpy(), encoded.detach().double().numpy(), strict=True)
        cosines = [np.vdot(d, e) / (np.linalg.norm(d) * np.linalg.norm(e)) for d, e in pairs]
        expected += 1 - float(np.mean(cosines))
    loss = GlobalCosineLoss()(network(image)).item()
    assert 0.1 < expected < 3
    assert loss == pytest.approx(expected, rel=1e-5)


def _loss_written_out(network: EDC, image: Tensor, stop: bool) -> Tensor:
    """With or without the stop at the taps."""
    decoded, encoded = network(image)
    loss = torch.zeros((), dtype=image.dtype)
    for d, e in zip(decoded, encoded, strict=True):
        d, e = d.flatten(1), (e.detach() if stop else e).flatten(1)
        loss = loss + 1 - ((d * e).sum(1) / (d.norm(dim=1) * e.norm(dim=1))).mean()
    return loss


def test_the_encoder_learns_through_its_deepest_stage_alone() -> None:
    network, image = _edc().double().train(), _scan(40, 40).double()
    names, parameters = zip(*network.named_parameters(), strict=True)
    actual = torch.autograd.grad(GlobalCosineLoss()(network(image)), parameters)
    stopped = torch.autograd.grad(_loss_written_out(network, image, True), parameters)
    free = torch.autograd.grad(_loss_written_out(network, image, False), parameters)
    for name, is_, should, unstopped in zip(names, actual, stopped, free, strict=True):
        assert float(is_.norm()) > 1e-5, name
        # the loss itself is taken in float32
        assert float((is_ - should).norm()) < 1e-4 * float(should.norm()), name
        if name.startswith("encoder.") and "layer4" not in name:
            assert float((is_ - unstopped).norm()) > 0.01 * float(unstopped.norm()), name


def test_norms_follow_slowly() -> None:
    network = _edc().train()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.01}
    image = _scan(32, 32)
    with torch.no_grad():
        batch_mean = network.encoder.conv1(network.encoder.adapter(image)).mean((0, 2, 3))
        network(image)
    norm = network.encoder.bn1
    torch.testing.assert_close(norm.running_mean, 0.01 * batch_mean, rtol=1e-4, atol=1e-7)


@pytest.fixture(scope="module", params=["complete", "without_layer4"])
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of pretrained weights."""
    state = varied_taps("resnet10").state_dict()
    kept = {n: v for n, v in state.items() if request.param == "complete" or not n.startswith("layer4")}
    path: Path = tmp_path_factory.mktemp("weights") / f"{request.param}.pth"
    torch.save(kept, path)
    return path


def test_encoder_norm_eval_keeps_pretrained_statistics_and_learns_the_affine_part(weights: Path) -> None:
    network = EDC(2, 1, "resnet10", str(weights), encoder_norm="eval")
    follows = ["decoder."] if weights.stem == "complete" else ["decoder.", "encoder.layer4."]
    network.eval().train()  # as after a validation
    before = {name: value.clone() for name, value in network.named_buffers()}
    GlobalCosineLoss()(network(_scan(40, 40))).backward()
    changed = {name for name, value in network.named_buffers() if not torch.equal(value, before[name])}
    assert all(name.startswith(tuple(follows)) for name in changed)
    assert all(any(name.startswith(part) for name in changed) for part in follows)
    affine = network.encoder.get_parameter("layer1.0.bn1.weight")
    assert affine.grad is not None and float(affine.grad.abs().sum()) > 0
    # so a case's features do not depend on its batch mates, even in train mode
    with torch.no_grad():
        both, one = network.encoder(_scan(40, 40)), network.encoder(_scan(40, 40)[:1])
    torch.testing.assert_close(both[2][:1], one[2], rtol=1e-4, atol=1e-4)


def test_what_learns_slowly_and_what_learns_from_scratch(weights: Path) -> None:
    network = EDC(2, 1, "resnet10", str(weights))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    slow = [names[id(parameter)] for parameter in network.pretrained_parameters()]
    fresh = [names[id(parameter)] for parameter in network.fresh_parameters()]
    assert sorted(slow + fresh) == sorted(names.values())
    missing = weights.stem != "complete"
    assert {name for name in fresh if name.startswith("encoder.")} == {
        name for name in names.values() if missing and name.startswith("encoder.layer4.")
    }


def test_without_a_file_the_groups_are_the_papers() -> None:
    network = _edc()
    assert len(network.pretrained_parameters()) == len(list(network.encoder.parameters()))
    assert len(network.fresh_parameters()) == len(list(network.decoder.parameters()))


def test_encoder_norm_train_follows_the_scans() -> None:
    network = _edc(encoder_norm="train").train()
    before = network.encoder.bn1.running_mean.clone()
    network(_scan(32, 32))
    assert not torch.equal(network.encoder.bn1.running_mean, before)


@pytest.mark.parametrize("size", [(32, 40), (37, 50)])
def test_map_is_the_mean_over_scales_on_the_finest_grid(network: EDC, size: tuple[int, int]) -> None:
    image = _scan(*size)
    with torch.no_grad():
        anomaly_map = network(image)
    fine = _stride_4_map(network, image)
    resized = functional.interpolate(fine, size, mode="bilinear", align_corners=False)
    scale = fine.amax((1, 2, 3), keepdim=True) / resized.amax((1, 2, 3), keepdim=True)
    assert anomaly_map.shape == (2, 1, *size) and anomaly_map.dtype == torch.float32
    torch.testing.assert_close(anomaly_map, resized * scale, rtol=1e-4, atol=1e-5)
    assert float(anomaly_map.min()) >= 0 and float(anomaly_map.max()) <= 1 and float(anomaly_map.std()) > 1e-3


@pytest.mark.parametrize("reduction", ["max", "mean", 0.05])
def test_score_is_that_of_the_finest_grid(network: EDC, reduction: str | float) -> None:
    other = EDC(2, 1, "resnet10", "none", reduction=reduction).eval()
    other.load_state_dict(network.state_dict())
    image = _scan(64, 64)
    fine = _stride_4_map(network, image).flatten(1).sort(1, descending=True).values
    assert fine.shape[1] == 256
    # of 256 values, the highest 5 % are 13
    expected = {"max": fine[:, 0], "mean": fine.mean(1), 0.05: fine[:, :13].mean(1)}[reduction]
    with torch.no_grad():
        scores = other.pool(other(image))
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)


def test_a_map_does_not_depend_on_batch_mates(network: EDC) -> None:
    image = _scan(32, 32, batch=3)
    with torch.no_grad():
        together = network(image)
        for i in range(3):
            torch.testing.assert_close(network(image[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)


def test_scripted_it_gives_the_same_map(network: EDC) -> None:
    image = _scan(37, 50)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)


def test_volumes() -> None:
    network, image = _edc(3).train(), _scan(33, 12, 9)
    with torch.no_grad():
        assert 0 < GlobalCosineLoss()(network(image)).item() < 3
        network.eval()
        anomaly_map = network(image)
    assert anomaly_map.shape == (2, 1, 33, 12, 9)
    fine = _stride_4_map(network, image)
    assert fine.shape == (2, 1, 9, 3, 3)
    torch.testing.assert_close(network.pool(anomaly_map), fine.amax((1, 2, 3, 4)), rtol=1e-5, atol=1e-6)


def test_the_papers_network_trains_34_6_million_parameters() -> None:
    network = EDC(2, 3, "resnet50", "none").train()
    GlobalCosineLoss()(network(torch.rand(2, 3, 32, 32))).backward()
    with_gradient = sum(p.numel() for p in network.parameters() if p.grad is not None)
    assert round(with_gradient / 1e6, 1) == 34.6
    assert with_gradient == sum(p.numel() for p in network.parameters())


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="encoder_norm must be 'train' or 'eval', got 'frozen'"):
        EDC(encoder_norm="frozen")
