"""DeSTSeg by its paper: what each phase compares and trains, what the segmentation is given, and the map."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plain_resnet import vary_norms
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.methods.destseg import DeSTSeg, DeSTSegSegmentation, destseg_student


def _destseg(spatial_dims: int = 2, **others: Any) -> DeSTSeg:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"backbone": "resnet10", "weights": "none", "width": 6} | others
    network = DeSTSeg(spatial_dims, 1, **settings)
    vary_norms(network)
    return network


def _scan(*size: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _batch(*size: int) -> dict[str, Any]:
    clean, mask = _scan(*size), torch.zeros(2, 1, *size)
    mask[0, :, 8:24, 8:32] = 1
    mask[1, :, 30:33, 30:33] = 1  # of the size of a cell, and in no cell as a whole
    return {"image": torch.where(mask > 0, _scan(*size, seed=1), clean), "target": (clean, mask)}


def _distances(student: list[Tensor], teacher: list[Tensor]) -> list[Tensor]:
    pairs = zip(student, teacher, strict=True)
    return [1 - (s * t).sum(1) / (s.norm(dim=1) * t.norm(dim=1)).clamp_min(1e-8) for s, t in pairs]


def _trained(network: DeSTSeg, loss: Tensor) -> set[str]:
    loss.backward()
    return {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}


def test_the_student_of_the_image_learns_the_teacher_s_features_of_the_clean_one() -> None:
    network, batch = _destseg(), _batch(64, 64)
    network.eval()
    with torch.no_grad():
        features = network.student(batch["image"]), network.teacher(batch["target"][0])
        assert [tuple(f.shape[1:]) for f in features[0]] == [(64, 16, 16), (128, 8, 8), (256, 4, 4)]
        expected = sum(float(distance.mean()) for distance in _distances(*features))
    terms = destseg_student(network, batch)
    assert float(terms["cosine"].detach()) == pytest.approx(expected, rel=1e-5)
    assert _trained(network, terms["cosine"]) == {"student"}


def test_the_segmentation_s_loss_written_out() -> None:
    network, batch = _destseg().eval(), _batch(64, 64)
    terms = DeSTSegSegmentation()(network, batch)
    with torch.no_grad():
        p = torch.sigmoid(network.training_output(batch["image"]))
    mask = (functional.interpolate(batch["target"][1], (16, 16), mode="bilinear", align_corners=False) > 0.5).float()
    assert float(mask[0].sum()) == 4 * 6
    right = torch.where(mask > 0, p, 1 - p)
    assert float(terms["focal"].detach()) == pytest.approx(float((-((1 - right) ** 4) * right.log()).mean()), rel=1e-4)
    assert float(terms["absolute"].detach()) == pytest.approx(float((p - mask).abs().mean()), rel=1e-5)
    assert _trained(network, terms["focal"] + terms["absolute"]) == {"segmentation"}


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (33, 36, 40)])
def test_map_is_the_segmentation_of_the_negated_products(size: tuple[int, ...]) -> None:
    network, image = _destseg(len(size)).eval(), _scan(*size)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    with torch.no_grad():
        student, teacher = network.student(image), network.teacher(image)
        grid = teacher[0].shape[2:]
        parts = []
        for s, t in zip(student, teacher, strict=True):
            product = -s / s.norm(dim=1, keepdim=True) * (t / t.norm(dim=1, keepdim=True))
            torch.testing.assert_close(product.sum(1) + 1, _distances([s], [t])[0], rtol=1e-3, atol=1e-5)
            parts.append(functional.interpolate(product, grid, mode=mode, align_corners=False))
        probability = torch.sigmoid(network.segmentation.layers(torch.cat(parts, 1)))
        expected = functional.interpolate(probability, size, mode=mode, align_corners=False)
        torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-5)


def test_the_map_without_the_segmentation_is_the_product_of_distances() -> None:
    network, image = _destseg(score="distance").eval(), _scan(64, 64)
    with torch.no_grad():
        first, second, third = _distances(network.student(image), network.teacher(image))
        up = [
            functional.interpolate(d[:, None], first.shape[1:], mode="bilinear", align_corners=False)
            for d in (second, third)
        ]
        expected = functional.interpolate(first[:, None] * up[0] * up[1], (64, 64), mode="bilinear")
        torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-6)


def test_an_efficientnet_and_what_there_is_not() -> None:
    network = _destseg(backbone="efficientnet_lite0").eval()
    with torch.no_grad():
        assert network(_scan(64, 64)).shape == (2, 1, 64, 64)
    with pytest.raises(InputError, match="no such score"):
        _destseg(score="both")


@pytest.mark.slow
def test_it_learns_to_find_anomalies() -> None:
    torch.manual_seed(0)
    network = DeSTSeg(2, 1, "resnet10", "none", width=8, reduction=0.02)
    base = functional.interpolate(torch.rand(1, 1, 8, 8), (64, 64), mode="bilinear")
    scans = (base + 0.03 * torch.randn(12, 1, 64, 64)).clamp(0, 1)

    def with_anomalies(clean: Tensor) -> dict[str, Any]:
        mask = torch.zeros_like(clean)
        for case in mask:
            row, column = (int(place) for place in torch.randint(0, 40, (2,)))
            case[:, row : row + 20, column : column + 20] = 1
        return {"image": torch.where(mask > 0, torch.rand_like(clean), clean), "target": (clean, mask)}

    unseen = with_anomalies(scans[8:])

    def found() -> float:
        """AUROC of the pixels; the focal loss leaves probabilities near each other for long."""
        network.eval()
        with torch.no_grad():
            scores, truth = network(unseen["image"]), unseen["target"][1]
        return float(roc_auc_score(truth.flatten().numpy(), scores.flatten().numpy()))

    before = found()
    optimizers = [torch.optim.Adam(part.parameters(), 2e-3) for part in (network.student, network.segmentation)]
    for step in range(80):
        network.train()
        first = step < 20
        network.student.train(first)
        batch = with_anomalies(scans[:8])
        terms = destseg_student(network, batch) if first else DeSTSegSegmentation()(network, batch)
        optimizer = optimizers[0 if first else 1]
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    after = found()
    assert before < 0.7 and after > 0.85, (before, after)


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _destseg().eval(), _scan(64, 60)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-6)
