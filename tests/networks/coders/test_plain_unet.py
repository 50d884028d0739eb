"""The plain U-Net and its two halves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.networks import PlainUNet

FEATURES = (4, 8, 6)


def _unet(spatial_dims: int = 2, norm: str = "instance", activation: str = "gelu") -> PlainUNet:
    torch.manual_seed(0)
    unet = PlainUNet(spatial_dims, 1, FEATURES, norm, activation)
    for parameter in unet.parameters():  # norms that do something
        parameter.data += 0.1 * torch.rand_like(parameter)
    return unet.eval()


def _image(*size: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(1))


def _level(state: dict[str, Tensor], name: str, x: Tensor, stride: int, groups: int | None) -> Tensor:
    """Convolution, norm, GELU or ReLU, twice, in float64."""
    for index in (0, 3):
        kernel = state[f"{name}.{index}.weight"]
        function = functional.conv2d if kernel.dim() == 4 else functional.conv3d
        x = function(x, kernel, state[f"{name}.{index}.bias"], stride=stride if index == 0 else 1, padding=1)
        batch, channels = x.shape[:2]
        grouped = x.reshape(batch, channels if groups is None else groups, -1)
        mean, variance = grouped.mean(2, keepdim=True), grouped.var(2, unbiased=False, keepdim=True)
        x = ((grouped - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
        shape = [1, -1] + [1] * (x.dim() - 2)
        x = x * state[f"{name}.{index + 1}.weight"].reshape(shape) + state[f"{name}.{index + 1}.bias"].reshape(shape)
        x = x.relu() if groups is not None else x * 0.5 * (1 + torch.erf(x / 2**0.5))
    return x


@pytest.mark.parametrize("size", [(16, 12), (13, 9), (8, 11, 9)])
@pytest.mark.parametrize("norm", ["instance", "group"])
@torch.no_grad()
def test_it_is_the_network_written_out(size: tuple[int, ...], norm: str) -> None:
    unet = _unet(len(size), norm, "gelu" if norm == "instance" else "relu")
    state = {name: value.double() for name, value in unet.state_dict().items()}

    def groups(width: int) -> int | None:
        return None if norm == "instance" else width // 2

    x = _image(*size).double()
    levels = []
    for level, width in enumerate(FEATURES):
        x = _level(state, f"encoder.{level}", x, 1 if level == 0 else 2, groups(width))
        levels.append(x)
    for level, width in enumerate(FEATURES[1::-1]):
        skip = levels[1 - level]
        mode = "bilinear" if len(size) == 2 else "trilinear"
        up = functional.interpolate(x, skip.shape[2:], mode=mode, align_corners=False)
        x = _level(state, f"decoder.{level}", torch.cat([up, skip], 1), 1, groups(width))
    expected = torch.tensordot(x, state["last.weight"].reshape(-1), ([1], [0]))[:, None] + state["last.bias"]
    torch.testing.assert_close(unet(_image(*size)).double(), expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_cases_do_not_see_each_other() -> None:
    for norm in ("instance", "group"):
        unet, images = _unet(norm=norm).train(), _image(16, 12, batch=3)
        together = unet(images)
        for i in range(3):
            torch.testing.assert_close(unet(images[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_scripted_it_says_the_same() -> None:
    torch.testing.assert_close(torch.jit.script(_unet())(_image(13, 9)), _unet()(_image(13, 9)))


def test_an_image_without_room_for_the_levels_is_refused() -> None:
    with pytest.raises(InputError, match=r"at least 5 pixels along an edge for 3 levels, found 4 x 4\); raise"):
        _unet()(_image(4, 4))


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="features must be"):
        PlainUNet(features=(8,))
    with pytest.raises(ValueError, match="norm must be 'group' or 'instance', got 'batch'"):
        PlainUNet(norm="batch")
