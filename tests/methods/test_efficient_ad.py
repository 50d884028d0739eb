"""EfficientAD by its paper: the hardest differences, three who learn from each other, two maps on one scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from short_trainings import alike_scans, train_for_seconds, weights_of_varied_taps
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.methods.efficient_ad import EfficientAD, HardFeatureLoss

ROOT = Path(__file__).resolve().parents[2]
KEYS = ConfigParser.load_config_file(ROOT / "bundles/efficient_ad/configs/train.yaml")


def _network(spatial_dims: int = 2, **others: Any) -> EfficientAD:
    torch.manual_seed(0)
    return EfficientAD(spatial_dims, 1, "resnet10", "none", widths=(4, 8), coder_width=4, **others)


def _scan(*size: int) -> Tensor:
    return torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))


def test_loss_by_plain_computation() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 5, 10, 10, generator=generator, requires_grad=True) for _ in range(4)]
    teacher, student, coded, follower = (part.detach().numpy() for part in parts)
    missed = np.sort(((teacher - student) ** 2).ravel())
    expected = missed[900:].mean() + ((teacher - coded) ** 2).mean() + ((coded - follower) ** 2).mean()
    loss = HardFeatureLoss(0.9)((parts[0], parts[1], parts[2], parts[3]))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    # the autoencoder learns the teacher, and does not go to meet the student
    assert parts[1].grad is not None and parts[2].grad is not None
    assert int((parts[1].grad != 0).sum()) == 100
    torch.testing.assert_close(parts[2].grad, 2 * (parts[2] - parts[0]).detach() / parts[2].numel())
    with pytest.raises(InputError, match="quantile"):
        HardFeatureLoss(1.0)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("size", [(64, 50), (32, 36, 33)])
def test_map_by_plain_computation(size: tuple[int, ...], relative: bool) -> None:
    network, image = _network(len(size), relative=relative).eval(), _scan(*size)
    with torch.no_grad():
        network.collect(image.flip(-1))
        network.fit()
        found = network(image)
        teacher = network.align(network.features(image))
        width, grid = teacher.shape[1], list(teacher.shape[2:])
        said, coded = network.students[0](image * 2 - 1), network.coder(image * 2 - 1, grid)
        local = (teacher - said[:, :width]).square().mean(1, keepdim=True)
        local = local / (0.5 + teacher.square().mean(1, keepdim=True)) if relative else local
        whole = (coded - said[:, width:]).square().mean(1, keepdim=True)
        local = 0.1 * (local - network.local_range.start) / network.local_range.span
        whole = 0.1 * (whole - network.whole_range.start) / network.whole_range.span
    mode = "bilinear" if len(size) == 2 else "trilinear"
    expected = functional.interpolate((local + whole) / 2, size, mode=mode, align_corners=False)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_all_but_the_teacher_learn() -> None:
    network = _network()
    network.train()
    HardFeatureLoss(0.9)(network(_scan(64, 64))).backward()
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == {"students", "coder"} and not network.features.training


@pytest.mark.costly
def test_it_learns_normal_places(tmp_path: Path) -> None:
    path = weights_of_varied_taps(tmp_path)
    torch.manual_seed(0)
    keys = {key: KEYS[key] for key in ("limit", "relative")}
    network = EfficientAD(2, 1, "resnet10", path, widths=(8, 16), coder_width=8, reduction=0.05, **keys)
    normal = alike_scans()
    changed = normal[8:].clone()
    changed[:, :, 8:30, 34:56] = torch.rand(2, 1, 22, 22)
    network.train()
    with torch.no_grad():
        network(normal[:8])

    def apart() -> float:
        network.eval()
        with torch.no_grad():
            network.collect(normal[:8])
            network.fit()
            return float(network.pool(network(changed)).min() - network.pool(network(normal[8:])).max())

    before = apart()
    train_for_seconds(network, network.learning_parameters(), HardFeatureLoss(KEYS["hard"]), normal[:8], 3e-3)
    after = apart()
    # the student knows more of the teacher than its mean; one that follows a few hardest values alone knows less
    with torch.no_grad():
        teacher, student, _, _ = network.training_output(normal[8:])
    assert (teacher - student).square().mean() < 0.9 * teacher.var()
    assert after > max(0.02, before + 0.02), (before, after)


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _network().eval(), _scan(64, 60)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-5)
