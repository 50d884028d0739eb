"""The autoencoder in MedIAnomaly's form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.methods.ae import ConvAE


def _ae(spatial_dims: int = 2, **arguments: int | str | float | tuple[int, ...]) -> ConvAE:
    torch.manual_seed(0)
    return ConvAE(spatial_dims, **{"hidden_size": 32, **arguments})  # type: ignore[arg-type]


def _scan(*size: int, batch: int = 2, channels: int = 1) -> Tensor:
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("image_size", "size", "channels"), [(32, (32, 32), 1), ((32, 48), (32, 48), 3), ((16, 32, 16), (16, 32, 16), 2)]
)
def test_shapes(image_size: int | tuple[int, ...], size: tuple[int, ...], channels: int) -> None:
    network, image = _ae(len(size), in_channels=channels, image_size=image_size), _scan(*size, channels=channels)
    assert network(image).shape == image.shape
    with torch.no_grad():
        assert network.eval()(image).shape == (2, 1, *size)


def test_layers_are_medianomalys() -> None:
    network = ConvAE(2, 1, 64)
    down = [m for m in network.encoder if isinstance(m, nn.Conv2d)]
    up = [m for m in network.decoder if isinstance(m, nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels) for m in down] == [(1, 16), (16, 32), (32, 64), (64, 64)]
    assert [(m.in_channels, m.out_channels) for m in up] == [(64, 64), (64, 32), (32, 16), (16, 1)]
    for conv in (*down, *up):
        assert conv.kernel_size == (4, 4) and conv.stride == (2, 2) and conv.padding == (1, 1) and conv.bias is None
    dense = [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]
    assert dense == [(64 * 4 * 4, 1024), (1024, 16), (16, 1024), (1024, 64 * 4 * 4)]
    assert sum(isinstance(m, nn.ReLU) for m in network.encoder) == 4
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.decoder) == 3


def test_reconstruction_is_the_layers_one_after_the_other_on_minus_1_to_1() -> None:
    network, x = _ae(image_size=32).eval(), _scan(32, 32)
    network_in: list[Tensor] = []
    network.encoder.register_forward_pre_hook(lambda _, arguments: network_in.append(arguments[0]))
    with torch.no_grad():
        actual = network.reconstruct(x)
        out = network.encoder(2 * x - 1)
        out = network.expansion(network.bottleneck(out)).reshape(2, 64, 2, 2)
        expected = (network.decoder(out) + 1) / 2
    torch.testing.assert_close(network_in[0], 2 * x - 1)
    torch.testing.assert_close(actual, expected)


def test_output_is_linear() -> None:
    network, image = _ae(image_size=32).eval(), _scan(32, 32)
    last = network.decoder[-1]
    assert isinstance(last, nn.ConvTranspose2d)
    with torch.no_grad():
        before = network.reconstruct(image) * 2 - 1
        last.weight *= 10_000
        after = network.reconstruct(image) * 2 - 1
    assert float(after.min()) < -1 and float(after.max()) > 1
    # before, 1 was added to numbers a hundred times smaller
    torch.testing.assert_close(after, 10_000 * before, rtol=1e-3, atol=1e-2)


def test_the_latent_is_all_that_reaches_the_decoder() -> None:
    network = _ae(image_size=32, latent_size=3).eval()
    latents: list[Tensor] = []
    network.bottleneck.register_forward_hook(lambda _, __, output: latents.append(output))
    with torch.no_grad():
        network.reconstruct(_scan(32, 32))
    assert latents[0].shape == (2, 3)


@pytest.mark.parametrize("size", [(32, 32), (16, 16, 16)])
@pytest.mark.parametrize("residual", ["l1", "l2"])
def test_map_is_the_residual_averaged_over_channels_and_its_mean_the_score(
    size: tuple[int, ...], residual: str
) -> None:
    network = _ae(len(size), in_channels=3, image_size=size, residual=residual).eval()
    image = _scan(*size, channels=3)
    with torch.no_grad():
        anomaly_map, difference = network(image), network.reconstruct(image) - image
    expected = sum((difference[:, c].abs() if residual == "l1" else difference[:, c] ** 2) for c in range(3)) / 3
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(anomaly_map[:, 0], expected)
    torch.testing.assert_close(network.pool(anomaly_map), expected.flatten(1).mean(1))


def test_ssim_map_is_zero_for_a_perfect_reconstruction_only() -> None:
    network, image = _ae(image_size=32, residual="ssim").eval(), _scan(32, 32)
    with torch.no_grad():
        assert float(network(image).mean()) > 0.1
        network.reconstruct = lambda image: image  # type: ignore[method-assign]
        assert float(network(image).abs().max()) < 1e-5


@pytest.mark.parametrize(("dims", "size"), [(2, 60), (2, (64, 40)), (3, (32, 32, 24))])
def test_sizes_the_blocks_cannot_halve_are_refused(dims: int, size: int | tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"halves its image 4 times: image_size \(expected a multiple of 16 along"):
        ConvAE(dims, image_size=size)


def test_fewer_blocks_need_smaller_multiples() -> None:
    network = _ae(image_size=12, channels=(4, 8)).eval()
    with torch.no_grad():
        assert network(_scan(12, 12)).shape == (2, 1, 12, 12)


def test_unknown_residual() -> None:
    with pytest.raises(ValueError, match="residual must be one of.*got 'l3'"):
        ConvAE(residual="l3")


@pytest.mark.parametrize("size", [(32, 32), (16, 16, 16)])
@pytest.mark.parametrize("residual", ["l1", "l2", "ssim"])
def test_scripted_it_gives_the_same_map(size: tuple[int, ...], residual: str) -> None:
    network, image = _ae(len(size), image_size=size, residual=residual).eval(), _scan(*size)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)


def test_a_map_does_not_depend_on_batch_mates() -> None:
    network, image = _ae(image_size=32), _scan(32, 32, batch=3)
    network(image)  # statistics of its own
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(network(image)[1:2], network(image[1:2]), rtol=1e-5, atol=1e-6)


def test_it_learns_what_it_sees() -> None:
    network, image = _ae(image_size=16, channels=(8, 8)), _scan(16, 16, batch=4)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = functional.mse_loss(network(image), image)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


# variants


def test_weights_are_called_as_in_models_of_the_first_version() -> None:
    names = [name for name, _ in ConvAE().named_parameters()]
    assert names == [
        *(f"encoder.{index}.{kind}" for index in (0, 1, 3, 4, 6, 7, 9, 10) for kind in _kinds(index, 3)),
        *("bottleneck.0.weight", "bottleneck.0.bias", "bottleneck.1.weight", "bottleneck.1.bias"),
        *("bottleneck.3.weight", "bottleneck.3.bias"),
        *("expansion.0.weight", "expansion.0.bias", "expansion.1.weight", "expansion.1.bias"),
        *("expansion.3.weight", "expansion.3.bias"),
        *(f"decoder.{index}.{kind}" for index in (0, 1, 3, 4, 6, 7, 9) for kind in _kinds(index, 3)),
    ]


def _kinds(index: int, step: int) -> tuple[str, ...]:
    return ("weight",) if index % step == 0 else ("weight", "bias")


@pytest.mark.parametrize("size", [(32, 32), (16, 16, 16)])
def test_a_spatial_latent_keeps_its_place(size: tuple[int, ...]) -> None:
    network = _ae(len(size), image_size=size, bottleneck="spatial", channels=(4, 8), latent_size=3).eval()
    assert not any(isinstance(module, nn.Linear) for module in network.modules())
    image = _scan(*size, batch=1)
    with torch.no_grad():
        latent = network.encode(image)
        assert latent.shape == (1, 3, *[edge // 4 for edge in size])
        image[(0, 0, *[0] * len(size))] += 1
        changed = (network.encode(image) != latent).any(1)[0]
    far = tuple(-1 for _ in size)
    assert bool(changed[tuple(0 for _ in size)]) and not bool(changed[far])


def test_boxes_are_painted_over_in_training_alone_and_the_whole_scan_is_the_target() -> None:
    network, image = _ae(image_size=32, mask_input="one"), _scan(32, 32)
    given: list[Tensor] = []
    network.encoder.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    network(image)
    assert int((given[0] != 2 * image - 1).sum()) == 2 * 5 * 5
    network.eval()
    with torch.no_grad():
        network(image)
    torch.testing.assert_close(given[1], 2 * image - 1)


@pytest.mark.parametrize("residual", ["l1", "l2"])
def test_gradient_map_is_how_the_mean_residual_changes(residual: str) -> None:
    network = _ae(image_size=16, residual=residual, map="gradient", in_channels=2).double().eval()
    image = _scan(16, 16, batch=2, channels=2).double()

    def value(scan: Tensor) -> float:
        difference = network.reconstruct(scan) - scan
        return float((difference.abs() if residual == "l1" else difference.square()).mean())

    with torch.no_grad():
        anomaly_map = network(image)
        for row, column in ((2, 3), (9, 12)):
            expected = 0.0
            for channel in range(2):
                more, less = image[:1].clone(), image[:1].clone()
                more[0, channel, row, column] += 1e-6
                less[0, channel, row, column] -= 1e-6
                expected += abs(value(more) - value(less)) / 2e-6 / 2
            assert float(anomaly_map[0, 0, row, column]) == pytest.approx(expected, rel=1e-4)
        torch.testing.assert_close(anomaly_map[1:], network(image[1:]))


def test_unknown_variants() -> None:
    for arguments in ({"map": "grad"}, {"bottleneck": "memory"}, {"mask_input": "all"}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            _ae(**arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no bottleneck: latent_size"):
        _ae(image_size=16, latent_size=65)


JUDGES = ["pathway", "statistics", "code", "code_errors"]


def _judged(spatial_dims: int, score: str, image_size: int = 16, detector: str = "mahalanobis") -> ConvAE:
    network = _ae(
        spatial_dims, image_size=image_size, channels=(4, 8), latent_size=3, score=score, detector=detector
    ).eval()
    for batch in _scan(*[image_size] * spatial_dims, batch=24).split(5):
        network.collect(batch)
    network.fit()
    return network


def _plain_statistics(values: Tensor) -> list[float]:
    ordered = values.flatten().double().sort(descending=True).values
    return [float(ordered.mean()), float(ordered.std(correction=0)), float(ordered[: int(0.05 * len(ordered))].mean())]


@pytest.mark.parametrize("spatial_dims", [2, 3])
@torch.no_grad()
def test_what_of_a_reconstruction_is_judged(spatial_dims: int) -> None:
    image = _scan(*[16] * spatial_dims, batch=2) * 0.7
    network = _judged(spatial_dims, "pathway")
    code = network.encode(image)
    rebuilt = network.decode(code)

    def coarse(one: Tensor) -> Tensor:
        cells = one
        for axis in range(1, one.dim()):
            cells = torch.stack([part.mean(axis) for part in cells.chunk(4, axis)], axis)
        return cells.flatten()

    layers = list(network.encoder)
    blocks = [nn.Sequential(*layers[:3]), nn.Sequential(*layers[3:])]
    rows = []
    for scan, other in zip(image, rebuilt, strict=True):
        a, b, row = scan[None] * 2 - 1, other[None] * 2 - 1, []
        for block in blocks:
            a, b = block(a), block(b)
            row.append(coarse((b - a)[0]))
        rows.append(torch.cat(row))
    torch.testing.assert_close(network.judged_vectors(image), torch.stack(rows), rtol=1e-4, atol=1e-5)
    assert len(rows[0]) == (4 + 8) * 4**spatial_dims

    network = _judged(spatial_dims, "statistics")
    expected = []
    for scan, other in zip(image, rebuilt, strict=True):
        structural = network.judge.structural(other[None], scan[None])
        expected.append(_plain_statistics((scan - other).abs()) + _plain_statistics(structural))
    torch.testing.assert_close(
        network.judged_vectors(image).exp().double(), torch.tensor(expected).double(), rtol=1e-4, atol=0
    )

    assert torch.equal(_judged(spatial_dims, "code").judged_vectors(image), code)
    found = _judged(spatial_dims, "code_errors").judged_vectors(image)
    assert torch.equal(found[:, :3], code)
    x, y = image.flatten(1).double(), rebuilt.flatten(1).double()
    relative = (x - y).norm(dim=1) / x.norm(dim=1)
    torch.testing.assert_close(found[:, 3:].double(), torch.stack([relative, functional.cosine_similarity(x, y)], 1))


@pytest.mark.parametrize("detector", ["mahalanobis", "gmm"])
@pytest.mark.parametrize("score", JUDGES)
@torch.no_grad()
def test_map_pools_to_the_detectors_score(score: str, detector: str) -> None:
    if detector == "gmm":
        with pytest.raises(InputError, match="too few normal scans for so many clusters"):
            _judged(2, score, detector=detector)
        detector = "knn"
    network, image = _judged(2, score, detector=detector), _scan(16, 16, batch=3) * 0.7
    anomaly_map = network(image)
    assert anomaly_map.shape == image.shape and anomaly_map.dtype == torch.float32
    expected = network.judge.detector(network.judged_vectors(image))
    torch.testing.assert_close(network.pool(anomaly_map), expected, rtol=1e-4, atol=1e-6)
    residual = _ae(image_size=16, channels=(4, 8), latent_size=3).eval()(image)
    ratio = anomaly_map / (residual + 1e-6)
    assert float((ratio.flatten(1).std(1) / ratio.flatten(1).mean(1)).max()) < 1e-3, "the map shows the residual"
    other = _ae(image_size=16, channels=(4, 8), latent_size=3, score=score, detector=detector).eval()
    assert torch.equal(other(image), residual), "before it is fitted"
    other.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(other(image), anomaly_map)
    torch.testing.assert_close(torch.jit.script(network)(image), anomaly_map)
    torch.testing.assert_close(torch.export.export(network, (image,)).module()(image), anomaly_map)


@torch.no_grad()
def test_a_reconstruction_that_is_too_good_is_abnormal_too() -> None:
    """What the mean residual cannot see, from either side of the normal ones."""
    network = _judged(2, "statistics")
    grey = torch.full((1, 1, 16, 16), 0.5)
    plain = _ae(image_size=16, channels=(4, 8), latent_size=3).eval()
    normal = _scan(16, 16, batch=24)
    assert float(plain.pool(plain(grey))) < float(plain.pool(plain(normal)).min())
    assert float(network.pool(network(grey))) > float(network.pool(network(normal)).max())


def test_what_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="score must be one of"):
        _ae(score="density")
    with pytest.raises(ValueError, match="detector must be one of"):
        _ae(score="code", detector="svm")


# AE-U


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_uncertainty_divides_squared_residuals_and_is_taught_by_the_likelihood(spatial_dims: int) -> None:
    size = (16,) * spatial_dims
    network, x = _ae(spatial_dims, image_size=16, in_channels=2, residual="uncertainty"), _scan(*size, channels=2)
    out = network(x)
    assert out.shape == (2, 4, *size)
    network.eval()
    with torch.no_grad():
        raw = network.decoder(network.expansion(network.encode(x)))
        mean, log_variance = raw[:, :2], raw[:, 2:]
        residual = (mean - (2 * x - 1)).square() / log_variance.exp()
        torch.testing.assert_close(network(x), residual.mean(1, keepdim=True), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network.reconstruct(x), (mean + 1) / 2)
        network.difference.train()
        loss = network.difference(network.compared(x), x).mean()
    torch.testing.assert_close(loss, (residual + log_variance).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_uncertainty_learns_where_scans_differ() -> None:
    torch.manual_seed(0)
    # the left half is always the same, the right one noise that nothing can predict
    scans = torch.full((64, 1, 16, 16), 0.5)
    scans[..., 8:] += 0.2 * torch.randn(64, 1, 16, 8)
    network = _ae(image_size=16, residual="uncertainty", latent_size=2)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    for _ in range(150):
        optimizer.zero_grad()
        network.difference(network(scans), scans).mean().backward()
        optimizer.step()
    network.eval()
    changed = scans[:8].clone()
    changed[:, :, 4:8, 3:6] += 0.2
    with torch.no_grad():
        log_variance = network.compared(scans)[:, 1]
        assert log_variance[..., 10:].mean() > log_variance[..., 1:6].mean() + 2
        found = network(changed)
    assert found[:, 0, 4:8, 3:6].mean() > 3 * found[..., 10:].mean()
