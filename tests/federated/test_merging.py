"""One network from what several sites made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.federated import Reply, merge_replies
from medad_plugins.networks import PatchGaussians
from medad_plugins.scorers import Calibration
from medad_plugins.scorers.fitted import FittedModule


def _filled(module: nn.Module, value: float) -> dict[str, Tensor]:
    return {name: torch.full_like(tensor, value) for name, tensor in module.state_dict().items()}


def _reply(site: str, cases: int, **state: Tensor) -> Reply:
    return Reply(site, cases, state)


def test_parameters_and_running_statistics_are_weighted_by_cases() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    one, other = _filled(network, 1.0), _filled(network, 5.0)
    merge_replies(network, [Reply("a", 3, one), Reply("b", 1, other)])
    for name, value in network.state_dict().items():
        # 3/4 of 1 and 1/4 of 5; of the batches counted the highest number
        expected = 5.0 if name.endswith("num_batches_tracked") else 2.0
        torch.testing.assert_close(value, torch.full_like(value, expected))


def test_one_step_at_each_site_is_one_step_on_all_cases() -> None:
    torch.manual_seed(0)
    network, images = nn.Linear(4, 3).double(), torch.rand(8, 4, dtype=torch.float64)

    def step(cases: Tensor) -> dict[str, Tensor]:
        copy = nn.Linear(4, 3).double()
        copy.load_state_dict(network.state_dict())
        optimizer = torch.optim.SGD(copy.parameters(), lr=0.1)
        copy(cases).square().mean().backward()
        optimizer.step()
        return {name: value.detach() for name, value in copy.state_dict().items()}

    pooled = step(images)
    merge_replies(network, [Reply("a", 3, step(images[:3])), Reply("b", 5, step(images[3:]))])
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, pooled[name], rtol=1e-12, atol=1e-12)


def test_what_is_equal_everywhere_or_was_not_sent_stays_bit_for_bit() -> None:
    network = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    same = {name: value for name, value in before.items() if name.startswith("0")}
    merge_replies(network, [Reply("a", 3, same), Reply("b", 7, {})])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_one_site_did_not_change_counts_as_it_was_sent() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 4.0)
    merge_replies(network, [_reply("a", 1, weight=torch.tensor([[0.0]])), _reply("b", 3)])
    assert network.weight.item() == 3.0


# fitted state


def _gaussians(patches: Tensor) -> tuple[PatchGaussians, dict[str, Tensor]]:
    collected = PatchGaussians()
    collected.collect(patches)
    return collected, collected.state_dict()


def test_moments_of_unequal_sites_give_the_pooled_gaussians() -> None:
    patches = torch.rand(9, 4, 3, generator=torch.Generator().manual_seed(1))
    pooled, _ = _gaussians(patches)
    pooled.fit()
    merged = PatchGaussians()
    merge_replies(merged, [Reply("a", 2, _gaussians(patches[:2])[1]), Reply("b", 7, _gaussians(patches[2:])[1])])
    assert int(merged.count) == 9
    merged.fit()
    torch.testing.assert_close(merged.mean, pooled.mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(merged.whitening, pooled.whitening, rtol=1e-5, atol=1e-6)


def test_a_site_without_cases_adds_nothing() -> None:
    patches = torch.rand(4, 2, 2)
    merged = PatchGaussians()
    merge_replies(merged, [Reply("a", 0, {}), Reply("b", 4, _gaussians(patches)[1])])
    torch.testing.assert_close(merged.moment_1, patches.double().sum(0))


def test_sums_that_nobody_added_to_are_not_added_up_again() -> None:
    network = nn.ModuleDict({"gaussians": _gaussians(torch.rand(4, 2, 2))[0], "head": nn.Linear(1, 1)})
    merge_replies(network, [Reply("a", 1, {"head.bias": torch.ones(1)}), Reply("b", 1, {})])
    assert int(network.get_buffer("gaussians.count")) == 4


class Bank(FittedModule):
    """Keeps a few of its entries, the largest."""

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        self.size = size
        self.bank: Tensor = nn.Buffer(torch.empty(0, 1))

    def united_buffers(self) -> tuple[str, ...]:
        return ("bank",)

    def after_merge(self) -> None:
        self.bank = self.bank.sort(dim=0, descending=True).values[: self.size]


def test_banks_lie_together_and_are_selected_from_again() -> None:
    network = nn.Sequential(Bank())
    banks = {"a": [[9.0], [1.0], [0.0]], "b": [[7.0], [8.0]]}
    merge_replies(network, [Reply(site, 1, {"0.bank": torch.tensor(bank)}) for site, bank in banks.items()])
    assert network.state_dict()["0.bank"].flatten().tolist() == [9.0, 8.0, 7.0]


class Widest(FittedModule):
    """Merges in a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.low: Tensor = nn.Buffer(torch.zeros(()))
        self.scale: Tensor = nn.Buffer(torch.ones(()))

    def merge_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {"low": torch.stack([state["low"] for state in states]).amin(0)}


