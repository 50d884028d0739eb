"""The ensemble: ranks, merging under dependence, validity after calibrating again, members from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from medad_plugins.data import ScanFormat
from medad_plugins.engines import save_model
from medad_plugins.engines.training_setup import model_settings
from medad_plugins.errors import InputError
from medad_plugins.methods.ensemble import (
    Ensemble,
    HeldOutRanks,
    ensemble_size,
    member_settings,
    method_class,
    with_member_states,
)
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.scorers import MERGING_RULES, MergedPValues, NormalRanks

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


class Brightness(AnomalyNetwork):
    """The scan is the map."""

    def anomaly_map(self, image: Tensor) -> Tensor:
        return image[:, :1]


class Darkness(AnomalyNetwork):
    """One value everywhere: the darkest pixel, so it does not localize."""

    def anomaly_map(self, image: Tensor) -> Tensor:
        return torch.zeros_like(image[:, :1]) - image.amin((1, 2, 3), keepdim=True)


def _scans(count: int, seed: int, size: int = 16) -> Tensor:
    return torch.rand((count, 1, size, size), generator=torch.Generator().manual_seed(seed))


def _ensemble(kinds: list[type[AnomalyNetwork]], size: int = 16) -> Ensemble:
    settings = {"spatial_dims": 2, "in_channels": 1, "backbone": "resnet10"}
    members = [{"bundle": "knn", "network": settings, "image_size": [size, size], "fitted": True} for _ in kinds]
    ensemble = Ensemble(2, 1, [16, 16], members)
    for member, kind in zip(ensemble.members, kinds, strict=True):
        member.network = kind()
    return ensemble.eval()


def _ranked(ensemble: Ensemble, normal: Tensor) -> Ensemble:
    ranks = HeldOutRanks(ensemble)
    for batch in normal.split(4):
        ranks.collect(batch)
    ranks.fit()
    return ensemble


# ranks


def test_ranks_are_conformal_p_values_and_fall_beyond_the_highest() -> None:
    ranks = NormalRanks()
    ranks.fit(torch.arange(1.0, 20.0), torch.rand(1000))
    p_values = ranks.p_values(torch.tensor([0.5, 10.5, 18.5, 19.5, 25.0, 100.0]))
    assert p_values[:3].tolist() == pytest.approx([1.0, 0.5, 0.1])
    beyond = p_values[3:].tolist()
    assert 1 / 20 > beyond[0] > beyond[1] > beyond[2] > 0
    # a reference is not among those that exceed it; the highest lies one above the next
    own = ranks.p_values(torch.arange(1.0, 20.0))
    assert own[:-1].tolist() == pytest.approx([(20 - i) / 20 for i in range(1, 19)])
    assert own[-1] < 1 / 20
    places = ranks.places(torch.tensor([-5.0, 10.0, 10.1, 30.0]))
    assert bool((places.diff() > 0).all()) and places[1] == pytest.approx(0.5)


def test_rounding_does_not_change_a_rank() -> None:
    ranks = NormalRanks()
    scores = torch.linspace(3, 4, 41)
    ranks.fit(scores, scores)
    torch.testing.assert_close(ranks.p_values(scores * (1 - 2e-7)), ranks.p_values(scores), rtol=1e-4, atol=1e-6)


def test_map_values_become_powers_of_ten_of_normal_pixels() -> None:
    ranks = NormalRanks()
    pixels = torch.linspace(0, 1, 100_001)
    ranks.fit(torch.rand(5), pixels)
    values = torch.tensor([-1.0, 0.0, 0.9, 0.99, 0.999, 2.0]).reshape(1, 1, 2, 3)
    rarity = ranks(values).flatten()
    assert rarity[:5].tolist() == pytest.approx([0, 0, 1, 2, 3], abs=0.02)
    assert rarity[5] > 4


# merging


def _dependent(rng: np.random.Generator, cases: int, members: int, correlation: float) -> NDArray[np.float64]:
    """Scores ``(cases, members)`` of normal cases, whose members agree with each other."""
    shared = rng.standard_normal((cases, 1))
    return np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * rng.standard_normal((cases, members))


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95])
def test_merged_p_values_are_valid_under_dependence(correlation: float) -> None:
    rng = np.random.default_rng(0)
    z = torch.from_numpy(_dependent(rng, 100_000, 4, correlation))
    p_values = 1 - torch.special.ndtr(z)
    for rule in ("mean", "harmonic"):
        for alpha in (0.01, 0.05, 0.2):
            assert float((MergedPValues(rule).valid(p_values) <= alpha).double().mean()) <= alpha * 1.05
    # Fisher's rule for independent p-values is not, which is why there are these
    fisher = torch.special.gammaincc(torch.tensor(4.0), -p_values.log().sum(1))
    assert (float((fisher <= 0.05).double().mean()) > 0.08) == (correlation > 0)


@pytest.mark.parametrize("rule", MERGING_RULES)
def test_merging_is_monotone_and_keeps_what_all_say(rule: str) -> None:
    merge = MergedPValues(rule)
    p_values = torch.rand((200, 3), generator=torch.Generator().manual_seed(0)).clamp_min(1e-3)
    merged = merge(p_values)
    for member in range(3):
        lower = p_values.clone()
        lower[:, member] *= 0.9
        assert bool((merge(lower) <= merged + 1e-6).all())
    same = torch.tensor([[0.2, 0.2, 0.2]])
    assert float(merge(same)) == pytest.approx(0.2, abs=1e-5)
    assert bool((merge.valid(p_values) <= 1).all())
    with pytest.raises(ValueError, match="the rule must be one of"):
        MergedPValues("median")


def _merged_scores(scores: NDArray[np.float64], references: NDArray[np.float64], rule: str) -> NDArray[np.float64]:
    """What `Ensemble` computes of its members' scores."""
    p_values, places = [], []
    for own, reference in zip(torch.from_numpy(scores).float().T, torch.from_numpy(references).float().T):
        ranks = NormalRanks()
        ranks.fit(reference, reference)
        p_values.append(ranks.p_values(own))
        places.append(ranks.places(own))
    merged = MergedPValues(rule)(torch.stack(p_values, 1))
    return (-merged.log10() + 1e-3 * torch.stack(places, 1).mean(1)).double().numpy()


