"""The body is the large bright piece, without its holes and without the specks beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medad_plugins.synthesis import FindBodyd


@pytest.mark.parametrize("dims", [2, 3])
def test_the_largest_piece_with_its_holes_filled(dims: int) -> None:
    image = np.full((2, *(20,) * dims), 0.02, dtype=np.float32)
    image[(slice(None), *(slice(4, 14),) * dims)] = 0.8
    image[(slice(None), *(slice(7, 9),) * dims)] = 0.0  # a hole
    image[(slice(None), *(slice(17, 19),) * dims)] = 1.0  # a speck
    case = FindBodyd()({"image": torch.from_numpy(image), "case_id": "a"})
    expected = np.zeros((1, *(20,) * dims), dtype=np.float32)
    expected[0][(slice(4, 14),) * dims] = 1
    assert case["body"].dtype == torch.float32 and np.array_equal(case["body"], expected)
    assert case["case_id"] == "a"


def test_an_image_without_contrast_has_no_body() -> None:
    assert not FindBodyd()({"image": np.zeros((1, 9, 9), dtype=np.float32)})["body"].any()
