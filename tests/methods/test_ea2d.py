"""EA2D by its paper: views, skips, loss, gradients, norms, map and score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_resnet import varied_taps, vary_norms
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.methods.ea2d import EA2D, ViewConsistencyLoss
from medad_plugins.methods.edc import EDC


def _ea2d(spatial_dims: int = 2, **arguments: Any) -> EA2D:
    torch.manual_seed(0)
    return EA2D(spatial_dims, 1, "resnet10", "none", **arguments)


def _open_gates(network: EA2D) -> EA2D:
    for index, (name, parameter) in enumerate(network.named_parameters()):
        if name.endswith("gate"):
            nn.init.constant_(parameter, 0.5 + 0.1 * index % 1)
    return network


@pytest.fixture(scope="module")
def network() -> EA2D:
    """In eval mode, with open gates and norms that do something; not to be changed."""
    network = _open_gates(_ea2d())
    vary_norms(network)
    return network.eval()


def _scan(*size: int, batch: int = 2, channels: int = 1) -> Tensor:
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(0))


def _half_turn(image: Tensor) -> Tensor:
    """Every row from the last to the first, in each the pixels too."""
    return torch.from_numpy(np.ascontiguousarray(image.detach().numpy()[:, :, ::-1, ::-1]))


def _view(network: EA2D, image: Tensor, index: int, detach_skips: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """Decoded maps, finest first, and the four stages of one view, as the paper's figure chains them."""
    decoder: Any = network.decoders[index]
    stage1, stage2, stage3, stage4 = network.encoder(_half_turn(image) if index else image)
    attend16, attend8 = decoder.attentions
    deep, middle, fine = decoder.decoder.stages
    skip3, skip2 = attend16(stage3), attend8(stage2)
    if detach_skips:
        skip3, skip2 = skip3.detach(), skip2.detach()
    decoded3 = deep(stage4, list(stage3.shape[2:]))
    decoded2 = middle(decoded3 + skip3, list(stage2.shape[2:]))
    decoded1 = fine(decoded2 + skip2, list(stage1.shape[2:]))
    return [decoded1, decoded2, decoded3], [stage1, stage2, stage3, stage4]


