"""The residual backbone with its upsampling decoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from plain_resnet import vary_norms
from torch import Tensor
from torch.nn import functional

from medad_plugins.networks import ResidualCoder, ResNetTaps


def _image(*size: int, channels: int = 1) -> Tensor:
    return torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=[2, 3])
def coder(request: pytest.FixtureRequest) -> ResidualCoder:
    torch.manual_seed(0)
    coder = ResidualCoder(request.param, 1, "resnet10")
    vary_norms(coder)
    return coder.eval()


@torch.no_grad()
def test_logits_come_from_a_quarter_of_the_grid(coder: ResidualCoder) -> None:
    dims = coder.last.weight.dim() - 2
    size = (48, 37, 33)[:dims]
    decoded: list[Tensor] = []
    hooks = [
        coder.squeeze.register_forward_hook(lambda module, inputs, output: decoded.append(output)),
        *(
            stage.register_forward_hook(lambda module, inputs, output: decoded.append(output))
            for stage in coder.decoder
        ),
    ]
    logits = coder(_image(*size))
    for hook in hooks:
        hook.remove()
    assert [tuple(x.shape) for x in decoded] == [
        (2, width, *(-(-edge // stride) for edge in size)) for width, stride in ((128, 32), (64, 16), (32, 8), (16, 4))
    ]
    coarse = torch.tensordot(decoded[-1], coder.last.weight.reshape(-1), ([1], [0])) + coder.last.bias
    mode = "bilinear" if dims == 2 else "trilinear"
    expected = functional.interpolate(coarse[:, None], size, mode=mode, align_corners=False)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_squeezes_by_two_1x1_convolutions() -> None:
    coder = ResidualCoder()
    shapes = [tuple(p.shape) for name, p in coder.squeeze.named_parameters() if p.dim() == 4]
    assert shapes == [(256, 512, 1, 1), (128, 256, 1, 1)]
    assert len(coder.encoder.layer1) == 2


def test_pretrained_weights_are_kept_and_layer4_may_be_missing(tmp_path: Path) -> None:
    torch.manual_seed(1)
    published = ResNetTaps("resnet10", 2, 1, 3)
    torch.save(published.state_dict(), tmp_path / "stem_to_layer3.pth")
    coder = ResidualCoder(2, 1, "resnet10", str(tmp_path / "stem_to_layer3.pth"))
    loaded = coder.encoder.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in published.state_dict().items())


@torch.no_grad()
def test_scripted_it_says_the_same(coder: ResidualCoder) -> None:
    image = _image(*(48, 37, 33)[: coder.last.weight.dim() - 2])
    torch.testing.assert_close(torch.jit.script(coder)(image), coder(image))
