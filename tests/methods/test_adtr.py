"""ADTR: what makes it that, and that it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plain_resnet import varied_taps

from medad_plugins.losses import ResidualLoss
from medad_plugins.methods.adtr import ADTR


def test_what_makes_it_adtr() -> None:
    transformer = ADTR(2, 1, 256, "resnet18", "none").transformer
    assert not transformer.layerwise and transformer.neighbourhood == 0 and transformer.jitter.scale == 0
    assert [len(part) for part in (transformer.encoder, transformer.decoder, transformer.queries)] == [4, 4, 1]
    assert transformer.queries[0].queries.shape == (256, 256), "one query for each place, whatever the layer"


@pytest.mark.parametrize("size", [(48, 32), (32, 32, 32)])
@torch.no_grad()
def test_the_decoder_begins_with_the_query_and_asks_the_encoder(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = ADTR(len(size), 1, list(size), "resnet10", "none", width=8, heads=2, hidden=8, encoder_layers=1,
                   decoder_layers=2).eval()  # fmt: skip
    image = torch.rand(2, 1, *size)
    features = network.align(network.features(image))
    transformer: Any = network.transformer
    places = transformer.positions(list(features.shape[2:]))
    memory = transformer.encoder[0](transformer.inwards(features.flatten(2).transpose(1, 2)), places)
    x = transformer.queries[0].queries.expand(2, -1, -1)
    for layer in transformer.decoder:
        x = layer(x, x, memory, places, places)
    rebuilt = transformer.outwards(transformer.norm(x)).transpose(1, 2).reshape(features.shape)
    distance = (rebuilt - features).norm(dim=1, keepdim=True)
    expected = network.score(network.to_image(distance, image.shape[2:]))
    torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.costly
def test_it_learns_normal_features(tmp_path: Any) -> None:
    """What one scan has in one place, and no normal one, is rebuilt worse after a short training."""
    path = tmp_path / "resnet10.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    torch.manual_seed(0)
    network = ADTR(
        2, 1, 64, "resnet10", str(path), scaling="standard", width=32, heads=2, hidden=32, encoder_layers=1,
        decoder_layers=2, dropout=0.0,
    )  # fmt: skip
    normal = (torch.rand(1, 1, 64, 64) + 0.05 * torch.randn(12, 1, 64, 64)).clamp(0, 1)
    changed = normal[8:].clone()
    changed[:, :, 8:30, 34:56] = 1 - changed[:, :, 8:30, 34:56]

    def apart() -> float:
        network.eval()
        with torch.no_grad():
            return float(network.pool(network(changed)).min() / network.pool(network(normal[8:])).max())

    network.train()
    with torch.no_grad():
        network(normal[:8])
    before = apart()
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=2e-3)
    network.train()
    for _ in range(40):
        loss = ResidualLoss("l2")(network(normal[:8]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = apart()
    assert after > max(1.2, 1.2 * before), (before, after)
