"""A site's own normal scans as a model's reference."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import beta

from medad_plugins.data import ScanFormat
from medad_plugins.deployment import recalibrate, restore_calibration
from medad_plugins.engines import ModelFile, save_model
from medad_plugins.errors import InputError
from medad_plugins.methods.padim import PaDiM
from medad_plugins.scorers import Calibration

SITES = {"changed gamma": (1.8, 0.0, 1.0), "noise": (1.0, 0.6, 1.0), "spacing": (1.0, 0.0, 0.6)}


def _scan(path: Path, seed: int, gamma: float = 1.0) -> None:
    random = np.random.RandomState(seed)
    field = np.kron(random.rand(4, 4), np.ones((8, 8)))
    Image.fromarray((250 * field**gamma).astype(np.uint8)).save(path)


def _folder(folder: Path, count: int, first: int, gamma: float = 1.0) -> Path:
    folder.mkdir()
    for number in range(count):
        _scan(folder / f"scan{number:03d}.png", first + number, gamma)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PaDiM with random weights and 25 references that no scan comes near."""
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"backbone": "resnet10", "dimensions": 8, "reduction": "max"}
    network = PaDiM(weights="none", **arguments)
    network.train()
    for _ in range(3):
        network.collect(torch.rand(8, 1, 32, 32))
    network.fit()
    network.calibration.fit(torch.linspace(0, 1, 25), torch.rand(100), torch.rand(25, 2))
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_model(path, network, "padim", {"network": arguments, **asdict(ScanFormat(image_size=32))})
    return path


def test_scores_are_replaced_and_the_model_remembers_both(model: Path, tmp_path: Path) -> None:
    folder, output = _folder(tmp_path / "site", 30, 0), tmp_path / "site.pt"
    found = recalibrate(model, folder, output=output, keys={"device": "cpu"})
    assert (found.cases, found.present, found.references, found.needed) == (30, 25, 30, 19)
    assert found.flagged == 1 and found.difference < 1e-6
    assert found.rate_band == pytest.approx(beta.ppf([0.025, 0.975], 1, 30))
    assert "differ from the model's 25" in found.sentences(0.05)[0]

    before, after = ModelFile(model, "padim").content["model"], ModelFile(output, "padim").content["model"]
    weights = [name for name in before if not name.startswith("calibration.")]
    assert all(torch.equal(before[name], after[name]) for name in weights), "nothing is trained"
    network = ModelFile(output, "padim").rebuild(PaDiM)
    assert network.calibration.reference_scores.numel() == 30 and network.calibration.reference_inputs.shape == (30, 2)

    again = recalibrate(output, folder, how="join", keys={"device": "cpu"})
    assert (again.references, again.difference) == (60, 1.0)
    assert "show no difference" in again.sentences(0.05)[0]
    assert restore_calibration(output) == 25
    restored = ModelFile(output, "padim").content["model"]
    assert all(torch.equal(restored[name], before[name]) for name in before)
    assert restore_calibration(output, "2") == 60
    with pytest.raises(InputError, match=r"no such calibration.*training, 1, 2"):
        restore_calibration(output, "9")


def test_groups_have_references_of_their_own(model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, output = _folder(tmp_path / "site", 26, 0), tmp_path / "site.pt"
    rows = [f"scan{n:03d}.png,{int(n == 25)},{'old' if n < 21 else 'new'}" for n in range(26)]
    (folder / "datalist.csv").write_text("\n".join(["image,label,scanner", *rows]))
    with caplog.at_level(logging.INFO):
        found = recalibrate(model, folder, group="scanner", output=output, keys={"device": "cpu"})
    assert found.cases == 25 and "1 of 26 scans are listed as abnormal and left out" in caplog.text
    assert "scanner new has 4 scans, too few for alpha 0.05 (19 are needed): its scans are compared" in caplog.text
    calibration = ModelFile(output, "padim").rebuild(PaDiM).calibration
    assert (calibration.group_column, calibration.group_size("old"), calibration.group_size("new")) == (
        "scanner",
        21,
        4,
    )
    with pytest.raises(InputError, match=r"no such column.*--group sex.*scanner"):
        recalibrate(model, folder, group="sex", output=output)


def test_what_cannot_be_done_leaves_the_model_as_it_is(model: Path, tmp_path: Path) -> None:
    folder, content = _folder(tmp_path / "few", 5, 0), model.read_bytes()
    with pytest.raises(InputError, match=r"could flag nothing.*at least 19.*found 5.*--how join"):
        recalibrate(model, folder, keys={"device": "cpu"})
    bads: list[tuple[dict[str, Any], str]]
    bads = [({"how": "mix"}, "replace or join"), ({"alpha": 1.5}, "alpha is out of range")]
    for bad, match in bads:
        with pytest.raises(InputError, match=match):
            recalibrate(model, folder, **bad)
    with pytest.raises(InputError, match=r"a folder is missing.*--normals"):
        recalibrate(model, "")
    with pytest.raises(InputError, match="this is not a bundle"):
        recalibrate(tmp_path, folder)
    assert model.read_bytes() == content


@pytest.mark.parametrize("site", SITES)
def test_the_promise_is_kept_at_a_site_after_recalibration(site: str) -> None:
    """200 recalibrations by 60 scans each of a score of 16 x 16 scans that knows the first site only."""
    random, (gamma, noise, spacing) = np.random.RandomState(0), SITES[site]
    centre = random.rand(16, 16)

    def scores(count: int, own: bool) -> torch.Tensor:
        scans = np.clip(centre + 0.1 * random.randn(count, 16, 16), 0, 1)
        if own:
            scans = np.clip(scans**gamma + noise * 0.1 * random.randn(*scans.shape), 0, 1)
            step = np.minimum((np.arange(16) * spacing).astype(int), 15)
            scans = scans[:, step][:, :, step]
        return torch.from_numpy(np.abs(scans - centre).mean((1, 2)))

    calibration = Calibration()
    calibration.fit(scores(60, own=False), torch.rand(10))
    before = np.mean([calibration.p_value(float(score)) <= 0.05 for score in scores(300, own=True)])
    rates = []
    for _ in range(200):
        calibration.keep_references(scores(60, own=True))
        rates.append(np.mean([calibration.p_value(float(score)) <= 0.05 for score in scores(20, own=True)]))
    exact = 3 / 61  # of 60 references, three ranks flag
    assert before > 0.1, before
    assert abs(np.mean(rates) - exact) < 3 * np.std(rates) / np.sqrt(len(rates)), (np.mean(rates), exact)
