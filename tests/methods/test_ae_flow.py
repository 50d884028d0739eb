"""AE-FLOW by its paper: what is frozen, what the loss takes, the map and the score."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from plain_resnet import vary_norms
from torch import Tensor, nn

from medad_plugins.methods.ae_flow import AEFlow, FlowReconstructionLoss
from medad_plugins.networks import UpsamplingDecoder
from medad_plugins.scorers import residual_map


def _ae_flow(spatial_dims: int = 2, **arguments: str | float) -> AEFlow:
    torch.manual_seed(0)
    network = AEFlow(spatial_dims, 1, "resnet10", "none", 2, **arguments)  # type: ignore[arg-type]
    vary_norms(network)
    for step in network.flow.steps:
        step.get_parameter("shift").data += 0.5 * torch.randn(1)
    return network


def _scan(*size: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _latent(network: AEFlow, image: Tensor) -> np.ndarray:
    with torch.no_grad():
        z: Tensor = network.flow(network.features(image)[0])[0]
    return z.double().numpy()


def _papers_score(network: AEFlow, image: Tensor, flow_share: float) -> list[float]:
    """``share * -exp(log p(z) / D) + (1 - share) * -SSIM``, case by case; the SSIM is tested elsewhere."""
    with torch.no_grad():
        reconstruction = (network.training_output(image)[2] + 1) / 2
    ssim = 1 - residual_map(reconstruction, image, "ssim").flatten(1).mean(1)
    scores = []
    for z, similarity in zip(_latent(network, image), ssim.tolist(), strict=True):
        log_p = sum(-0.5 * value * value - 0.5 * math.log(2 * math.pi) for value in z.ravel())
        scores.append(-flow_share * math.exp(log_p / z.size) - (1 - flow_share) * similarity)
    return scores


def test_flow_and_decoder_learn_together_and_the_encoder_does_not() -> None:
    network = _ae_flow().train()
    before = {name: value.clone() for name, value in network.features.state_dict().items()}
    FlowReconstructionLoss()(network(_scan(32, 48))).backward()
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == {"flow", "decoder"}
    assert not network.features.training and network.decoder.training
    assert all(torch.equal(value, before[name]) for name, value in network.features.state_dict().items())


def test_the_reconstruction_teaches_the_flow_too() -> None:
    network = _ae_flow().train()
    FlowReconstructionLoss(flow_weight=0.0)(network(_scan(32, 32))).backward()
    gradient = network.flow.steps[0].get_parameter("subnet.0.weight").grad
    assert gradient is not None and float(gradient.norm()) > 0


def test_the_loss_takes_the_scan_on_the_scale_of_the_tanh() -> None:
    network = _ae_flow().train()
    image = torch.stack([torch.zeros(1, 40, 40), torch.ones(1, 40, 40)])
    z, log_det, reconstruction, target = network(image)
    assert z.shape == (2, 256, 3, 3) and log_det.shape == (2,)
    assert reconstruction.shape == target.shape == (2, 1, 40, 40)
    assert (float(target.min()), float(target.max())) == (-1, 1)
    assert float(reconstruction.detach().abs().max()) < 1


@pytest.mark.parametrize("flow_share", [0.9, 0.0, 1.0])
@pytest.mark.parametrize("size", [(32, 48), (37, 50), (33, 20, 24)])
def test_the_mean_of_the_map_is_the_papers_score_but_for_a_constant(size: tuple[int, ...], flow_share: float) -> None:
    network = _ae_flow(len(size), flow_share=flow_share).eval()
    image = _scan(*size)
    with torch.no_grad():
        anomaly_map = network(image)
        scores = network.pool(anomaly_map)
    constant = flow_share / math.sqrt(2 * math.pi) + (1 - flow_share)
    expected = [score + constant for score in _papers_score(network, image, flow_share)]
    assert scores.tolist() == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert anomaly_map.shape == image.shape and anomaly_map.dtype == torch.float32
    assert float(anomaly_map.min()) >= 0 and float(anomaly_map.std()) > 1e-4


def test_the_map_is_high_where_the_latent_features_are_unlikely() -> None:
    network = _ae_flow(flow_share=1.0)
    z = torch.zeros(1, 4, 4, 4)
    z[0, :, 1, 2] = 3.0
    likely = network.improbability(z, [64, 64])
    assert likely[0, 0].argmax().item() // 64 in range(16, 32) and likely[0, 0].argmax().item() % 64 in range(32, 48)
    density = 1 / math.sqrt(2 * math.pi)
    of_case = density - math.exp(math.log(density) - 0.5 * 9 / 16)
    assert float(likely.mean()) == pytest.approx(of_case, rel=1e-4)
    # what lies at the mode is as likely as can be
    assert float(likely[0, 0, 50:, :20].abs().max()) < 1e-6
    assert float(network.improbability(torch.zeros(1, 4, 4, 4), [8, 8]).abs().max()) < 1e-6


def test_the_decoder_doubles_by_transposed_convolutions_of_stride_2() -> None:
    decoder = UpsamplingDecoder(2, [32, 16, 8, 2], 3)
    layers = [(type(m), getattr(m, "out_channels", None)) for m in decoder.layers if not isinstance(m, nn.BatchNorm2d)]
    block = [nn.ConvTranspose2d, nn.ReLU, nn.Conv2d, nn.ReLU]
    assert [kind for kind, _ in layers] == [*block, *block, *block, nn.ConvTranspose2d]
    assert [width for kind, width in layers if kind is nn.ConvTranspose2d] == [16, 8, 2, 3]
    assert decoder(torch.randn(2, 32, 3, 2), [48, 32]).shape == (2, 3, 48, 32)
    whole, cut = (decoder.eval()(torch.ones(1, 32, 3, 2), size) for size in ([48, 32], [40, 17]))
    assert torch.equal(whole[..., :40, :17], cut)


def test_a_map_does_not_depend_on_batch_mates() -> None:
    network, image = _ae_flow(subnet="residual").eval(), _scan(32, 32, batch=3)
    with torch.no_grad():
        together = network(image)
        for i in range(3):
            torch.testing.assert_close(network(image[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("subnet", ["convolution", "residual"])
def test_scripted_it_gives_the_same_map(subnet: str) -> None:
    network, image = _ae_flow(subnet=subnet).eval(), _scan(37, 50)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)


def test_wrong_arguments() -> None:
    with pytest.raises(
        ValueError, match=r"subnet must be one of \('convolution', 'residual'\) .* got 'linear' and 0.9"
    ):
        _ae_flow(subnet="linear")
    with pytest.raises(ValueError, match=r"flow_share lie in 0..1, got 'convolution' and 1.5"):
        _ae_flow(flow_share=1.5)


@torch.no_grad()
def test_features_reach_the_flow_with_one_scale_and_some_noise() -> None:
    """Half of a ResNet's features are exact zeros, of deviations from 0.02 to 0.7 by channel."""
    network = AEFlow(2, 1, "resnet10", "none", 2, standardise=True, noise=0.3).train()
    scans = torch.rand(16, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []
    network.flow.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    network.training_output(scans)
    raw = network.features(scans)[0]
    for _ in range(200):  # what a training sees
        network.standard(raw)
    alive = raw.std((0, 2, 3)) > 0.01
    spread = seen[-1].std((0, 2, 3))[alive]
    torch.testing.assert_close(spread, torch.full_like(spread, (1 + 0.3**2) ** 0.5), rtol=0.1, atol=0)
    network.eval()(scans)
    expected = (raw - raw.mean((0, 2, 3), keepdim=True)) / (raw.var((0, 2, 3), keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(seen[-1][:, alive], expected[:, alive], rtol=0.02, atol=0.02)
