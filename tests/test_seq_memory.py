"""Whether memory grows: like is compared with like, and a leak shows."""

from collections.abc import Iterable

import numpy as np
import pytest

from ptstress.memory import MAX_POINTS, Series, common_slope


def series(xs: Iterable[float], ys: Iterable[float]) -> Series:
    one = Series()
    for x, y in zip(xs, ys, strict=True):
        one.add(float(x), float(y))
    return one


def test_the_slope_is_common_to_what_starts_from_different_levels():
    hours = np.arange(10, 60) / 60
    assert common_slope([series(hours, level + 3.0 * hours) for level in (50.0, 180.0)]) == pytest.approx(3.0)
    assert common_slope([]) is None and common_slope([Series()]) is None and common_slope([series([1], [5])]) is None


def test_a_busy_machine_is_no_leak_and_a_leak_shows_beside_it():
    """Children that got little done need less memory: here a quarter of the slices, all of them early ones."""
    rng = np.random.default_rng(7)
    hours = np.array([0.2, 0.4, 0.6, 0.8])
    for leak in (0.0, 4.0):
        parts = []
        for level in rng.uniform(40, 95, 88):
            idle = level + leak * hours + rng.uniform(-0.5, 0.5, 4)
            idle[0] -= rng.choice([0.0, 9.0])
            parts.append(series(hours, idle))
        assert common_slope(parts) == pytest.approx(leak, abs=1.0)


def test_a_series_stays_small_and_keeps_its_slope():
    one = series(np.arange(100_000) / 3600, np.arange(100_000) / 1800)
    assert len(one.x) <= MAX_POINTS and one.seen == 100_000 and one.high == 99_999 / 1800
    assert one.x[-1] > 0.9 * 99_999 / 3600 and common_slope([one]) == pytest.approx(2.0)