def _flagged(rng: np.random.Generator, held_out: int, members: int, correlation: float, rule: str) -> float:
    """Share of normal cases flagged at alpha 0.1 where the references are calibrated on again, of many draws."""
    shares = []
    for _ in range(80):
        references = _dependent(rng, held_out, members, correlation)
        own = _merged_scores(references, references, rule)
        new = _merged_scores(_dependent(rng, 60, members, correlation), references, rule)
        shares.append((((1 + (own[None] >= new[:, None]).sum(1)) / (held_out + 1)) <= 0.1).mean())
    return float(np.mean(shares))


@pytest.mark.parametrize("rule", ["harmonic", "mean"])
@pytest.mark.parametrize(("members", "correlation"), [(2, 0.0), (4, 0.7)])
def test_calibrated_on_its_own_references_it_keeps_its_promise(members: int, correlation: float, rule: str) -> None:
    for held_out in (19, 39):
        rate = _flagged(np.random.default_rng(1), held_out, members, correlation, rule)
        # the standard error of 80 draws of references is about 0.007
        assert 0.04 < rate < 0.1 + 0.02


def test_harmonic_follows_the_one_that_sees_it() -> None:
    rng = np.random.default_rng(2)
    found = {rule: [0.0] for rule in MERGING_RULES}
    for _ in range(15):
        references, normal, abnormal = (_dependent(rng, count, 3, 0.5) for count in (30, 100, 100))
        abnormal[:, 2] += 3
        for rule, values in found.items():
            scores = _merged_scores(np.concatenate([normal, abnormal]), references, rule)
            values.append(float(roc_auc_score(np.repeat([0, 1], 100), scores)))
    means = {rule: np.mean(values[1:]) for rule, values in found.items()}
    assert means["harmonic"] > 0.9 and means["harmonic"] > means["cauchy"] + 0.04 > means["mean"] + 0.04


# the network


@torch.no_grad()
def test_the_score_is_the_merged_p_value_and_the_map_that_of_who_localizes() -> None:
    normal = _scans(30, 0)
    ensemble = _ranked(_ensemble([Brightness, Darkness]), normal)
    assert [float(member.ranks.localizes) for member in ensemble.members] == [1.0, 0.0]  # type: ignore[union-attr, arg-type]
    image = _scans(3, 1)
    image[0, 0, 4:8, 4:8] = 3.0
    found = ensemble(image)
    scores = [kind().eval()(image).flatten(1).amax(1) for kind in (Brightness, Darkness)]
    known = [kind().eval()(normal).flatten(1).amax(1) for kind in (Brightness, Darkness)]
    expected = _merged_scores(
        torch.stack(scores, 1).double().numpy(), torch.stack(known, 1).double().numpy(), "harmonic"
    )
    np.testing.assert_allclose(ensemble.pool(found).numpy(), expected, rtol=1e-4)
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[4:8, 4:8] = True
    assert float(found[0, 0][inside].min()) > float(found[0, 0][~inside].max())
    assert ensemble.pool(found)[0] > ensemble.pool(found)[1:].max()


