"""Pictures that look a little like heads, each with its own inner texture, and what is done to copies of them."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

__all__ = ["CHANGES", "textured_head", "textured_volume"]

Picture = NDArray[np.uint8]


def textured_head(seed: int, size: int = 128) -> Picture:
    """``(rows, columns)``: a bright ring with a texture inside that only this seed has."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    radius = np.hypot(y * random.uniform(1.9, 2.3), x * random.uniform(2.2, 2.7))
    texture = _texture(random, (size, size))
    picture = np.where(radius < 1, 90 + 35 * texture, 5) + 110 * ((radius > 0.93) & (radius < 1))
    return picture.clip(0, 255).astype(np.uint8)


def textured_volume(seed: int, shape: tuple[int, int, int] = (48, 44, 40)) -> Picture:
    """``(x, y, z)``: the same in 3D."""
    random = np.random.RandomState(seed)
    grid = np.meshgrid(*[np.linspace(-1.15, 1.15, size) for size in shape], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in grid))
    return np.where(radius < 1, 100 + 35 * _texture(random, shape), 5).clip(0, 255).astype(np.uint8)


def _texture(random: np.random.RandomState, shape: tuple[int, ...]) -> NDArray[np.float64]:
    octaves = ((6, 1.0), (14, 0.7))
    return np.asarray(
        sum(w * ndimage.zoom(random.randn(*[k] * len(shape)), [s / k for s in shape], order=1) for k, w in octaves)
    )


def _recompressed(picture: Picture) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=40)
    return np.asarray(Image.open(buffer))


# What people do to copies, by name; the third value is how the audit calls the orientation.
CHANGES: dict[str, tuple[Callable[[Picture], Picture], str]] = {
    "mirrored": (lambda a: a[:, ::-1], "mirrored left-right"),
    "upside down": (lambda a: a[::-1], "mirrored top-bottom"),
    "turned": (lambda a: np.rot90(a, 2), "turned by 180 degrees"),
    "quarter turn": (lambda a: np.rot90(a), "turned by 90 degrees clockwise"),
    "brighter": (lambda a: (a * 1.2 + 10).clip(0, 255).astype(np.uint8), "as it is"),
    "other contrast": (lambda a: (255 * (a / 255.0) ** 0.7).astype(np.uint8), "as it is"),
    "shifted": (lambda a: np.roll(a, (4, -3), (0, 1)), "as it is"),
    "smaller": (lambda a: np.asarray(Image.fromarray(a).resize((90, 90))), "as it is"),
    "another aspect": (lambda a: np.asarray(Image.fromarray(a).resize((160, 100))), "as it is"),
    "recompressed": (_recompressed, "as it is"),
}
