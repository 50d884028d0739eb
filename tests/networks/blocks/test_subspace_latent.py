"""The robust subspace recovery layer against its formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medad_plugins.networks.blocks.subspace_latent import SubspaceLatent


def test_projection_and_penalty_are_the_papers() -> None:
    torch.manual_seed(0)
    layer = SubspaceLatent([2, 3, 2], 4)
    assert torch.allclose(layer.axes.t() @ layer.axes, torch.eye(4), atol=1e-5), "begins orthonormal"
    layer.axes.data = torch.randn(12, 4)
    features = torch.randn(5, 2, 3, 2)
    y, a = features.flatten(1).double().numpy(), layer.axes.detach().double().numpy()
    z = y @ a
    with torch.no_grad():
        code, terms = layer.penalised(features)
    np.testing.assert_allclose(code.numpy(), z / np.linalg.norm(z, axis=1, keepdims=True), rtol=1e-4, atol=1e-5)
    assert torch.equal(layer(features), code)
    outside = [np.linalg.norm(row - a @ (a.T @ row)) / np.sqrt(12) for row in y]
    skewed = np.mean((a.T @ a - np.eye(4)) ** 2)
    assert float(terms["latent"]) == pytest.approx(np.mean(outside) + skewed, rel=1e-4)


def test_an_outlier_does_not_turn_the_axis() -> None:
    """Nineteen points on one line and one far off it: the mean length finds the line, a mean square would not."""
    torch.manual_seed(0)
    features = torch.zeros(20, 2)
    features[:19, 0], features[19, 1] = torch.linspace(-1, 1, 19), 6.0
    layer = SubspaceLatent([2], 1)
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        layer.penalised(features)[1]["latent"].backward()
        optimizer.step()
    axis = layer.axes.detach()[:, 0]
    # squares would take the outlier's direction: 36 against 6 of all the others together
    assert float(axis[0].abs() / axis.norm()) > 0.98
