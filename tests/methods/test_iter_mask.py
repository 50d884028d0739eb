"""IterMask: the mask that shrinks, against a loop over single scans, and what the first network sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.losses import ResidualLoss
from medad_plugins.methods.iter_mask import IterMask

BOTH = pytest.mark.parametrize("size", [(32, 36), (16, 16, 20)])


def _network(spatial_dims: int = 2, **others: Any) -> IterMask:
    torch.manual_seed(0)
    return IterMask(spatial_dims, **{"width": 8, **others}).eval()


def _scan(*size: int, batch: int = 3) -> Tensor:
    image = torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1
    image[..., :3] = 0  # air
    return image


class _Halves(nn.Module):
    """Fills in everything as grey: the error is largest where a scan is brightest or darkest."""

    def forward(self, joined: Tensor) -> Tensor:
        return torch.full_like(joined[:, :1], 0.5)


@BOTH
@torch.no_grad()
def test_the_mask_shrinks_as_in_a_loop_over_scans(size: tuple[int, ...]) -> None:
    network, image = _network(len(size), stable=0.02, rounds=6), _scan(*size)
    network.limits.start.fill_(0.05)
    filled, masks, errors = network.refine(image)
    noise_like = [1, *image.shape[1:]]
    for case, last, covered, error in zip(
        image[:, None], filled[:, None], masks[:, None], errors[:, None], strict=True
    ):
        generator = torch.Generator().manual_seed(0)
        edges, body = network.high_frequencies(case), case > 0.01
        guess = (network.first(edges) - case) ** 2
        least = np.sort(guess[body].numpy())[::-1][round(0.6 * int(body.sum())) - 1]
        mask = (guess >= float(least)) & body
        kept = torch.zeros_like(case)
        for _ in range(6):
            noise = torch.randn(noise_like, generator=generator)
            answer = network.second(torch.cat([torch.where(mask, noise, case), edges], 1))
            joined = torch.where(mask, answer, case)
            squares = (joined - case) ** 2
            kept = torch.where(mask, squares, kept)
            smaller = mask & (squares > 0.05)
            if int(mask.sum()) - int(smaller.sum()) <= 0.02 * int(mask.sum()):
                break
            mask = smaller
        assert torch.equal(covered, mask)
        torch.testing.assert_close(last, joined, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(error, kept, rtol=1e-3, atol=1e-4)
        assert int((error > 0).sum()) > int(mask.sum()), "what is not in the last mask has the error that it left with"
    assert int(masks.sum()) < 0.5 * int((image > 0.01).sum()), "it did shrink"
    torch.testing.assert_close(network(image)[1:], network(image[1:]), rtol=1e-3, atol=1e-4)


@BOTH
def test_low_frequencies_keep_their_phase_alone(size: tuple[int, ...]) -> None:
    network, image = _network(len(size), radius=0.1), _scan(*size)
    axes = tuple(range(2, 2 + len(size)))
    spectrum, kept = np.fft.fftn(image.numpy(), axes=axes), np.fft.fftn(network.high_frequencies(image), axes=axes)
    grids = np.meshgrid(*[np.fft.fftfreq(edge) for edge in size], indexing="ij")
    low = np.broadcast_to(np.sqrt(sum(grid**2 for grid in grids)) < 0.1, spectrum.shape)
    np.testing.assert_allclose(kept[~low], spectrum[~low], rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(np.abs(kept[low]), 1, atol=1e-2)
    brighter = network.high_frequencies(image * 0.5)
    mean = float(network.high_frequencies(image).mean())
    assert abs(float(brighter.mean()) - mean) < 1e-4, "they do not tell how bright a scan is"


def test_the_limit_is_the_quantile_of_errors_in_covered_places() -> None:
    network, image = _network(quantile=0.8), _scan(32, 36, batch=8)
    network.second = _Halves()  # type: ignore[assignment]
    network.collect(image)
    network.collect(image.flip(0))
    network.fit()
    expected = np.quantile(((image - 0.5) ** 2)[image > 0.01].numpy(), 0.8)
    assert float(network.limits.start) == pytest.approx(float(expected), rel=0.05)


@BOTH
def test_in_training_both_networks_learn_the_scan(size: tuple[int, ...]) -> None:
    network, image = _network(len(size)).train(), _scan(*size)
    seen: list[Tensor] = []
    network.second.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, :1]))
    rebuilt, target = network(image)
    assert rebuilt.shape == target.shape == (3, 2, *size)
    assert torch.equal(target, torch.cat([image, image], 1))
    changed = seen[0] != image
    assert not bool(changed[image <= 0.01].any()), "air is not covered"
    shares = [float(case.float().mean()) for case in changed]
    assert len(set(shares)) == 3, "how much is covered is drawn for each scan"
    ResidualLoss("l2")((rebuilt, target)).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_what_a_user_may_get_wrong() -> None:
    with pytest.raises(InputError, match=r"no such width: width \(expected a multiple of 8, found 12\)"):
        _network(width=12)
    with pytest.raises(InputError, match="too small for a U-Net"):
        _network()(_scan(8, 32))
    for wrong in ({"share": 0.0}, {"quantile": 1.0}, {"rounds": 0}, {"radius": -0.1}):
        with pytest.raises(ValueError, match="must be shares"):
            _network(**wrong)
