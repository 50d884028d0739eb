"""Histogram equalisation of the foreground alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medad_plugins.data import ScanFormat
from medad_plugins.transforms import EqualizeScand, ScanPreprocessing


def _equalized(values: NDArray[np.float32]) -> NDArray[np.float32]:
    image = MetaTensor(torch.from_numpy(values.astype(np.float32)), affine=torch.diag(torch.tensor([2.0, 1, 1, 1])))
    result = EqualizeScand()({"image": image, "label": 1})
    assert result["label"] == 1 and torch.equal(result["image"].affine, image.affine)
    equalized: NDArray[np.float32] = result["image"].numpy()
    return equalized


def _head(*size: int) -> NDArray[np.float32]:
    """Faint tissue in an ellipsoid, air around it."""
    rng = np.random.RandomState(0)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in size], indexing="ij"))
    values = np.where(np.square(grid).sum(0) < 0.7, 0.4 + 0.1 * rng.beta(2, 5, size), 0.01 * rng.rand(*size))
    return values[None].astype(np.float32)


@pytest.mark.parametrize("size", [(64, 80), (24, 30, 20)])
def test_an_intensity_becomes_the_share_of_the_foreground_that_is_darker(size: tuple[int, ...]) -> None:
    head = _head(*size)
    equalized, foreground = _equalized(head), head > 0.1 * head.max()
    inside = head[foreground]
    expected = np.array([(inside < value).mean() for value in inside])
    # of 256 bins some 25 hold tissue, each of which is a straight line
    np.testing.assert_allclose(equalized[foreground], expected, atol=0.06)
    counts = np.histogram(equalized[foreground], 5, range=(0, 1))[0]
    assert counts.min() > 0.14 * counts.sum(), "without the mask it would all lie in one fifth"
    assert equalized[~foreground].max() <= equalized[foreground].min() + 1e-6
    assert equalized.dtype == np.float32 and equalized.min() >= 0 and equalized.max() <= 1


def test_order_is_kept_and_the_background_counts_for_nothing() -> None:
    head = _head(48, 48)
    equalized = _equalized(head)
    order = np.argsort(head.ravel(), kind="stable")
    assert (np.diff(equalized.ravel()[order]) >= -1e-6).all()
    wide = np.pad(head, [(0, 0), (20, 20), (20, 20)])
    np.testing.assert_allclose(_equalized(wide)[:, 20:-20, 20:-20], equalized, atol=1e-6)


def test_channels_are_equalized_each_and_nothing_is_left_as_it_is() -> None:
    head = _head(32, 32)
    both = _equalized(np.concatenate([head, head**2]))
    np.testing.assert_allclose(both[:1], _equalized(head))
    assert not _equalized(np.zeros((1, 8, 8), dtype=np.float32)).any()


def test_preprocessing_does_it_where_requested(tmp_path: object) -> None:
    image = MetaTensor(torch.from_numpy(_head(40, 40)))
    plain, equalized = (
        ScanPreprocessing(ScanFormat(2, 40, equalize=choice))({"image": image})["image"] for choice in (False, True)
    )
    torch.testing.assert_close(equalized, EqualizeScand()({"image": plain})["image"])
    assert not torch.allclose(equalized, plain)
