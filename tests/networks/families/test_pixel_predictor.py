"""One logit a pixel, whichever network says it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.networks import PixelPredictor

NETWORKS: list[dict[str, Any]] = [
    {"architecture": "wide_residual", "features": (4, 4, 8)},
    {"architecture": "unet", "features": (4, 8, 8)},
    {"architecture": "resnet10"},
]
EVERY = pytest.mark.parametrize("options", NETWORKS, ids=lambda options: options["architecture"])


def _predictor(spatial_dims: int, options: dict[str, Any]) -> PixelPredictor:
    torch.manual_seed(0)
    return PixelPredictor(spatial_dims, 1, **options)


def _image(spatial_dims: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, *(40, 36, 33)[:spatial_dims], generator=torch.Generator().manual_seed(1))


@EVERY
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_map_is_the_logistic_curve_of_what_is_trained(options: dict[str, Any], spatial_dims: int) -> None:
    predictor, image = _predictor(spatial_dims, options), _image(spatial_dims)
    with torch.no_grad():
        anomaly_map = predictor.eval()(image)
        logits = predictor.training_output(image)
    assert anomaly_map.shape == image.shape
    torch.testing.assert_close(anomaly_map, 1 / (1 + torch.exp(-logits)))
    torch.testing.assert_close(predictor.pool(anomaly_map), anomaly_map.flatten(1).mean(1))
    torch.nn.BCEWithLogitsLoss()(predictor.train()(image), image).backward()
    assert all(parameter.grad is not None for parameter in predictor.parameters())


@EVERY
@torch.no_grad()
def test_logits_and_maps_are_float32_also_in_reduced_precision(options: dict[str, Any]) -> None:
    predictor, image = _predictor(2, options), _image(2)
    with torch.autocast("cpu", torch.bfloat16):
        assert predictor.train()(image).dtype == torch.float32
        assert predictor.eval()(image).dtype == torch.float32


@EVERY
@torch.no_grad()
def test_a_map_does_not_depend_on_batch_mates(options: dict[str, Any]) -> None:
    predictor, images = _predictor(2, options).eval(), _image(2, 3)
    together = predictor(images)
    for i in range(3):
        torch.testing.assert_close(predictor(images[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-6)


def test_soft_labels_are_learnt_as_what_they_are() -> None:
    """The best answer to a target of 0.3 is 0.3, and neither 0 nor 1."""
    predictor, image = _predictor(2, NETWORKS[0]).train(), _image(2)
    optimizer = torch.optim.Adam(predictor.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.BCEWithLogitsLoss()(predictor(image), torch.full_like(image, 0.3)).backward()
        optimizer.step()
    assert float(torch.sigmoid(predictor(image)).detach().mean()) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"architecture": "vgg"},
            "no such network: architecture .expected one of wide_residual, unet, resnet10",
        ),
        ({"architecture": "resnet18", "features": [8, 8]}, "a backbone has features of its own"),
        ({"weights": "imagenet"}, "this network has no pretrained weights: wide_residual .found imagenet"),
    ],
)
def test_wrong_choices_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        PixelPredictor(2, 1, **options)


@EVERY
def test_of_volumes_it_begins_with_anomalies_being_rare(options: dict[str, Any]) -> None:
    volume, image = PixelPredictor(3, 1, **options), PixelPredictor(2, 1, **options)
    biases = [
        [value.item() for name, value in network.named_parameters() if name.endswith("bias") and value.shape == (1,)]
        for network in (volume, image)
    ]
    assert biases[0][-1] == -3 and biases[1][-1] > -1
