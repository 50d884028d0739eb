"""P-VQ as its model card says: what is frozen, what the loss takes, the map."""

from __future__ import annotations

import pytest
import torch
from plain_resnet import vary_norms
from torch import Tensor
from torch.nn import functional

from medad_plugins.losses import ResidualLoss
from medad_plugins.methods.p_vq import PVQ


def _p_vq(spatial_dims: int = 2, **arguments: str | float) -> PVQ:
    torch.manual_seed(0)
    network = PVQ(
        spatial_dims,
        1,
        "resnet10",
        "none",
        codes=8,
        **arguments,  # type: ignore[arg-type]
    )
    vary_norms(network)
    return network


def _scan(*size: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def test_the_decoder_learns_and_the_encoder_does_not() -> None:
    network = _p_vq().train()
    before = {name: value.clone() for name, value in network.features.state_dict().items()}
    reconstruction, image = network(_scan(32, 48))
    loss = ResidualLoss("l1")((reconstruction, image))
    assert loss.item() == pytest.approx(float((reconstruction - image).detach().abs().mean()), rel=1e-5)
    loss.backward()
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == {"decoder"}
    assert not network.features.training
    assert all(torch.equal(value, before[name]) for name, value in network.features.state_dict().items())


def test_the_codebook_follows_the_scans_in_training_alone() -> None:
    network = _p_vq().train()
    network(_scan(32, 48))
    first = network.quantizer.codes.clone()
    network.eval()(_scan(32, 48, seed=1))
    assert torch.equal(network.quantizer.codes, first)
    network.train()(_scan(32, 48, seed=1))
    assert not torch.equal(network.quantizer.codes, first)


def test_the_decoder_sees_nothing_but_codes() -> None:
    """Two scans whose blocks choose the same codes are rebuilt alike."""
    network = _p_vq().eval()
    first = network.quantised(_scan(32, 32, batch=1))
    second = network.quantised(_scan(32, 32, batch=1) * 0.999)
    assert not torch.equal(first[1], second[1])
    torch.testing.assert_close(first[0], second[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("residual_share", [0.5, 0.0, 1.0])
@pytest.mark.parametrize("size", [(32, 48), (37, 50), (33, 20, 24)])
def test_map_is_the_smoothed_sum_of_residual_and_distance(size: tuple[int, ...], residual_share: float) -> None:
    network = _p_vq(len(size), residual_share=residual_share, sigma=0.0).eval()
    image = _scan(*size)
    with torch.no_grad():
        anomaly_map = network(image)
        vectors = network.embedding(network.features(image))
        reconstruction, _ = network.quantised(image)
    assert 0 <= float(reconstruction.min()) and float(reconstruction.max()) <= 1
    # 16 pixels to a block of two cells of stride 8
    blocks = network.blocks(vectors)
    assert blocks.shape[2:] == tuple(-(-edge // 16) for edge in size)
    cosine = torch.einsum("bd...,kd->bk...", blocks / blocks.norm(dim=1, keepdim=True), network.quantizer.codes)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    far = functional.interpolate(1 - cosine.amax(1, keepdim=True), size, mode=mode, align_corners=False)
    expected = residual_share * (reconstruction - image).abs() + (1 - residual_share) * far
    torch.testing.assert_close(anomaly_map, expected, rtol=1e-3, atol=1e-5)
    assert anomaly_map.shape == image.shape and anomaly_map.dtype == torch.float32


def test_sigma_smooths_the_map() -> None:
    image = _scan(64, 64)
    with torch.no_grad():
        plain, smooth = (_p_vq(sigma=sigma).eval()(image) for sigma in (0.0, 4.0))
    assert float(smooth.std()) < float(plain.std())
    assert float(smooth.mean()) == pytest.approx(float(plain.mean()), rel=0.1)


def test_a_map_does_not_depend_on_batch_mates() -> None:
    network, image = _p_vq().eval(), _scan(32, 32, batch=3)
    with torch.no_grad():
        together = network(image)
        for i in range(3):
            torch.testing.assert_close(network(image[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _p_vq().eval(), _scan(37, 50)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"residual_share must lie in 0..1, got 1.5"):
        _p_vq(residual_share=1.5)
