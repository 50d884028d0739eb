"""The tool that measures PaDiM and PatchCore beside anomalib."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medad_plugins.errors import InputError
from medad_plugins.networks import ResNetTaps
from medad_plugins.networks.fitted.coreset import random_projection

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "benchmark_features.py"))


class _Peer:
    """Answers as the worker does, from plain loops."""

    def __init__(self) -> None:
        self.vectors = torch.randn(4, 24, 4, 4, generator=torch.Generator().manual_seed(0))

    def call(self, name: str, **arguments: Any) -> float:
        if name == "embeddings":
            np.save(arguments["file"], self.vectors.numpy())
        elif name == "coreset":
            vectors = torch.from_numpy(np.load(arguments["vectors"]))
            points, picks = random_projection(vectors, 16), [5]
            while len(picks) < int(arguments["share"] * len(vectors)):
                picks.append(int(torch.cdist(points, points[picks]).amin(1).argmax()))
            np.save(arguments["features"], points.numpy())
            np.save(arguments["picks"], np.array(picks))
        else:
            raise AssertionError(name)
        return 3.0


@torch.no_grad()
def test_the_row_of_a_coreset(tmp_path: Path) -> None:
    comparison = TOOL["Comparison"](_Peer(), tmp_path, torch.zeros(4, 3, 32, 32), 1)
    row = comparison.coreset(60, 0.2, 2, 0).strip("| ").split(" | ")
    assert row[:3] == ["60 x 24", "12", "3.0 s"] and row[5] == "12 of 12"
    assert 0.5 < float(row[-1]) < 2, "both radii are those of greedy selections"


@torch.no_grad()
def test_a_peer_that_is_timed_for_its_first_picks(tmp_path: Path) -> None:
    comparison = TOOL["Comparison"](_Peer(), tmp_path, torch.zeros(4, 3, 32, 32), 1)
    row = comparison.coreset(60, 0.2, 1, 4).strip("| ").split(" | ")
    assert row[:3] == ["60 x 24", "12", "9.0 s, by its first 4"] and row[5] == "4 of 4"


def test_images_from_a_folder_and_generated_ones(tmp_path: Path) -> None:
    for index in range(3):
        Image.fromarray(np.full((20, 30), 50 * index, np.uint8)).save(tmp_path / f"{index}.png")
    read = TOOL["read_images"](str(tmp_path), 5, 16)
    assert read.shape == (5, 3, 16, 16)
    assert [round(float(image.mean() * 255)) for image in read] == [0, 50, 100, 0, 50]
    heads = TOOL["read_images"]("", 2, 32)
    assert 0 <= float(heads.min()) < float(heads.max()) <= 1 and not torch.equal(heads[0], heads[1])
    with pytest.raises(InputError, match="there are no images"):
        TOOL["read_images"](str(tmp_path / ".."), 5, 16)


@pytest.mark.parametrize("python", ["nowhere", sys.executable])
def test_an_interpreter_without_anomalib_is_named(python: str, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((1, 3, 32, 32), np.float32))
    torch.save(ResNetTaps("resnet18", 2, 3, 3).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"anomalib cannot be measured: .*give the interpreter"):
        TOOL["Anomalib"](python, 1, "", tmp_path / "images.npy", tmp_path / "weights.pth")
