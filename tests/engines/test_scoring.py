"""Cases are scored as the calibration sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from medad_plugins.engines import score_cases
from medad_plugins.networks import AnomalyNetwork


class Spread(AnomalyNetwork):
    """Its map is the scan, after a norm that counts batches in train mode."""

    def __init__(self) -> None:
        super().__init__("mean")
        self.norm = nn.BatchNorm2d(1)

    def anomaly_map(self, image: Tensor) -> Tensor:
        return self.norm(image).clamp_min(0)


def _batches(labels: bool = True) -> Iterator[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    for first, size in ((0, 3), (3, 2)):
        names = [f"case{first + i}" for i in range(size)]
        batch = {"image": MetaTensor(torch.rand(size, 1, 4, 5, generator=generator)), "case_id": names}
        yield {**batch, "label": torch.tensor([first % 2] * size)} if labels else batch


def test_every_case_gets_its_map_score_and_label() -> None:
    network = Spread()
    network.norm.bias.data.fill_(-0.3)
    cases = list(score_cases(network, _batches()))
    images = torch.cat([batch["image"].as_tensor() for batch in _batches()])
    assert [case.case_id for case in cases] == [f"case{i}" for i in range(5)]
    assert [case.label for case in cases] == [0, 0, 0, 1, 1]
    network.eval()
    for case, image in zip(cases, images, strict=True):
        assert torch.equal(case.image, image) and type(case.image) is Tensor
        expected = network(image[None])[0]
        assert case.anomaly_map.shape == (1, 4, 5) and not case.anomaly_map.requires_grad
        torch.testing.assert_close(case.anomaly_map, expected)
        assert case.score == pytest.approx(expected.mean().item(), rel=1e-6)


def test_unknown_labels() -> None:
    assert {case.label for case in score_cases(Spread(), _batches(labels=False))} == {-1}


def test_inferer_is_used() -> None:
    def doubles(image: Tensor, network: nn.Module) -> Tensor:
        return 2 * network(image)

    plain, doubled = list(score_cases(Spread(), _batches())), list(score_cases(Spread(), _batches(), doubles))  # type: ignore[arg-type]
    assert [case.score for case in doubled] == pytest.approx([2 * case.score for case in plain])


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_put_back_and_statistics_stay(training: bool) -> None:
    network = Spread().train(training)
    for case in score_cases(network, _batches()):
        assert not network.training and case.score >= 0
    assert network.training is training
    assert int(network.norm.num_batches_tracked or 0) == 0


def test_mode_is_put_back_after_an_error() -> None:
    def fails(image: Tensor, network: nn.Module) -> Tensor:
        raise KeyError("no")

    network = Spread().train()
    with pytest.raises(KeyError):
        list(score_cases(network, _batches(), fails))  # type: ignore[arg-type]
    assert network.training
