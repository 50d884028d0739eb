"""Channels that show synthetic anomalies are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medad_plugins.federated import merge_replies
from medad_plugins.federated.messages import Reply
from medad_plugins.methods.realnet import ChannelSelection


def _batch(spatial_dims: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features with and without the anomaly; only channels 1 and 3 change where the mask is."""
    generator = torch.Generator().manual_seed(seed)
    grid = [4] * spatial_dims
    clean = torch.rand(3, 5, *grid, generator=generator)
    mask = torch.zeros(3, 1, *[8] * spatial_dims)
    mask[(slice(None), slice(None), *[slice(0, 4)] * spatial_dims)] = 1
    small = torch.zeros(3, 1, *grid)
    small[(slice(None), slice(None), *[slice(0, 2)] * spatial_dims)] = 1
    anomalous = clean + 0.1 * torch.rand(clean.shape, generator=generator)
    anomalous[:, [1, 3]] = clean[:, [1, 3]] + 2 * small
    return anomalous, clean, mask


def _plain_losses(anomalous: Tensor, clean: Tensor, mask: Tensor) -> np.ndarray:
    """Channel by channel, case by case; masks of twice the grid's size."""
    losses = np.zeros(anomalous.shape[1])
    for case in range(len(anomalous)):
        values = mask[case, 0].numpy()
        if not values.any():
            continue
        for axis in range(values.ndim):  # means of blocks of two
            values = (np.take(values, range(0, 8, 2), axis) + np.take(values, range(1, 8, 2), axis)) / 2
        for channel in range(anomalous.shape[1]):
            difference = (anomalous[case, channel] - clean[case, channel]).numpy() ** 2
            scaled = (difference - difference.min()) / (difference.max() - difference.min())
            losses[channel] += ((scaled - values) ** 2).mean()
    return losses


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_losses_are_of_scaled_differences_and_add_up(spatial_dims: int) -> None:
    selection = ChannelSelection(5, 2)
    expected = np.zeros(5)
    for seed in range(2):
        anomalous, clean, mask = _batch(spatial_dims, seed)
        mask[1] = 0  # a case without an anomaly
        selection.observe(anomalous, clean, mask)
        expected += _plain_losses(anomalous, clean, mask)
    np.testing.assert_allclose(selection.losses.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_channels_that_change_in_the_mask_are_kept(spatial_dims: int) -> None:
    selection = ChannelSelection(5, 2)
    anomalous, clean, mask = _batch(spatial_dims)
    assert torch.equal(selection(anomalous), anomalous[:, :2]), "the first ones, before anything is known"
    selection.observe(anomalous, clean, mask)
    selection.choose()
    assert selection.chosen.tolist() == [1, 3] and torch.equal(selection(anomalous), anomalous[:, [1, 3]])


def test_all_are_kept_where_there_are_no_more() -> None:
    assert ChannelSelection(3, 10).kept == 3
    with pytest.raises(ValueError, match="kept must be positive"):
        ChannelSelection(3, 0)


def test_observed_losses_load_into_a_fresh_one() -> None:
    selection, fresh = ChannelSelection(5, 2), ChannelSelection(5, 2)
    selection.observe(*_batch(2))
    selection.choose()
    fresh.load_state_dict(selection.state_dict())
    assert fresh.is_fitted and torch.equal(fresh.chosen, selection.chosen)


def test_sites_choose_together() -> None:
    sites = []
    for seed in range(2):
        network = nn.ModuleDict({"selection": ChannelSelection(5, 2)})
        anomalous, clean, mask = _batch(2, seed)
        if seed:  # at this site channel 0 shows it best, and channel 3 not at all
            anomalous[:, 0], anomalous[:, 3] = anomalous[:, 3].clone(), clean[:, 3]
            anomalous[:, 3, 3, 3] += 1
        network["selection"].observe(anomalous, clean, mask)  # type: ignore[operator]
        network["selection"].choose()  # type: ignore[operator]
        sites.append(network)
    merged = nn.ModuleDict({"selection": ChannelSelection(5, 2)})
    merge_replies(merged, [Reply(f"site {i}", 3, dict(site.state_dict())) for i, site in enumerate(sites)])
    total = sites[0].state_dict()["selection.losses"] + sites[1].state_dict()["selection.losses"]
    torch.testing.assert_close(merged.state_dict()["selection.losses"], total)
    assert merged.state_dict()["selection.chosen"].tolist() == sorted(total.argsort()[:2].tolist())
