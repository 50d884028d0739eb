"""Pictures of a training, and a log for TensorBoard."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from PIL import Image
from torch import Tensor

from medad_plugins.data import FaultTolerantLoader
from medad_plugins.errors import InputError
from medad_plugins.handlers import TensorBoardLog, TrainingPictures
from medad_plugins.handlers.training_pictures import training_picture
from medad_plugins.networks import AnomalyNetwork


class Halving(AnomalyNetwork):
    """Rebuilds scans half as bright, and draws from the generator as it does."""

    def reconstruct(self, image: Tensor) -> Tensor:
        return image / 2 + 0 * torch.rand(1)

    def anomaly_map(self, image: Tensor) -> Tensor:
        return (image - self.reconstruct(image)).mean(1, keepdim=True)


def _loader(spatial_dims: int, cases: int = 3) -> FaultTolerantLoader:
    image = torch.rand(cases, 1, *[8, 6, 4][:spatial_dims], generator=torch.Generator().manual_seed(0))
    data: list[Any] = [{"image": MetaTensor(each), "case_id": str(index)} for index, each in enumerate(image)]
    return FaultTolerantLoader(data, lambda case: case, batch_size=2)


def _run(handlers: list[Any], epochs: int = 4) -> None:
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(1.0), "terms": {"g.generated": torch.tensor(2.0)}})
    for handler in handlers:
        handler.attach(engine)
    engine.run([0, 1, 2], max_epochs=epochs)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_pictures_come_every_so_often_and_change_nothing(spatial_dims: int, tmp_path: Path) -> None:
    network = Halving()
    network.train()
    network.calibration.eval()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    _run([TrainingPictures(network, _loader(spatial_dims), tmp_path, pictures=2)])
    assert torch.equal(torch.get_rng_state(), before)
    assert network.training and not network.calibration.training
    names = sorted(path.name for path in (tmp_path / "training").iterdir())
    assert names == ["iteration_000006.png", "iteration_000012.png"]


def test_rows_are_scan_reconstruction_and_map() -> None:
    scan = torch.zeros(2, 1, 4, 4)
    scan[1] = 1.0
    picture = np.asarray(training_picture([scan, scan / 2, scan]))
    # one column for each scan: black and white, black and grey, the map's lowest and highest colour
    rows, columns = (84, 248, 412), (84, 248)
    cells = [[tuple(int(v) for v in picture[row, column]) for column in columns] for row in rows]
    assert cells[0] == [(0, 0, 0), (255, 255, 255)] and cells[1] == [(0, 0, 0), (127, 127, 127)]
    assert sum(cells[2][0]) < 30 and sum(cells[2][1]) > 500


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_the_middle_slice_stands_upright(axis: int | None) -> None:
    volume = torch.zeros(1, 1, 4, 4, 4)
    # the patient's right and front of the middle axial slice, or the first row and column of a middle slice
    place = [3, 3, 2] if axis is None else [0, 0]
    if axis is not None:
        place.insert(axis, 2)
    volume[(0, 0, *place)] = 1
    picture = np.asarray(training_picture([volume, volume], axis))
    assert picture[24, 24].tolist() == [255, 255, 255]
    assert picture[24, 24 + 120].max() == picture[24 + 120, 24].max() == 0


def test_a_network_that_rebuilds_nothing_has_two_rows(tmp_path: Path) -> None:
    class Plain(AnomalyNetwork):
        def anomaly_map(self, image: Tensor) -> Tensor:
            return image

    with_three, with_two = (TrainingPictures(network, _loader(2), tmp_path).draw() for network in (Halving(), Plain()))
    assert with_three is not None and with_two is not None and with_two.height < with_three.height
    assert TrainingPictures(Plain(), [], tmp_path).draw() is None


def test_without_tensorboard_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="TensorBoard is not installed; pip install tensorboard"):
        _run([TensorBoardLog(tmp_path)])


def test_tensorboard_gets_terms_and_pictures(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _run([TrainingPictures(Halving(), _loader(2), tmp_path, pictures=2), TensorBoardLog(tmp_path, every=3)])
    log = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    log.Reload()
    assert set(log.Tags()["scalars"]) == {"loss", "g/generated"}
    assert [event.step for event in log.Scalars("g/generated")] == [3, 6, 9, 12]
    assert [event.step for event in log.Images("reconstructions")] == [6, 12]
    with Image.open(next((tmp_path / "training").iterdir())) as picture:
        assert (log.Images("reconstructions")[0].width, log.Images("reconstructions")[0].height) == picture.size
