"""The guard of other people's models: scores against plain formulas, models from bundles and TorchScript, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks import nets
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn

from medad_plugins.data import ScanFormat
from medad_plugins.engines import ModelFile, save_model
from medad_plugins.engines.training_setup import model_settings
from medad_plugins.errors import InputError
from medad_plugins.methods.ood_guard import OODGuard, guarded_definition
from medad_plugins.methods.ood_guard.confidence import doubt

SIZE = 16
UNET: dict[str, Any] = {
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
    "norm": "batch",
}


def _scans(count: int, seed: int, spatial_dims: int = 2) -> Tensor:
    return torch.rand((count, 1) + (SIZE,) * spatial_dims, generator=torch.Generator().manual_seed(seed))


def _scan(spatial_dims: int = 2) -> ScanFormat:
    return ScanFormat(spatial_dims, SIZE)


def _unet(spatial_dims: int = 2) -> Any:
    torch.manual_seed(0)
    return nets.UNet(spatial_dims=spatial_dims, **UNET).eval()


def _bundle(folder: Path, network: nn.Module, config: dict[str, Any]) -> str:
    """A MONAI bundle as the Model Zoo has them: references, an expression, weights as a state dict."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return str(folder)


def _unet_bundle(folder: Path, spatial_dims: int = 2) -> str:
    config = {
        "imports": ["$import torch"],
        "device": "$torch.device('cpu')",
        "dims": spatial_dims,
        "network_def": {"_target_": "monai.networks.nets.UNet", "spatial_dims": "@dims", **UNET},
        "network": "$@network_def.to(@device)",
    }
    return _bundle(folder, _unet(spatial_dims), config)


def _guard(guarded: str, spatial_dims: int = 2, layer: str = "", **settings: Any) -> OODGuard:
    definition = guarded_definition(guarded, _scan(spatial_dims), layer)
    guard = OODGuard(spatial_dims, definition=definition, sigma=0, weights=guarded, **settings)
    guard.train()  # as an engine has it; the model must not notice
    for batch in _scans(40, 1, spatial_dims).split(8):
        guard.collect(batch)
    guard.fit()
    return guard.eval()


# the model's own answer


def test_doubt_of_classes() -> None:
    logits = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)) * 3
    p = logits.softmax(1)
    torch.testing.assert_close(doubt(logits, "msp"), 1 - p.amax(1))
    torch.testing.assert_close(doubt(logits, "entropy"), -(p * p.log()).sum(1) / np.log(3))
    torch.testing.assert_close(doubt(logits, "energy", temperature=2.0), -2 * (logits / 2).exp().sum(1).log())
    torch.testing.assert_close(doubt(p, "msp", are_probabilities=True), 1 - p.amax(1), rtol=1e-4, atol=1e-6)
    # a classifier's answer has no grid
    assert doubt(logits[..., 0], "msp").shape == (4,)


def test_doubt_of_labels_counts_surely_absent_as_sure() -> None:
    logits = torch.tensor([[-9.0], [0.0], [9.0]])
    for kind in ("msp", "entropy", "energy"):
        absent, unsure, there = doubt(logits, kind)
        assert absent == pytest.approx(float(there), abs=1e-5) and unsure > absent
    p = logits.sigmoid()
    torch.testing.assert_close(doubt(logits, "msp"), torch.minimum(p, 1 - p)[:, 0])


@pytest.mark.parametrize("spatial_dims", [2, 3])
@torch.no_grad()
def test_a_segmenters_map_is_its_doubt_of_every_pixel(tmp_path: Path, spatial_dims: int) -> None:
    guard = _guard(_unet_bundle(tmp_path / "mine", spatial_dims), spatial_dims, score="msp", input_range="signed")
    image = _scans(3, 2, spatial_dims)
    p = _unet(spatial_dims)(image * 2 - 1).softmax(1)
    found = guard(image)
    torch.testing.assert_close(found, 1 - p.amax(1, keepdim=True))
    torch.testing.assert_close(guard.pool(found), found.flatten(1).mean(1))


