"""Sparse patches: codes against scikit-learn's, maps by hand, and that what is unlike normal patches stands out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.decomposition import sparse_encode
from torch import Tensor

from medad_plugins.data.sample_cohort import generate_case
from medad_plugins.errors import InputError
from medad_plugins.methods.sparse_patches import SparsePatches
from medad_plugins.networks.fitted.sparse_coding import SparseCoding, sparse_codes


def _vectors(count: int, seed: int) -> Tensor:
    """Sparse sums of ten directions, and a little noise."""
    generator = torch.Generator().manual_seed(seed)
    atoms = torch.linalg.qr(torch.randn(16, 10, generator=torch.Generator().manual_seed(9)))[0].t()
    codes = torch.randn(count, 10, generator=generator) * (torch.rand(count, 10, generator=generator) < 0.2)
    return codes @ atoms + 0.02 * torch.randn(count, 16, generator=generator)


def test_codes_are_those_of_the_lasso() -> None:
    vectors = _vectors(200, 0)
    head = SparseCoding(12, 0.3)
    head.fit(vectors)
    x = vectors / head.scale
    torch.testing.assert_close(torch.linalg.vector_norm(head.dictionary, dim=1).amax(), torch.tensor(1.0))
    expected = sparse_encode(x.double().numpy(), head.dictionary.double().numpy(), algorithm="lasso_cd", alpha=0.3)
    found = sparse_codes(x, head.dictionary, 0.3, head.rate, 200)
    np.testing.assert_allclose(found.numpy(), expected, atol=5e-3)
    assert float((found == 0).float().mean()) > 0.5


@pytest.mark.parametrize("measure", ["residual", "objective", "joint"])
def test_what_is_no_sparse_sum_scores_high(measure: str) -> None:
    head = SparseCoding(12, 0.3, measure)
    head.fit(_vectors(600, 0))
    normal, others = head(_vectors(100, 1)), head(torch.randn(100, 16) * _vectors(600, 0).std())
    assert float(others.median()) > float(normal.quantile(0.9))
    x = _vectors(50, 2)
    codes = sparse_codes(x / head.scale, head.dictionary, 0.3, head.rate, head.steps)
    rest = x / head.scale - codes @ head.dictionary
    if measure == "residual":
        torch.testing.assert_close(head(x), rest.square().mean(1).sqrt() * head.scale)
    if measure == "objective":
        value = rest.square().mean(1) / 2 + 0.3 * codes.abs().mean(1) * 12 / 16
        torch.testing.assert_close(head(x), value.sqrt() * head.scale)


def test_more_atoms_than_vectors_are_refused() -> None:
    with pytest.raises(InputError, match="fewer normal vectors than atoms: --atoms 30"):
        SparseCoding(30).fit(_vectors(20, 0))
    with pytest.raises(ValueError, match="measure must be"):
        SparseCoding(3, measure="size")


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_patches_are_cut_as_they_lie(spatial_dims: int) -> None:
    network = SparsePatches(spatial_dims, 2, patch=4, stride=2, place=0.5, centred=False)
    image = torch.rand(2, 2, *[8] * spatial_dims)
    patches = network.patches(image)
    assert patches.shape == (2, *[3] * spatial_dims, 2 * 4**spatial_dims)
    first, corner = patches, image
    for axis in range(spatial_dims):
        first, corner = first.select(1, 1), corner.narrow(2 + axis, 2, 4)
    torch.testing.assert_close(first, corner.flatten(1))
    vectors = network.vectors(patches).reshape(*patches.shape[:-1], -1)
    assert vectors[0].flatten(0, -2)[0, -spatial_dims:].tolist() == [-0.5] * spatial_dims
    assert vectors[0].flatten(0, -2)[-1, -spatial_dims:].tolist() == [0.5] * spatial_dims


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_pixel_has_the_mean_of_the_patches_that_it_lies_in(spatial_dims: int) -> None:
    network = SparsePatches(spatial_dims, patch=4, stride=3)
    values = torch.rand(2, 1, *[2] * spatial_dims)
    found = network._spread(values, [8] * spatial_dims)
    total, count = torch.zeros(2, 1, *[8] * spatial_dims), torch.zeros([8] * spatial_dims)
    for number, place in enumerate(itertools.product(range(2), repeat=spatial_dims)):
        box = tuple(slice(3 * index, 3 * index + 4) for index in place)
        lies = torch.zeros([8] * spatial_dims)
        lies[box] = 1
        total += lies * values.flatten(2)[:, :, number].reshape([2, 1] + [1] * spatial_dims)
        count += lies
    torch.testing.assert_close(found * (count > 0), total / count.clamp_min(1))
    torch.testing.assert_close(found[..., 7], found[..., 6])


def test_the_score_is_the_pooled_map_of_the_patches() -> None:
    network = SparsePatches(patch=4, stride=2, atoms=20, measure="residual", reduction="max")
    heads = torch.stack([torch.from_numpy(generate_case(2, 32, (3, index))[0])[None] for index in range(8)])
    network.collect(heads[:4])
    network.collect(heads[4:])
    network.fit()
    network.eval()
    found = network(heads[:2])
    patches = network.patches(heads[:2])
    centred = patches - patches.mean(-1, keepdim=True)
    values = (network.detector.head(centred.flatten(0, 2)) * network.seen(patches)).reshape(2, -1)
    torch.testing.assert_close(network.pool(found), values.amax(1))


def test_air_teaches_nothing_and_large_patches_are_refused() -> None:
    network = SparsePatches(patch=4, stride=4)
    image = torch.zeros(1, 1, 16, 16)
    image[..., 8:, 8:] = torch.rand(8, 8)
    network.collect(image)
    assert 4 <= len(network.detector.vectors) <= 9
    with pytest.raises(InputError, match="patches are larger than the scans: --patch 4"):
        network.collect(torch.rand(1, 1, 3, 16))


@pytest.mark.parametrize("measure", ["residual", "joint"])
def test_air_is_not_abnormal(measure: str) -> None:
    heads = torch.stack([torch.from_numpy(generate_case(2, 32, (3, index))[0])[None] for index in range(8)])
    heads[..., :10] = 0.01 * torch.rand(8, 1, 32, 10)
    network = SparsePatches(patch=4, stride=2, atoms=20, measure=measure, sigma=0)
    network.collect(heads)
    network.fit()
    found = network.eval()(heads[:2])
    assert float(found[..., :8].max()) < 1e-3 * float(found.max()), "of all flat patches none scores"


def test_it_finds_a_texture_that_no_normal_head_has() -> None:
    heads = torch.stack([torch.from_numpy(generate_case(2, 48, (5, index))[0])[None] for index in range(12)])
    network = SparsePatches(patch=6, stride=3, atoms=32, measure="residual")
    network.collect(heads[:10])
    network.fit()
    network.eval()
    sick = heads[10:].clone()
    stripes = 0.5 + 0.3 * (torch.arange(48) % 2 * 2 - 1)
    sick[..., 16:28, 16:28] = stripes[16:28]
    clean, changed = network(heads[10:]), network(sick)
    assert bool((network.pool(changed) > 1.3 * network.pool(clean)).all())
    inside = changed[..., 18:26, 18:26].mean()
    assert float(inside) > 2 * float(changed.mean())
