"""A federation of two sites in this process: what a host does with it, without the host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import BUNDLES, copy_bundle, read_config, read_table, run_config, small_values
from federated_sites import SHARES, assert_same_model, federate, site_keys, write_sites
from monai.utils import set_determinism

from medad_plugins.engines.distributed import additive_buffers
from medad_plugins.errors import InputError
from medad_plugins.federated import CALIBRATE, FINISH, FIT, TRAIN, BundleSite, Federation, Request

pytestmark = pytest.mark.usefixtures("process_settings")

CHOSEN = ("ae", "padim")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sites(tmp_path_factory.mktemp("sites") / "heads")


def _values(bundle: str, **others: Any) -> dict[str, Any]:
    """Small values; a method that is fitted in passes keeps to its one pass."""
    values = small_values(bundle, **others)
    if "optimizer" not in read_config(bundle, "train"):
        values.pop("max_iterations")
    return values


def _model(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def _pooled(bundle: str, data: Path, folder: Path, **keys: Any) -> dict[str, Any]:
    """The model trained at one place on all cases."""
    root = copy_bundle(bundle, folder / "pooled")
    run_config(root, "train", dataset_dir=str(data), datalist="fitting.csv", **keys)
    return _model(root / "models" / "model.pt")


@pytest.mark.parametrize(
    "bundle", [name if name in CHOSEN else pytest.param(name, marks=pytest.mark.slow) for name in BUNDLES]
)
def test_every_bundle_federates(bundle: str, data: Path, tmp_path: Path) -> None:
    root = copy_bundle(bundle, tmp_path)
    path, wire = federate(root, site_keys(data, tmp_path), tmp_path, **_values(bundle))
    handlers = [each for each in read_config(bundle, "train")["train"]["handlers"] if isinstance(each, dict)]
    # one that is enabled by a key is not asked for by what the bundle does by default
    fits = any(each["_target_"].endswith("FitAfterTraining") and "enabled" not in each for each in handlers)
    fitted = [FIT] if fits else []
    assert [request.step for request, _ in wire.record] == [TRAIN, *fitted, CALIBRATE, FINISH]
    model = _model(path)
    assert model["bundle"] == bundle
    assert model["model"]["calibration.reference_scores"].shape == (4,), "the held-out cases of both sites"
    for site in SHARES:
        kept = _model(tmp_path / site / "models" / "model.pt")
        assert kept["settings"] == model["settings"]
        assert all(torch.equal(kept["model"][name], value) for name, value in model["model"].items())
    output = tmp_path / "inferred"
    run_config(root, "inference", dataset_dir=str(data), ckpt_path=str(path), output_dir=str(output), device="cpu")
    assert len(read_table(output)) == 4


@pytest.mark.parametrize(
    ("bundle", "spatial_dims"),
    [("padim", 2), pytest.param("padim", 3, marks=pytest.mark.slow), ("gaussian_mahalanobis", 2)],
)
def test_sums_of_unequal_sites_give_the_pooled_model(
    bundle: str, spatial_dims: int, data: Path, tmp_path: Path
) -> None:
    if spatial_dims == 3:
        data = write_sites(tmp_path / "heads", 3)
    values = _values(bundle, spatial_dims=spatial_dims)
    path, wire = federate(copy_bundle(bundle, tmp_path), site_keys(data, tmp_path), tmp_path, rounds=3, **values)
    assert_same_model(_model(path)["model"], _pooled(bundle, data, tmp_path, **values)["model"])

    (_, first), (_, second), (_, third) = wire.record
    assert [(reply.site, reply.cases) for reply in first] == [("north", 2), ("south", 4)]
    sums = {name for _, name in additive_buffers(wire.sites[0].training.network)}
    assert len(sums) > 2, "a number of cases, sums and sums of products"
    for reply in first:
        assert {name.rpartition(".")[2] for name in reply.state} == sums, "nothing else leaves a site"
    kept = ("reference_scores", "pixel_quantiles", "mask_rule", "reference_inputs")
    calibration = {f"calibration.{name}" for name in kept}
    assert all(set(reply.state) == calibration for reply in second), [sorted(reply.state) for reply in second]
    assert all(not reply.state for reply in third)


def test_what_follows_the_training_is_fitted_to_all_sites_by_the_merged_network(data: Path, tmp_path: Path) -> None:
    values = _values("cutpaste", max_iterations=2, **{"train::dataloader::epoch_length": 1})
    path, wire = federate(copy_bundle("cutpaste", tmp_path), site_keys(data, tmp_path), tmp_path, 2, **values)
    federated = _model(path)["model"]
    fitted = {name for name in federated if name.startswith(("gaussian.", "usual."))}
    sums = {name for name in fitted if name.rpartition(".")[2] not in ("mean", "whitening", "shrinkage")}
    requests = [(request.step, [set(reply.state) for reply in replies]) for request, replies in wire.record]
    assert [step for step, _ in requests] == [TRAIN, TRAIN, FIT, CALIBRATE, FINISH]
    assert all(not names & fitted for _, replies in requests[:2] for names in replies), "not by a site's own network"
    assert requests[2][1] == [sums, sums], "nothing else leaves a site"

    keys = {**values, "dataset_dir": str(data), "datalist": "fitting.csv"}
    pooled = BundleSite("all", copy_bundle("cutpaste", tmp_path / "pooled"), least_cases=1, **keys).training
    pooled.network.load_state_dict(federated, strict=True)
    pooled.fitter()(pooled.trainer)
    set_determinism(None)
    state = pooled.network.state_dict()
    assert int(state["gaussian.count"]) == 6
    for name in ("gaussian.mean", "gaussian.shrinkage", "usual.mean"):
        torch.testing.assert_close(state[name], federated[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rounds", [1, 3])
def test_sites_with_the_same_scans_train_as_one(rounds: int, data: Path, tmp_path: Path) -> None:
    values = _values("ae", max_iterations=3, **{"train::dataloader::epoch_length": 1})
    lists = dict.fromkeys(SHARES, "fitting.csv")
    sites = site_keys(data, tmp_path, lists)
    path, wire = federate(copy_bundle("ae", tmp_path), sites, tmp_path, rounds, **values)
    assert len(wire.record) == rounds + 2
    pooled, federated = _pooled("ae", data, tmp_path, **values)["model"], _model(path)["model"]
    for name in ("calibration.reference_scores", "calibration.reference_inputs"):
        torch.testing.assert_close(federated.pop(name), pooled.pop(name).repeat_interleave(2, 0))
    for name, value in pooled.items():
        assert torch.equal(federated[name], value), name


def test_rounds_bring_other_scans_together(data: Path, tmp_path: Path) -> None:
    values = _values("ae", max_iterations=2, **{"train::dataloader::epoch_length": 1})
    path, wire = federate(copy_bundle("ae", tmp_path), site_keys(data, tmp_path), tmp_path, 2, **values)
    (first, replies), (second, _) = wire.record[:2]
    north, south = (reply.state for reply in replies)
    trained = [name for name in north if name in south and north[name].is_floating_point()]
    assert any(name.startswith("decoder") and name.endswith("weight") for name in trained)
    for name in trained:
        expected = (north[name].double() + 2 * south[name].double()) / 3
        torch.testing.assert_close(second.state[name], expected.float())
        assert not torch.equal(first.state[name], second.state[name])
        assert not torch.equal(_model(path)["model"][name], second.state[name])


def test_the_figures_of_a_site_stay_there(data: Path, tmp_path: Path) -> None:
    sites = site_keys(data, tmp_path, {"north": "datalist.csv", "south": "fitting.csv"})
    _, wire = federate(copy_bundle("padim", tmp_path), sites, tmp_path, **_values("padim"))
    figures = json.loads((tmp_path / "north" / "output" / "evaluation.json").read_text("utf-8"))
    assert figures["n_abnormal"] == 2
    assert not (tmp_path / "south" / "output" / "evaluation.json").exists()
    assert all(not reply.state for reply in wire.record[-1][1])


# refusals


def _refusal(*arguments: Any, **keys: Any) -> str:
    with pytest.raises(InputError) as raised:
        BundleSite(*arguments, **keys)
    return str(raised.value)


def test_a_site_with_few_cases_tells_nothing(data: Path, tmp_path: Path) -> None:
    root, values = copy_bundle("padim", tmp_path), _values("padim", dataset_dir=str(data))
    assert "too few normal cases to train on" in _refusal("north", root, datalist="south.csv", **values)
    assert "expected at least 5, found 4" in _refusal("north", root, datalist="south.csv", **values)
    BundleSite("north", root, least_cases=4, datalist="south.csv", **values)


@pytest.mark.parametrize(
    "keys",
    [
        {"where": "$__import__('os').getcwd()"},
        {"dataset_dir": "@imports"},
        {"network_def": {"_target_": "os.getcwd"}},
        {"initialize": "nothing"},
        {"image_size": [32, "$1"]},
    ],
)
def test_a_server_cannot_send_code(keys: dict[str, Any], tmp_path: Path) -> None:
    root = copy_bundle("ae", tmp_path)
    assert "a key of a federation cannot be used" in _refusal("north", root, **keys)
    with pytest.raises(InputError, match="a key of a federation cannot be used"):
        Federation(root, **keys)


def test_other_settings_than_the_servers_are_refused(data: Path, tmp_path: Path) -> None:
    root, values = copy_bundle("ae", tmp_path), _values("ae")
    server = Federation(root, **values, dataset_dir="elsewhere")
    values.update(image_size=48, dataset_dir=str(data), datalist="fitting.csv", least_cases=1)
    site = BundleSite("north", root, **values)
    with pytest.raises(InputError, match="trains another model than this site: north"):
        server.run(lambda request: [site.answer(request)])


def test_more_rounds_than_the_schedule_has_parts_are_refused(data: Path, tmp_path: Path) -> None:
    root = copy_bundle("ae", tmp_path)
    with pytest.raises(InputError, match="more rounds than parts of the training: rounds .expected at most 1, found 2"):
        federate(root, site_keys(data, tmp_path), tmp_path, rounds=2, **_values("ae"))


def test_what_a_site_sends_must_be_finite(data: Path, tmp_path: Path) -> None:
    root = copy_bundle("ae", tmp_path)
    sites = site_keys(data, tmp_path)
    with pytest.raises(InputError, match="not finite: north"):
        federate(root, sites, tmp_path, **_values("ae", learning_rate=1e30))


def test_the_server_refuses_what_it_cannot_build(tmp_path: Path) -> None:
    root = copy_bundle("ae", tmp_path)
    for arguments, sentence in (
        ({"image_sise": 32}, "did you mean --image_size"),
        ({"rounds": 0}, "rounds .expected at least 1"),
    ):
        with pytest.raises(InputError, match=sentence):
            Federation(root, **arguments)
    with pytest.raises(InputError, match="there is no bundle"):
        Federation(tmp_path)


def test_the_description_tells_bundle_settings_and_version(tmp_path: Path) -> None:
    server = Federation(copy_bundle("ae", tmp_path), **_values("ae"))
    description = json.loads(server.training.description())
    assert description["bundle"] == "ae" and description["settings"]["image_size"] == 32
    assert Request(TRAIN, "{}", {}).rounds == 1
