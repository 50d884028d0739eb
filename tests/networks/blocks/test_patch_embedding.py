"""The joined embeddings of PaDiM and PatchCore against a plain computation of their descriptions."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.networks import PatchEmbedding
from medad_plugins.networks.blocks.patch_embedding import pooling_matrix

GRIDS: dict[int, list[tuple[int, ...]]] = {2: [(6, 8), (3, 4), (2, 2)], 3: [(5, 4, 6), (3, 2, 3), (2, 1, 2)]}


def _taps(channels: tuple[int, ...], dims: int, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, c, *grid, generator=generator) for c, grid in zip(channels, GRIDS[dims])]


def _neighbours(tap: Tensor, size: int) -> Tensor:
    """``(B, C * size^d, *grid)``: by unfold in 2D; in 3D, which PyTorch does not unfold, place by place."""
    if tap.dim() == 4:
        return functional.unfold(tap, size, padding=size // 2).reshape(len(tap), -1, *tap.shape[2:])
    half = size // 2
    unfolded = torch.zeros(*tap.shape[:2], size**3, *tap.shape[2:])
    places: Any = itertools.product(*(range(edge) for edge in tap.shape[2:]))
    for place in places:
        for number, offset in enumerate(itertools.product(range(-half, half + 1), repeat=3)):
            source = tuple(p + o for p, o in zip(place, offset))
            if all(0 <= s < edge for s, edge in zip(source, tap.shape[2:])):
                unfolded[(..., number, *place)] = tap[(..., *source)]
    return unfolded.flatten(1, 2)


def _described(taps: list[Tensor], size: int, dimensions: int) -> Tensor:
    """PatchCore's: patches, resized to the finest grid, flattened and pooled for each tap, stacked and pooled again."""
    grid, vectors = taps[0].shape[2:], []
    for tap in taps:
        patches = _neighbours(tap, size)
        if patches.shape[2:] != grid:
            mode = "bilinear" if tap.dim() == 4 else "trilinear"
            patches = functional.interpolate(patches, grid, mode=mode, align_corners=False)
        flat = patches.movedim(1, -1).reshape(-1, 1, patches.shape[1])
        vectors.append(functional.adaptive_avg_pool1d(flat, dimensions))
    stacked = torch.cat(vectors, 1).flatten(1).unsqueeze(1)
    pooled = functional.adaptive_avg_pool1d(stacked, dimensions).reshape(len(taps[0]), *grid, dimensions)
    return pooled.movedim(-1, 1)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("channels", "size", "dimensions"),
    [
        ((8, 16), 3, 64),  # more values than channels, blocks of one channel
        ((8, 16), 3, 12),
        ((8, 16), 3, 7),  # the two taps share a value
        ((4, 6, 10), 3, 16),
        ((4, 6, 10), 1, 5),
        ((4,), 5, 9),
        ((2, 2), 1, 40),  # more values than there are
    ],
)
def test_it_is_patchcores_by_its_description(channels: tuple[int, ...], size: int, dimensions: int, dims: int) -> None:
    embedding = PatchEmbedding(channels, dims, size, dimensions, "linear")
    taps = _taps(channels, dims)
    expected = _described(taps, size, dimensions)
    assert embedding.out_channels == dimensions
    torch.testing.assert_close(embedding(taps), expected, rtol=1e-5, atol=1e-6)


def test_the_papers_sizes() -> None:
    """ResNet-18's layers 2 and 3 in 1024 dimensions: pooled channel by channel."""
    embedding = PatchEmbedding((128, 256), 2, 3, 1024, "linear")
    taps = _taps((128, 256), 2)
    torch.testing.assert_close(embedding(taps), _described(taps, 3, 1024), rtol=1e-5, atol=1e-6)
    assert [part.groups for part in embedding.per_tap] == [128, 256]


@pytest.mark.parametrize("dims", [2, 3])
def test_joined_as_they_are_every_location_takes_the_cells_that_it_lies_in(dims: int) -> None:
    generator = torch.Generator().manual_seed(0)
    taps = [torch.randn(2, 3 + k, *[8 // 2**k] * dims, generator=generator) for k in range(3)]
    embedded = PatchEmbedding((3, 4, 5), dims)(taps)
    assert embedded.shape == (2, 12, *[8] * dims)
    for place in ((0,) * dims, (7,) * dims, (2, 5, 3)[:dims]):
        cells = [tap[(..., *(p // 2**k for p in place))] for k, tap in enumerate(taps)]
        assert torch.equal(embedded[(..., *place)], torch.cat(cells, 1))


def test_a_tap_of_which_nothing_is_wanted_adds_nothing() -> None:
    taps = _taps((3, 4), 2)
    embedded = PatchEmbedding((3, 0), 2)([taps[0], taps[1][:, :0]])
    assert torch.equal(embedded, taps[0])


@pytest.mark.parametrize(("length", "bins"), [(9, 4), (4, 9), (12, 3), (7, 7)])
def test_the_matrix_pools_as_pytorch_does(length: int, bins: int) -> None:
    values = torch.randn(3, length, generator=torch.Generator().manual_seed(0))
    expected = functional.adaptive_avg_pool1d(values.unsqueeze(1), bins).squeeze(1)
    torch.testing.assert_close(values @ pooling_matrix(length, bins).T, expected)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("dimensions", [None, 7, 12])
def test_it_becomes_torchscript_and_an_exported_program(dimensions: int | None, dims: int) -> None:
    size, interpolation = (1, "nearest") if dimensions is None else (3, "linear")
    embedding = PatchEmbedding((4, 6, 10), dims, size, dimensions, interpolation).eval()
    taps = _taps((4, 6, 10), dims, batch=3)
    expected = embedding(taps)
    torch.testing.assert_close(torch.jit.script(embedding)(taps), expected)
    batch = torch.export.Dim("batch", min=1)
    two = [tap[:2] for tap in taps]
    program = torch.export.export(embedding, (two,), dynamic_shapes=([{0: batch}] * 3,))
    torch.testing.assert_close(program.module()(taps), expected)


def test_it_becomes_onnx(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason=f"{package} is not installed; it comes with medad-plugins[export]")
    runtime = pytest.importorskip("onnxruntime", reason="it comes with medad-plugins[export]")
    embedding = PatchEmbedding((8, 16), 2, 3, 7, "linear").eval()
    taps = _taps((8, 16), 2)
    torch.onnx.export(embedding, (taps,), str(tmp_path / "e.onnx"), input_names=["fine", "coarse"], verbose=False)
    session = runtime.InferenceSession(str(tmp_path / "e.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"fine": taps[0].numpy(), "coarse": taps[1].numpy()})
    torch.testing.assert_close(torch.from_numpy(found), embedding(taps), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"neighbourhood": 2, "dimensions": 8}, "neighbourhood must be odd and positive, got 2"),
        ({"neighbourhood": 3}, "a neighbourhood is pooled: give dimensions"),
        ({"dimensions": 1}, "dimensions must be at least 2"),
        ({"interpolation": "cubic"}, "interpolation must be 'nearest' or 'linear'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, int | str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        PatchEmbedding((3, 4), 2, **arguments)  # type: ignore[arg-type]