def test_odin_moves_the_scan_towards_what_the_model_answers(tmp_path: Path) -> None:
    model = nets.DenseNet(2, 1, 3, init_features=4, growth_rate=4, block_config=(1, 1)).eval()
    config = {"network_def": {"_target_": "DenseNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 3}}
    config["network_def"] |= {"init_features": 4, "growth_rate": 4, "block_config": [1, 1]}
    guard = _guard(_bundle(tmp_path / "mine", model, config), score="odin", temperature=10.0, epsilon=0.01)
    image = _scans(2, 3)
    own = image.clone().requires_grad_(True)
    (model(own) / 10).log_softmax(1).amax(1).sum().backward()
    assert own.grad is not None
    with torch.no_grad():
        expected = 1 - (model(image + 0.01 * own.grad.sign()) / 10).softmax(1).amax(1)
        found = guard(image)
    torch.testing.assert_close(guard.pool(found), expected)
    assert bool((found.flatten(1).std(1) == 0).all()), "a classifier does not say where"


# features


@torch.no_grad()
def test_the_features_score_is_the_shrunk_mahalanobis_distance_of_the_means(tmp_path: Path) -> None:
    guard = _guard(_unet_bundle(tmp_path / "mine"), layer="model.0")
    model = _unet()
    known, new = (model.model[0](scans).flatten(2).mean(2).double().numpy() for scans in (_scans(40, 1), _scans(5, 2)))
    mean, deviation = known.mean(0), known.std(0)
    known, new = (known - mean) / deviation, (new - mean) / deviation
    fitted = LedoitWolf().fit(known)
    expected = np.sqrt(fitted.mahalanobis(new) / known.shape[1])
    found = guard(_scans(5, 2))
    np.testing.assert_allclose(guard.pool(found).numpy(), expected, rtol=1e-3)
    assert bool((found.flatten(1).std(1) > 0).all()), "it says where"


@torch.no_grad()
def test_the_coarsest_layer_is_taken_and_scans_of_another_kind_are_farther(tmp_path: Path) -> None:
    guarded = _unet_bundle(tmp_path / "mine")
    definition = guarded_definition(guarded, _scan())
    model = _unet()
    assert model.get_submodule(definition["layer"])(model.model[0](_scans(1, 0))).shape[2:] == (SIZE // 2, SIZE // 2)
    guard = _guard(guarded)
    image = _scans(6, 5)
    image[3:] = torch.nn.functional.avg_pool2d(image[3:], 5, 1, 2)  # blurred
    scores = guard.pool(guard(image))
    assert scores[3:].min() > scores[:3].max()
    # where it is brighter
    half = _scans(1, 6)
    half[..., 8:] += 0.7
    found = guard(half)[0, 0]
    assert found[:, 8:].mean() > found[:, :8].mean()


def test_the_model_stays_as_it_was(tmp_path: Path) -> None:
    guard = _guard(_unet_bundle(tmp_path / "mine"))
    expected = _unet().state_dict()
    kept = guard.model.model.state_dict()  # type: ignore[union-attr]
    assert kept and all(torch.equal(value, expected[name]) for name, value in kept.items())
    assert not any(parameter.requires_grad for parameter in guard.parameters())


@torch.no_grad()
def test_a_network_that_is_no_graph_is_watched(tmp_path: Path) -> None:
    arguments = {"in_channels": 1, "img_size": [SIZE, SIZE], "patch_size": [8, 8], "hidden_size": 12, "mlp_dim": 24}
    arguments |= {"num_layers": 1, "num_heads": 2, "classification": True, "num_classes": 3, "spatial_dims": 2}
    model = nets.ViT(**arguments).eval()  # type: ignore[arg-type]
    guarded = _bundle(tmp_path / "mine", model, {"network_def": {"_target_": "ViT", **arguments}})
    guard = _guard(guarded, layer="blocks.0")
    image = _scans(2, 2)
    tokens = guard.model(image)[1]
    assert tokens.shape == (2, 5, 12)
    assert torch.equal(guard.model(image)[0], model(image)[0]), "of several outputs the first"
    assert guard(image).shape == image.shape


# how models come, and how they are kept


@pytest.mark.parametrize("kind", ["bundle", "program"])
@torch.no_grad()
def test_the_model_file_holds_the_model(tmp_path: Path, kind: str) -> None:
    guarded = str(tmp_path / "mine.ts")
    if kind == "program":
        torch.jit.save(torch.jit.script(_unet()), guarded)
    else:
        guarded = _unet_bundle(tmp_path / "mine")
    guard = _guard(guarded)
    image = _scans(3, 2)
    expected = guard(image)
    settings = {"spatial_dims": 2, "in_channels": 1, "sigma": 0, "definition": guarded_definition(guarded, _scan())}
    save_model(tmp_path / "model.pt", guard, "ood_guard", model_settings(settings, _scan()))
    (Path(guarded) if kind == "program" else Path(guarded) / "models" / "model.pt").unlink()
    rebuilt = ModelFile(tmp_path / "model.pt", "ood_guard").rebuild(OODGuard, _scan())
    torch.testing.assert_close(rebuilt(image), expected)
    torch.testing.assert_close(torch.jit.script(rebuilt)(image), expected)
    names = [name for name in guard.state_dict() if ".program." in name]
    assert not names, "a program's weights are in its archive once"


@torch.no_grad()
def test_a_program_and_a_bundle_of_one_network_judge_alike(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(_unet()), str(tmp_path / "mine.ts"))
    guards = [_guard(str(tmp_path / "mine.ts")), _guard(_unet_bundle(tmp_path / "mine"), layer="output")]
    image = _scans(3, 2)
    torch.testing.assert_close(guards[0](image), guards[1](image))


@torch.no_grad()
def test_ranges() -> None:
    image = _scans(2, 1) * (_scans(2, 2) > 0.5)
    definition = guarded_definition("none", ScanFormat(2, SIZE))
    by_range = {name: OODGuard(definition=definition, input_range=name) for name in ("standard", "nonzero")}
    standard = by_range["standard"].scaled(image)
    assert standard.flatten(1).mean(1).abs().max() < 1e-5
    torch.testing.assert_close(standard.flatten(1).std(1, correction=0), torch.ones(2))
    nonzero = by_range["nonzero"].scaled(image)
    inside = image[0] > 0
    torch.testing.assert_close(nonzero[0][inside].std(correction=0), torch.tensor(1.0))
    assert bool((nonzero[0][~inside] == 0).all())


def test_what_cannot_be_guarded_is_refused(tmp_path: Path) -> None:
    guarded = _unet_bundle(tmp_path / "mine")
    with pytest.raises(InputError, match="there is no model to guard: --guarded"):
        guarded_definition("", _scan())
    with pytest.raises(InputError, match=r"no such layer: --layer model.9 .expected one of model.0"):
        guarded_definition(guarded, _scan(), "model.9")
    with pytest.raises(InputError, match=r"does not take these scans.*2 x 16 x 16"):
        guarded_definition(guarded, ScanFormat(2, SIZE, in_channels=2))
    (tmp_path / "text.pt").write_text("no program")
    with pytest.raises(InputError, match="no TorchScript program"):
        guarded_definition(str(tmp_path / "text.pt"), _scan())
    with pytest.raises(InputError, match="no MONAI bundle"):
        guarded_definition(str(tmp_path), _scan())
    with pytest.raises(InputError, match="--score .expected one of"):
        OODGuard(definition=guarded_definition(guarded, _scan()), score="surprise")
    other = _bundle(
        tmp_path / "other", nn.Linear(1, 1), json.loads((Path(guarded) / "configs/inference.json").read_text())
    )
    with pytest.raises(InputError, match=r"do not fit the guarded network.*found no model"):
        OODGuard(definition=guarded_definition(other, _scan()), weights=other)


def test_a_model_file_makes_only_monais_networks() -> None:
    for target in ("os.system", "torch.nn.Linear", "monai.networks.nets.os", "$print()"):
        definition = {"network": {"_target_": target}, "layer": "output", "takes_first": False}
        with pytest.raises(InputError, match="the guarded network"):
            OODGuard(definition=definition)
    sly = {"network": {"_target_": "UNet", "spatial_dims": "$__import__('os').getpid()"}, "layer": "output"}
    with pytest.raises(InputError, match="the guarded network"):
        OODGuard(definition={**sly, "takes_first": False})
