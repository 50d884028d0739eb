"""What is trained is the mean of what is scored."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from medad_plugins.losses import ResidualLoss
from medad_plugins.scorers import residual_map


@pytest.mark.parametrize("size", [(6, 7), (4, 5, 6)])
def test_l1_and_l2_are_torchs(size: tuple[int, ...]) -> None:
    reconstruction, image = torch.rand(2, 3, *size), torch.rand(2, 3, *size)
    torch.testing.assert_close(ResidualLoss("l1")(reconstruction, image), functional.l1_loss(reconstruction, image))
    torch.testing.assert_close(ResidualLoss("l2")(reconstruction, image), functional.mse_loss(reconstruction, image))
    assert torch.equal(ResidualLoss()(reconstruction, image), ResidualLoss("l2")(reconstruction, image))


def test_the_pair_of_a_network_is_taken_as_it_is() -> None:
    reconstruction, image = torch.rand(2, 3, 6, 7), torch.rand(2, 3, 6, 7)
    loss = ResidualLoss("l1")
    assert torch.equal(loss((reconstruction, image), None), loss(reconstruction, image))


def test_ssim_is_the_mean_of_the_map_and_can_be_learnt() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 1, 12, 12, generator=generator)
    reconstruction = torch.rand(2, 1, 12, 12, generator=generator).requires_grad_()
    loss = ResidualLoss("ssim")(reconstruction, image)
    assert torch.equal(loss, residual_map(reconstruction, image, "ssim").mean())
    loss.backward()
    assert reconstruction.grad is not None and bool(torch.isfinite(reconstruction.grad).all())
    with torch.no_grad():
        closer = ResidualLoss("ssim")(reconstruction - 20 * reconstruction.grad, image)
    assert float(closer) < loss.item()


def test_unknown_residual() -> None:
    with pytest.raises(ValueError, match="residual must be one of"):
        ResidualLoss("l0")(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