def test_a_module_names_its_own_merge_and_leaves_the_rest_to_the_average() -> None:
    network = Widest()
    replies = [
        _reply("a", 1, low=torch.tensor(-2.0), scale=torch.tensor(2.0)),
        _reply("b", 3, low=torch.tensor(5.0), scale=torch.tensor(6.0)),
    ]
    merge_replies(network, replies)
    assert (network.low.item(), network.scale.item()) == (-2.0, 5.0)


# calibration


def _calibration(scores: Tensor, pixels: Tensor) -> dict[str, Tensor]:
    fitted = Calibration()
    fitted.fit(scores, pixels)
    return fitted.state_dict()


def _merged(*sites: tuple[Tensor, Tensor]) -> Calibration:
    merged = Calibration()
    replies = [Reply(str(i), len(site[0]), _calibration(*site)) for i, site in enumerate(sites)]
    merge_replies(merged, replies)
    return merged


def test_reference_scores_are_those_of_all_sites_exactly() -> None:
    random = torch.Generator().manual_seed(3)
    scores, pixels = torch.rand(20, generator=random), torch.rand(2000, generator=random)
    merged = _merged((scores[:6], pixels[:600]), (scores[6:], pixels[600:]))
    assert torch.equal(merged.reference_scores, _calibration(scores, pixels)["reference_scores"])


def test_pixel_thresholds_keep_their_share_over_sites_that_differ() -> None:
    random = torch.Generator().manual_seed(4)
    # sites with other scanners: other levels and other spreads, 3 cases and 9
    one = torch.randn(300_000, generator=random).exp()
    other = 2 + 0.3 * torch.randn(900_000, generator=random)
    merged = _merged((torch.rand(3), one), (torch.rand(9), other))
    pixels = torch.cat([one, other])
    assert torch.equal(merged.pixel_quantiles, merged.pixel_quantiles.sort().values)
    for alpha in (0.5, 0.1, 0.05, 0.01, 0.001):
        share = float((pixels >= merged.pixel_threshold(alpha)).double().mean())
        assert alpha * 0.99 <= share <= alpha * 1.025


def test_equal_sites_have_the_thresholds_of_each() -> None:
    pixels = torch.rand(5000, generator=torch.Generator().manual_seed(5))
    alone = _calibration(torch.rand(4), pixels)
    for count in (1, 2, 3):
        merged = _merged(*[(torch.rand(4), pixels)] * count)
        assert torch.equal(merged.pixel_quantiles, alone["pixel_quantiles"])


# refusals


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"weight": torch.full((1, 1), torch.nan)}, "not finite: north"),
        ({"weight": torch.zeros(1, 1, dtype=torch.float64)}, "another type of number: north"),
        ({"weights": torch.zeros(1, 1)}, "what the network does not have: north"),
        ({"weight": torch.zeros(2, 1)}, "cannot be merged: weight of north, south"),
    ],
)
def test_what_does_not_fit_is_refused(state: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        merge_replies(nn.Linear(1, 1, bias=False), [Reply("north", 2, state), Reply("south", 2, {})])


def test_integers_that_differ_are_refused() -> None:
    network = nn.Module()
    network.register_buffer("selection", torch.tensor([1, 2]))
    other = _reply("south", 1, selection=torch.tensor([1, 3]))
    with pytest.raises(InputError, match="selection of north, south"):
        merge_replies(network, [_reply("north", 1), other])


def test_nothing_to_merge_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to merge"):
        merge_replies(nn.Linear(1, 1), [])
