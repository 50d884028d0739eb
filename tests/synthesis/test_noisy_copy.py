"""The scan stays, its copy has noise in one box."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medad_plugins.synthesis import NoisyCopyd


def _boxes(shape: tuple[int, ...], count: int = 40, **arguments: object) -> list[tuple[torch.Tensor, list[np.ndarray]]]:
    """The noise that was added, and along each axis where there was any."""
    transform = NoisyCopyd(**arguments)  # type: ignore[arg-type]
    found = []
    for seed in range(count):
        image = torch.rand(shape)
        transform.set_random_state(seed=seed)
        joined = transform({"image": image.clone(), "label": 0})["image"]
        assert joined.shape == (2 * shape[0], *shape[1:])
        assert torch.equal(joined[: shape[0]], image), "the scan itself"
        noise = joined[shape[0] :] - image
        where = (noise != 0).any(0)
        others = [tuple(a for a in range(where.dim()) if a != axis) for axis in range(where.dim())]
        found.append((noise, [np.flatnonzero(where.numpy().any(o)) for o in others]))
    return found


@pytest.mark.parametrize("shape", [(1, 256, 256), (3, 64, 128), (1, 64, 64, 48)])
def test_noise_fills_one_box_of_the_sides_of_the_public_code(shape: tuple[int, ...]) -> None:
    sides: list[list[float]] = [[] for _ in shape[1:]]
    for noise, places in _boxes(shape):
        assert float(noise.abs().max()) < 0.2 * 2.4
        for axis, place in enumerate(places):
            assert len(place) == place[-1] - place[0] + 1, "one piece"
            assert 0 <= place[0] and place[-1] < shape[1 + axis]
            sides[axis].append(len(place) * 256 / shape[1 + axis])
    for found in sides:
        assert 8 <= min(found) < 14 and 26 < max(found) < 32.1
    if shape[1] == 256:
        assert min(sides[0]) >= 10 and max(sides[0]) <= 31


def test_boxes_lie_everywhere() -> None:
    starts = np.array([[place[0] for place in places] for _, places in _boxes((1, 64, 64), 300)])
    assert (starts.min(0) < 4).all() and (starts.max(0) > 48).all()


def test_a_box_takes_a_whole_axis_for_slices_along_it() -> None:
    for _, places in _boxes((1, 40, 48, 44), 10, whole_axis=1):
        assert len(places[1]) == 48 and len(places[0]) < 10 and len(places[2]) < 10


def test_strength_is_a_factor_of_the_noise() -> None:
    weak, strong = (_boxes((1, 64, 64), 1, strength=s)[0][0] for s in (0.1, 0.3))
    torch.testing.assert_close(3 * weak, strong, rtol=1e-3, atol=1e-6)


def test_same_seed_same_noise_and_the_input_is_left_as_it_was() -> None:
    transform, image = NoisyCopyd(), torch.rand(1, 32, 32)
    before = image.clone()
    results = []
    for seed in (1, 1, 2):
        transform.set_random_state(seed=seed)
        results.append(transform({"image": image})["image"])
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
    assert torch.equal(image, before)


def test_meta_data_come_along() -> None:
    image = MetaTensor(torch.rand(1, 32, 32), meta={"filename_or_obj": "a.png"})
    joined = NoisyCopyd()({"image": image})["image"]
    assert isinstance(joined, MetaTensor) and joined.meta["filename_or_obj"] == "a.png"


def test_wrong_sides() -> None:
    with pytest.raises(ValueError, match="ascending fractions"):
        NoisyCopyd(sides=(0.2, 0.1))
