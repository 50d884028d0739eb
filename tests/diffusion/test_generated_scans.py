"""A folder of generated scans, and the pool that it becomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medad_plugins.data import ScanFormat
from medad_plugins.diffusion import GeneratedScans
from medad_plugins.errors import InputError
from medad_plugins.synthesis import generated_pool

SIZES: dict[int, tuple[int, ...]] = {2: (12, 16), 3: (8, 10, 12)}


class _Slope(nn.Module):
    """Says of everything that it is noise around an image that brightens along its first axis."""

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        products = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)[times].reshape(-1, *[1] * (x.dim() - 1))
        slope = torch.linspace(-0.8, 0.8, x.shape[2]).reshape(-1, *[1] * (x.dim() - 3))
        noise: Tensor = (x - products.sqrt() * slope) / (1 - products).sqrt()
        return noise


def _generated(folder: Path, spatial_dims: int = 2, **arguments: object) -> GeneratedScans:
    settings = {"count": 5, "image_size": SIZES[spatial_dims], "spatial_dims": spatial_dims, "batch_size": 2}
    return GeneratedScans(_Slope(), folder, **{**settings, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(("spatial_dims", "channels"), [(2, 1), (2, 3), (3, 1)])
def test_what_is_written_is_read_as_it_was_drawn(tmp_path: Path, spatial_dims: int, channels: int) -> None:
    folder = _generated(tmp_path / "new" / "scans", spatial_dims, in_channels=channels).write()
    suffix = "png" if spatial_dims == 2 else "nii.gz"
    assert sorted(path.name for path in folder.iterdir()) == [f"generated_{n:05d}.{suffix}" for n in range(5)]
    pool = generated_pool(folder, ScanFormat(spatial_dims, SIZES[spatial_dims], channels))
    assert pool is not None and len(pool.dataset) == 5
    name, image = pool.draw(np.random.RandomState(0), "generated_00000")
    assert name.startswith("generated ") and image.shape == (channels, *SIZES[spatial_dims])
    slope = np.linspace(0.1, 0.9, SIZES[spatial_dims][0]).reshape(-1, *[1] * (spatial_dims - 1))
    np.testing.assert_allclose(image, np.broadcast_to(slope, image.shape), atol=0.02)


def test_the_same_seed_gives_the_same_scans_and_a_second_run_replaces_them(tmp_path: Path) -> None:
    class Free(nn.Module):
        def forward(self, x: Tensor, times: Tensor) -> Tensor:
            return 0.1 * x

    contents = []
    for seed, count in ((0, 5), (0, 3), (1, 3)):
        writer = _generated(tmp_path, seed=seed, count=count)
        writer.network = Free()
        contents.append([path.read_bytes() for path in sorted(writer.write().iterdir())])
    assert [len(c) for c in contents] == [5, 3, 3]
    assert contents[0][:2] == contents[1][:2] and contents[1][0] != contents[2][0]


def test_the_strength_is_drawn_for_each_scan(tmp_path: Path) -> None:
    writer = _generated(tmp_path, strength=(0.1, 0.4), count=4, batch_size=4)
    writer.write()
    factors = writer.scheduler.variance_factor
    assert isinstance(factors, Tensor) and len(set(factors.tolist())) == 4
    assert 1.1 <= float(factors.min()) and float(factors.max()) <= 1.4


def test_folders_with_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files.*found notes.txt.*give another --generated_dir"):
        _generated(tmp_path).require_folder()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"count": 1}, r"too few generated scans for a pool: count \(expected 2 or more, found 1\)"),
        ({"strength": (0.2, 0.1)}, "the strength is not understood"),
        ({"in_channels": 2}, r"so many channels.*1 or 3 for images.*found 2"),
        ({"spatial_dims": 3, "in_channels": 3}, r"so many channels.*1 for volumes.*found 3"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        _generated(tmp_path, **arguments)  # type: ignore[arg-type]


def test_no_folder_is_no_pool_and_a_missing_or_small_one_is_reported(tmp_path: Path) -> None:
    assert generated_pool("", ScanFormat()) is None and generated_pool(None, ScanFormat()) is None
    with pytest.raises(InputError, match="does not exist"):
        generated_pool(tmp_path / "nothing", ScanFormat())
    _generated(tmp_path, count=2).write()
    (tmp_path / "generated_00001.png").unlink()
    with pytest.raises(InputError, match=r"need other scans.*at least 2"):
        generated_pool(tmp_path, ScanFormat(2, 16))
    with pytest.raises(InputError, match="wrong number of axes"):
        generated_pool(tmp_path, ScanFormat(3, 16))
