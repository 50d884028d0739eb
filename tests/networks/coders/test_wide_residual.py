"""The wide residual encoder-decoder against the network written out."""

from __future__ import annotations

import pytest
import torch
from plain_resnet import vary_norms
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks import WideResidualCoder

FEATURES = (4, 6, 8, 10)


def _coder(spatial_dims: int) -> WideResidualCoder:
    torch.manual_seed(0)
    coder = WideResidualCoder(spatial_dims, 2, FEATURES)
    vary_norms(coder)
    return coder.eval()


def _image(*size: int) -> Tensor:
    return torch.rand(2, 2, *size, generator=torch.Generator().manual_seed(1))


def _conv(state: dict[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    kernel = state[f"{name}.weight"]
    function = functional.conv2d if kernel.dim() == 4 else functional.conv3d
    return function(x, kernel, state.get(f"{name}.bias"), stride=stride, padding=kernel.shape[-1] // 2)


def _norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    values = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    mean, variance, weight, bias = (value.reshape([1, -1] + [1] * (x.dim() - 2)) for value in values)
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def _block(state: dict[str, Tensor], name: str, x: Tensor, stride: int) -> Tensor:
    active = _norm(state, f"{name}.norm1", x).relu()
    hidden = _norm(state, f"{name}.norm2", _conv(state, f"{name}.conv1", active, stride)).relu()
    out = _conv(state, f"{name}.conv2", hidden)
    return out + (_conv(state, f"{name}.shortcut", active, stride) if f"{name}.shortcut.weight" in state else x)


@pytest.mark.parametrize("size", [(16, 24), (13, 18), (9, 12, 7)])
@torch.no_grad()
def test_it_is_the_network_written_out(size: tuple[int, ...]) -> None:
    coder, image = _coder(len(size)), _image(*size)
    state = dict(coder.state_dict())
    x = _conv(state, "stem", image)
    sizes = []
    for level in range(3):
        x = _block(state, f"encoder.{level}", x, 1 if level == 0 else 2)
        sizes.append(x.shape[2:])
    assert [tuple(s) for s in sizes] == [tuple(-(-edge // k) for edge in size) for k in (1, 2, 4)]
    for level in range(2):
        mode = "bilinear" if len(size) == 2 else "trilinear"
        x = functional.interpolate(x, sizes[1 - level], mode=mode, align_corners=False)
        x = _block(state, f"decoder.{level}", x, 1)
    expected = _conv(state, "last", _norm(state, "norm", x).relu())
    logits = coder(image)
    assert logits.shape == (2, 1, *size)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_the_papers_widths_are_the_default() -> None:
    coder = WideResidualCoder()
    blocks: list[nn.Module] = [*coder.encoder, *coder.decoder]
    widths = [int(block.get_parameter("conv2.weight").shape[0]) for block in blocks]
    assert widths == [64, 128, 256, 256, 256, 256, 256, 128, 64]
    assert [name for name, _ in coder.named_parameters() if name.endswith("bias") and "norm" not in name] == [
        "last.bias"
    ]
    kernel = coder.encoder[1].get_parameter("conv2.weight").detach()
    assert float(kernel.std()) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)


@torch.no_grad()
def test_nothing_passes_beside_the_deepest_grid() -> None:
    coder = _coder(2)
    coder.encoder[-1].register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    first, second = coder(_image(16, 24)), coder(1 - _image(16, 24))
    torch.testing.assert_close(first, second)


@torch.no_grad()
def test_scripted_it_says_the_same() -> None:
    coder = _coder(2)
    torch.testing.assert_close(torch.jit.script(coder)(_image(13, 18)), coder(_image(13, 18)))


@pytest.mark.parametrize("features", [(4, 8), (4, 0, 8)])
def test_wrong_features(features: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="features must be at least three positive numbers"):
        WideResidualCoder(features=features)