@torch.no_grad()
def test_one_member_ranks_as_it_does_alone() -> None:
    ensemble = _ranked(_ensemble([Brightness]), _scans(20, 0))
    image = _scans(50, 3) + torch.linspace(-0.3, 0.5, 50).reshape(-1, 1, 1, 1)
    alone = image.flatten(1).amax(1)
    merged = ensemble.pool(ensemble(image))
    assert torch.equal(alone.argsort(), merged.argsort())


@torch.no_grad()
def test_members_on_other_grids_are_brought_to_theirs() -> None:
    ensemble = _ranked(_ensemble([Brightness, Brightness], size=8), _scans(12, 0))
    image = torch.zeros(1, 1, 16, 16)
    image[..., 2:6, 8:12] = 1.0
    found = ensemble(image)
    assert found.shape == image.shape
    assert float(found[..., 2:6, 8:12].mean()) > 2 * float(found.mean())


def test_every_bundle_names_the_class_that_its_metadata_does() -> None:
    for path in sorted(BUNDLES.glob("[a-z]*/configs/metadata.json")):
        bundle = path.parent.parent.name
        declared = json.loads(path.read_text("utf-8"))["medad"]["network"]
        assert method_class(bundle).__name__ == declared
    for name in ("no_such", "../padim", "os", ""):
        with pytest.raises(InputError, match="no such method"):
            method_class(name)


def _saved(path: Path, bundle: str, settings: dict[str, Any], scan: ScanFormat) -> Tensor:
    """A fitted model file, and the maps of some scans by it."""
    torch.manual_seed(0)
    network = method_class(bundle)(weights="none", **settings)  # type: ignore[call-arg]
    size = scan.network_edges[0]
    network.collect(_scans(8, 5, size))  # type: ignore[operator]
    network.fit()  # type: ignore[operator]
    save_model(path, network, bundle, model_settings(settings, scan))
    with torch.no_grad():
        maps: Tensor = network.eval()(_scans(2, 6, size))
    return maps


def test_model_files_become_members(tmp_path: Path) -> None:
    scan = ScanFormat(image_size=32)
    settings = {"backbone": "resnet10"}
    files = [str(tmp_path / name) for name in ("knn.pt", "padim.pt")]
    expected = [
        _saved(Path(files[0]), "knn", settings, scan),
        _saved(Path(files[1]), "padim", {**settings, "dimensions": 8}, scan),
    ]
    assert ensemble_size([*files, "knn"], 128) == [32, 32] and ensemble_size("knn", 128) == 128
    members = member_settings([*files, "knn"], scan, "resnet10")
    assert [member["fitted"] for member in members] == [True, True, False]
    ensemble = with_member_states(Ensemble(2, 1, [32, 32], members), [*files, "knn"]).eval()
    with torch.no_grad():
        for member, maps in zip(ensemble.members, expected):
            torch.testing.assert_close(member.network(_scans(2, 6, 32)), maps)  # type: ignore[operator]
    # what a model file holds is plain values
    torch.save(members, tmp_path / "members.pt")
    assert torch.load(tmp_path / "members.pt", weights_only=True) == members

    with pytest.raises(InputError, match=r"sees scans otherwise.*expected intensity standard, found auto"):
        member_settings(files, ScanFormat(image_size=32, intensity="standard"), "resnet10")
    with pytest.raises(InputError, match="cross calibration"):
        member_settings(files, scan, "resnet10", "cross")
    with pytest.raises(InputError, match="there is no trained model"):
        member_settings(str(tmp_path / "none.pt"), scan, "resnet10")
    with pytest.raises(InputError, match="trained by gradient"):
        Ensemble(2, 1, [32, 32], member_settings("edc", scan, "resnet10"))
    with pytest.raises(InputError, match="needs a detector"):
        Ensemble(2, 1, [32, 32], [])


def test_slices_along_all_axes_are_refused() -> None:
    with pytest.raises(InputError, match="an ensemble takes slices of one axis: slice_axis"):
        member_settings("knn", ScanFormat(3, 32, slice_axis="all"), "resnet10")
