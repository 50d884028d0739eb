"""The alarm that may be looked at after every scan."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, norm

from medad_plugins.deployment.exchangeability import ExchangeabilityAlarm, _gains, _next_stakes

ALPHA = 0.05
DOUBLED = norm.isf(ALPHA) - norm.isf(2 * ALPHA)  # shift that makes one normal scan in ten exceed the limit of 1 in 20


def test_every_bet_is_fair() -> None:
    """Worth 1 on average over uniform p-values: by the midpoint rule, the tails of the steepest bets cut off."""
    grid = (np.arange(2_000_000) + 0.5) / 2_000_000
    assert _gains(grid, ALPHA).mean(axis=0) == pytest.approx(1, abs=2e-3)
    assert (_gains(grid[::1000], ALPHA) >= 0).all()


def test_p_values_of_exchangeable_values_are_uniform_and_independent() -> None:
    random = np.random.RandomState(0)
    alarm = ExchangeabilityAlarm(random.randn(40))
    p_values = np.array([alarm.update(value) for value in random.randn(3000)])
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(p_values[1:], p_values[:-1])[0, 1]) < 0.05


def test_ties_do_not_make_an_alarm() -> None:
    alarm = ExchangeabilityAlarm(np.zeros(30)).watch(np.zeros(500))
    assert alarm.first_above(1e-3) is None


def test_at_most_one_false_alarm_in_ten_thousand() -> None:
    """The p-values are uniform whatever is scored, so 10,000 streams of 300 scans are drawn as such."""
    random, runs = np.random.RandomState(0), 10_000
    bets = _gains(0.5, ALPHA).size
    stakes, highest = np.full((runs, bets), 1 / bets), np.zeros(runs)
    for _ in range(300):
        stakes = _next_stakes(stakes, _gains(random.uniform(size=runs), ALPHA))
        highest = np.maximum(highest, stakes.sum(axis=1))
    assert (highest >= 1e4).sum() <= 1
    assert (highest >= 100).mean() <= 0.01


@pytest.mark.parametrize(("shift", "within"), [(1.5, 30), (1.0, 60)])
def test_a_change_is_noticed(shift: float, within: int) -> None:
    delays = []
    for seed in range(20):
        random = np.random.RandomState(seed)
        alarm = ExchangeabilityAlarm(random.randn(200)).watch(random.randn(50)).watch(shift + random.randn(150))
        delays.append((alarm.first_above(1e-4) or 1000) - 50)
    assert 0 < np.median(delays) <= within, delays


def test_a_doubled_rate_is_noticed_in_time_with_a_notice() -> None:
    """Whose false-alarm rate is 1 in 100; what 100 scans tell does not suffice for 1 in 10,000, see the docs."""
    delays = []
    for seed in range(40):
        random = np.random.RandomState(seed)
        alarm = ExchangeabilityAlarm(random.randn(1000)).watch(DOUBLED + random.randn(400))
        delays.append(alarm.first_above(0.01) or 1000)
    assert np.median(delays) <= 150, sorted(delays)
