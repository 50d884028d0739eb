"""Feature taps of every kind of backbone by name, alike for whoever takes them, and in every exported form."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from medad_plugins.errors import InputError
from medad_plugins.methods.ae_flow import AEFlow
from medad_plugins.methods.classic import ClassicDetector
from medad_plugins.methods.cutpaste import CutPaste
from medad_plugins.methods.ea2d import EA2D
from medad_plugins.methods.edc import EDC
from medad_plugins.methods.gaussian_mahalanobis import GaussianMahalanobis
from medad_plugins.methods.glass import GLASS
from medad_plugins.methods.p_vq import PVQ
from medad_plugins.methods.padim import PaDiM
from medad_plugins.methods.patchcore import PatchCore
from medad_plugins.methods.realnet import RealNet
from medad_plugins.methods.simplenet import SimpleNet
from medad_plugins.networks import TAPS, ResNetTaps, make_taps, usual_layers

OF_EACH_KIND = [
    ("resnet10", [1, 3]),
    ("efficientnet_lite0", [2, 4]),
    ("dinov2_vits14", [0, 1]),
    ("dinov2_vits14_reg", [0]),
    ("dinov3_vits16", [1]),
]


def _image(*size: int, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(0))


def test_usual_layers() -> None:
    assert usual_layers("resnet18") == [2, 3] and usual_layers("resnet18", (1, 2, 3, 4)) == [1, 2, 3, 4]
    assert usual_layers("efficientnet_lite0", (1, 2)) == [4, 10, 15]
    assert usual_layers("dinov2_vitb14_reg", (1, 2)) == [8] and usual_layers("dinov2_vitl14") == [17]
    named = {"resnet18", "wide_resnet50_2", "efficientnet_lite2", "dinov2_vits14", "dinov3_vitl16", "dino_vits8"}
    assert named < set(TAPS)


@pytest.mark.parametrize(("backbone", "layers"), OF_EACH_KIND)
def test_all_kinds_are_alike(backbone: str, layers: list[int]) -> None:
    taps = make_taps(backbone, layers=layers).train()
    assert taps.layers == layers and len(taps.channels) == len(taps.strides) == len(layers)
    assert not any(module.training for module in taps.modules())
    assert not any(parameter.requires_grad for parameter in taps.parameters())
    with torch.no_grad():
        maps = taps(_image(45, 70))
    for tap, channels, stride in zip(maps, taps.channels, taps.strides, strict=True):
        assert tap.shape == (2, channels, -(-45 // stride), -(-70 // stride))


def test_taps_of_a_resnet_are_some_of_its_stages() -> None:
    torch.manual_seed(0)
    taps = make_taps("resnet10", layers=[1, 3])
    whole = ResNetTaps("resnet10", stages=3).eval()
    # nothing stands between the names of the parameters and whoever loads them
    whole.load_state_dict(taps.state_dict(), strict=True)
    with torch.no_grad():
        stages = whole(_image(32, 48))
        for tap, stage in zip(taps(_image(32, 48)), [stages[0], stages[2]], strict=True):
            torch.testing.assert_close(tap, stage)
    assert (taps.channels, taps.strides) == ([64, 256], [4, 16])


@pytest.mark.parametrize(("backbone", "layers"), OF_EACH_KIND)
def test_exported_forms_give_the_same(backbone: str, layers: list[int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    taps, image = make_taps(backbone, layers=layers), _image(45, 70)
    with torch.no_grad():
        expected = taps(image)
        program = torch.export.export(taps, (image,))
        torch.onnx.export(program, (image,), str(tmp_path / "taps.onnx"), input_names=["image"], dynamo=True)
        session = onnxruntime.InferenceSession(tmp_path / "taps.onnx", providers=["CPUExecutionProvider"])
        forms = {
            "script": torch.jit.script(taps)(image),
            "export": program.module()(image),
            "onnx": [torch.from_numpy(np.asarray(found)) for found in session.run(None, {"image": image.numpy()})],
        }
    for name, found in forms.items():
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4 * float(one.abs().max()), msg=name)


def test_scripted_transformers_give_class_tokens_too() -> None:
    taps, image = make_taps("dinov2_vits14", layers=[0]), _image(28, 28)
    maps, class_tokens = torch.jit.script(taps).with_class_tokens(image)
    torch.testing.assert_close(maps[0], taps(image)[0])
    assert class_tokens[0].shape == (2, 384)


def test_only_transformers_are_averaged() -> None:
    assert make_taps("dino_vits16", layers=[0, 1], average=True).channels == [384]
    with pytest.raises(InputError, match="maps of this backbone cannot be averaged: resnet18 .expected a vision"):
        make_taps("resnet18", average=True)


def test_a_backbone_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"no such backbone: resnet17 .*resnet18.*dinov2_vits14.*; give another"):
        make_taps("resnet17")


FITTED: dict[str, Callable[[str], nn.Module]] = {
    "padim": lambda name: PaDiM(2, 1, name, "none", dimensions=8),
    "patchcore": lambda name: PatchCore(2, 1, name, "none", dimensions=16, coreset=0.5),
    "gaussian_mahalanobis": lambda name: GaussianMahalanobis(2, 1, name, "none"),
    "classic": lambda name: ClassicDetector(2, 1, backbone=name, weights="none", locations=True),
}
TRAINED: dict[str, Callable[[str], nn.Module]] = {
    "simplenet": lambda name: SimpleNet(2, 1, name, "none", dimensions=16, hidden=8),
    "p_vq": lambda name: PVQ(2, 1, name, "none", codes=8),
    "ae_flow": lambda name: AEFlow(2, 1, name, "none", steps=1),
    "realnet": lambda name: RealNet(2, 1, name, "none", usual_layers(name), [4] * len(usual_layers(name)), 4),
}


@pytest.mark.parametrize("backbone", ["dinov2_vits14", "efficientnet_lite0"])
@pytest.mark.parametrize("method", [*FITTED, *TRAINED])
def test_methods_take_any_backbone(method: str, backbone: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)  # few scans for a Gaussian
    torch.manual_seed(0)
    network = {**FITTED, **TRAINED}[method](backbone).eval()
    scans = _image(48, 64, batch=4)
    if method in FITTED:
        network.collect(scans)  # type: ignore[operator]
        network.fit()  # type: ignore[operator]
    changed = scans[:1].clone()
    changed[:, :, 10:30, 20:40] = 1 - changed[:, :, 10:30, 20:40]
    with torch.no_grad():
        result = network(torch.cat([scans[:1], changed]))
        found = result[0] if isinstance(result, tuple) else result
        scripted = torch.jit.script(network)(torch.cat([scans[:1], changed]))
    assert found.shape == (2, 1, 48, 64) and bool(found.isfinite().all())
    assert not torch.equal(found[0], found[1])
    torch.testing.assert_close(scripted[0] if isinstance(scripted, tuple) else scripted, found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hypothesis", ["manifold", "hypersphere"])
def test_glass_takes_another_grid(hypothesis: str) -> None:
    network = GLASS(2, 1, "dino_vits16", "none", dimensions=16, hidden=8, hypothesis=hypothesis, steps=1)
    scans = _image(40, 64)
    network.collect(scans)
    network.fit()
    logits = network.training_output(torch.cat([scans, scans, (scans > 0.99).float()], 1))
    assert logits.local.shape == logits.mask.shape == (2 * 3 * 4,)


@pytest.mark.parametrize("backbone", ["dinov2_vits14", "efficientnet_lite0"])
def test_methods_that_mirror_a_resnet_say_so(backbone: str) -> None:
    text = rf"wants a ResNet, whose stages .*: backbone .expected one of resnet10.*found {backbone}.; give another --b"
    with pytest.raises(InputError, match=text):
        CutPaste(backbone=backbone, weights="none")


@pytest.mark.parametrize("method", [EDC, EA2D])
def test_convolutions_are_trained_further_and_no_transformer(method: type[nn.Module]) -> None:
    text = r"a backbone of convolutions: backbone .expected one of resnet10.*lite2, found dinov2_vits14.; give"
    with pytest.raises(InputError, match=text):
        method(backbone="dinov2_vits14", weights="none")
