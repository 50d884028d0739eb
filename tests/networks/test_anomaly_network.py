"""What every method is: two ways to be called, a pool and a calibration."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medad_plugins.networks import AnomalyNetwork


class Brightness(AnomalyNetwork):
    """Its map is the scan."""

    def __init__(self, reduction: str | float = "max") -> None:
        super().__init__(reduction)
        self.gain = torch.nn.Parameter(torch.ones(()))

    def training_output(self, image: Tensor) -> list[Tensor]:
        return [image, image]

    def anomaly_map(self, image: Tensor) -> Tensor:
        return image.mean(1, keepdim=True) * self.gain


def test_mode_chooses_between_loss_and_map() -> None:
    network, image = Brightness(), torch.rand(2, 3, 4, 5)
    assert isinstance(network(image), list)
    assert torch.equal(network.eval()(image), image.mean(1, keepdim=True))


def test_scripted_it_is_the_map_in_either_mode() -> None:
    network, image = Brightness().eval(), torch.rand(2, 3, 4, 5)
    scripted = torch.jit.script(network)
    assert torch.equal(scripted(image), network(image))
    assert torch.equal(scripted.train()(image), network(image))


def test_reduction_reaches_the_pool() -> None:
    anomaly_map = torch.rand(3, 1, 4, 5)
    assert torch.equal(Brightness("mean").pool(anomaly_map), anomaly_map.mean((1, 2, 3)))
    assert torch.equal(Brightness().pool(anomaly_map), anomaly_map.amax((1, 2, 3)))


def test_calibration_travels_in_the_state_dict() -> None:
    fitted = Brightness()
    fitted.calibration.fit(torch.tensor([3.0, 1.0]), torch.tensor([4.0, 2.0, 3.0]))
    other = Brightness()
    assert not other.calibration.is_fitted
    other.load_state_dict(fitted.state_dict(), strict=True)
    assert other.calibration.reference_scores.tolist() == [1.0, 3.0]
    assert other.calibration.pixel_threshold(0.5) == 3.0


def test_a_method_without_loss_or_map_says_so() -> None:
    with pytest.raises(TypeError, match="AnomalyNetwork is not trained by a loss"):
        AnomalyNetwork()(torch.zeros(1, 1, 2, 2))
    with pytest.raises(TypeError, match="AnomalyNetwork has no anomaly map"):
        AnomalyNetwork().eval()(torch.zeros(1, 1, 2, 2))