def test_each_view_has_its_decoder_and_attended_skips_from_deeper_scales(network: EA2D) -> None:
    image = _scan(64, 48)
    with torch.no_grad():
        pairs, means = network.training_output(image)
        for index, (decoded, encoded) in enumerate(pairs):
            expected, stages = _view(network, image, index)
            torch.testing.assert_close(decoded, expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(encoded, stages[:3], rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(means[index], stages[3].mean((2, 3)), rtol=1e-5, atol=1e-6)
    assert len(pairs) == len(means) == 2


def _loss_written_out(network: EA2D, image: Tensor, detach_skips: bool = False) -> Tensor:
    """Half of each view's loss and half of the consistency."""
    loss, means = torch.zeros((), dtype=image.dtype), []
    for index in range(2):
        decoded, stages = _view(network, image, index, detach_skips)
        for d, e in zip(decoded, stages[:3], strict=True):
            d, e = d.flatten(1), e.detach().flatten(1)
            loss = loss + 0.5 * (1 - ((d * e).sum(1) / (d.norm(dim=1) * e.norm(dim=1))).mean())
        means.append(stages[3].mean((2, 3)))
    cosine = (means[0] * means[1]).sum(1) / (means[0].norm(dim=1) * means[1].norm(dim=1))
    return loss + 0.5 * (1 - cosine.mean())


def test_the_encoder_learns_through_deepest_stage_and_skips_and_not_through_the_targets() -> None:
    network, image = _open_gates(_ea2d()).double(), _scan(40, 40).double()
    vary_norms(network)
    network.eval()  # running statistics, so that gradients are compared and not the order of norms' updates
    names, parameters = zip(*network.named_parameters(), strict=True)
    loss = ViewConsistencyLoss()(network.training_output(image))
    expected = _loss_written_out(network, image)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    actual = torch.autograd.grad(loss, parameters)
    should = torch.autograd.grad(expected, parameters)
    without = torch.autograd.grad(_loss_written_out(network, image, True), parameters, allow_unused=True)
    for name, is_, wanted, cut in zip(names, actual, should, without, strict=True):
        # the loss itself is taken in float32; a key's bias shifts all weights of a softmax alike
        assert float((is_ - wanted).norm()) < 1e-4 * float(wanted.norm()) + 1e-7, name
        assert float(is_.norm()) > 1e-6 or name.endswith("key.bias"), name
        if name.startswith("encoder.") and "layer4" not in name:
            assert float((is_ - cut).norm()) > 0.01 * float(is_.norm()), name


def test_without_attention_and_second_view_it_is_encoder_decoder_contrast() -> None:
    network, edc = _ea2d(views=1, attention_levels=0).eval(), EDC(2, 1, "resnet10", "none").eval()
    vary_norms(network)
    edc.load_state_dict({n.replace("decoders.0.decoder.", "decoder."): v for n, v in network.state_dict().items()})
    image = _scan(48, 48)
    with torch.no_grad():
        (pair,), _ = network.training_output(image)
        torch.testing.assert_close(pair, edc.training_output(image))


def test_the_encoders_norms_follow_each_view_and_the_decoders_theirs() -> None:
    network, image = _ea2d().train(), _scan(32, 32)
    expected = torch.zeros(64)
    with torch.no_grad():
        for view in (image, _half_turn(image)):
            batch_mean = network.encoder.conv1(network.encoder.adapter(view)).mean((0, 2, 3))
            expected = 0.99 * expected + 0.01 * batch_mean
        network(image)
    torch.testing.assert_close(network.encoder.bn1.running_mean, expected, rtol=1e-4, atol=1e-7)
    norms = [module for module in network.decoders.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {int(norm.num_batches_tracked) for norm in norms if norm.num_batches_tracked is not None} == {1}


def _grid_maps(network: EA2D, image: Tensor) -> list[Tensor]:
    """Each view's map on the finest grid, the second turned back: nearest neighbours, mean over scales."""
    maps = []
    for index in range(2):
        with torch.no_grad():
            decoded, stages = _view(network, image, index)
        fused = torch.zeros(len(image), 1, *stages[0].shape[2:])
        for d, e in zip(decoded, stages[:3], strict=True):
            cosine = (d * e).sum(1, keepdim=True) / (d.norm(dim=1, keepdim=True) * e.norm(dim=1, keepdim=True))
            factor = stages[0].shape[2] // e.shape[2]
            fused += (1 - cosine).repeat_interleave(factor, 2).repeat_interleave(factor, 3) / 3
        maps.append(_half_turn(fused) if index else fused)
    return maps


@pytest.mark.parametrize("reduction", ["max", "mean", 0.05])
def test_map_is_the_mean_of_both_views_and_its_score_that_of_their_scores(
    network: EA2D, reduction: str | float
) -> None:
    other = _ea2d(reduction=reduction).eval()
    other.load_state_dict(network.state_dict())
    image = _scan(64, 96)
    maps = _grid_maps(network, image)
    with torch.no_grad():
        anomaly_map = other(image)
    expected = torch.stack([other.pool(each) for each in maps]).mean(0)
    torch.testing.assert_close(other.pool(anomaly_map), expected, rtol=1e-4, atol=1e-6)
    resized = functional.interpolate((maps[0] + maps[1]) / 2, (64, 96), mode="bilinear", align_corners=False)
    for case in range(2):
        ratio = anomaly_map[case] / resized[case]
        torch.testing.assert_close(ratio, torch.full_like(ratio, float(ratio.mean())), rtol=1e-3, atol=1e-3)
    assert anomaly_map.shape == (2, 1, 64, 96) and 0 <= float(anomaly_map.min()) < float(anomaly_map.max()) <= 1


def test_volumes_are_turned_about_their_last_axis_and_scored() -> None:
    network, image = _ea2d(3, attention_levels=1).train(), _scan(33, 32, 24)
    with torch.no_grad():
        assert 0 < float(ViewConsistencyLoss()(network(image))) < 4
        network.eval()
        (_, encoded), (_, turned) = network.training_output(image)[0]
        again = network.training_output(image.flip([2, 3]))[0]
        assert network(image).shape == image.shape
    torch.testing.assert_close(again[0][1], turned)
    torch.testing.assert_close(again[1][1], encoded)


@pytest.mark.parametrize("levels", [0, 1])
def test_fewer_levels_leave_out_the_finer_skips(levels: int) -> None:
    network = _ea2d(attention_levels=levels)
    widths = [p.shape[0] for name, p in network.named_parameters() if name.endswith("value.weight")]
    assert widths == [256] * 2 * levels
    with torch.no_grad():
        assert network.eval()(_scan(40, 40)).shape == (2, 1, 40, 40)


def test_attentions_and_decoders_learn_from_scratch_and_a_missing_stage_too(tmp_path: Path) -> None:
    state = {n: v for n, v in varied_taps("resnet10").state_dict().items() if not n.startswith("layer4")}
    torch.save(state, tmp_path / "weights.pth")
    network = EA2D(2, 1, "resnet10", str(tmp_path / "weights.pth"))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    slow = {names[id(parameter)] for parameter in network.pretrained_parameters()}
    fresh = {names[id(parameter)] for parameter in network.fresh_parameters()}
    assert slow | fresh == set(names.values()) and not slow & fresh
    assert all(name.startswith("encoder.") and "layer4" not in name for name in slow)
    assert {name.split(".")[0] for name in fresh} == {"encoder", "decoders"}


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="views must be 1 or 2 and attention_levels 0 to 2, got 3 and 2"):
        EA2D(views=3)
    with pytest.raises(ValueError, match="got 2 and 3"):
        EA2D(attention_levels=3)
    with pytest.raises(ValueError, match="encoder_norm must be 'train' or 'eval', got 'frozen'"):
        EA2D(encoder_norm="frozen")


@pytest.mark.parametrize("size", [(37, 50), (33, 20, 17)])
def test_an_efficientnet_is_mirrored_by_its_taps(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = _open_gates(EA2D(len(size), 1, "efficientnet_lite0", "none", attention_levels=2))
    vary_norms(network)
    network.eval()
    scans = _scan(*size)
    with torch.no_grad():
        pairs, _ = network.training_output(scans)
        for view, (decoded, encoded) in enumerate(pairs):
            wanted, stages = _view(network, scans, view)
            torch.testing.assert_close(encoded, stages[:3])
            torch.testing.assert_close(decoded, wanted)
        anomaly_map = network(scans)
        torch.testing.assert_close(torch.jit.script(network)(scans), anomaly_map, rtol=1e-5, atol=1e-6)
    assert anomaly_map.shape == (2, 1, *size)
    assert float(anomaly_map.min()) >= 0 and float(anomaly_map.max()) <= 2 and float(anomaly_map.std()) > 1e-3
