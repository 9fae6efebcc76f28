"""What a handful of repetitions says: the median, and an interval for it that assumes nothing about their distribution.

The interval is that of the sign test: between the k-th lowest and the k-th highest of n values the median of whatever they
come from lies with a probability that only n and k decide. A bootstrap of so few values would look narrower and hold less often.
"""

from collections.abc import Sequence
from math import comb
from statistics import median

from msgspec import Struct

WANTED_COVERAGE = 0.95
#: Fewer values bracket the median too seldom for an interval.
MIN_VALUES = 4


class MedianInterval(Struct, frozen=True):
    """``[low, high]`` has the median in it with a probability of ``coverage``."""

    low: float
    high: float
    coverage: float


class Estimate(Struct, frozen=True):
    """The median of some values, with its interval if there are enough of them."""

    median: float
    interval: MedianInterval | None = None


def estimate(values: Sequence[float]) -> Estimate | None:
    """Of at least one value, else ``None``."""
    return Estimate(median(values), median_interval(values)) if values else None


def median_interval(values: Sequence[float]) -> MedianInterval | None:
    """The narrowest interval that covers the median in 95 % of all cases, or the whole range with what that covers."""
    n = len(values)
    if n < MIN_VALUES:
        return None
    k, coverage = 1, _coverage(n, 1)
    while 2 * (k + 1) <= n and _coverage(n, k + 1) >= WANTED_COVERAGE:
        k += 1
        coverage = _coverage(n, k)
    ordered = sorted(values)
    return MedianInterval(ordered[k - 1], ordered[n - k], round(coverage, 4))


def _coverage(n: int, k: int) -> float:
    """That the median of n values lies between the k-th lowest and the k-th highest: heads and tails decide."""
    return 1 - 2 * sum(comb(n, i) for i in range(k)) / 2**n


def ratios(values: dict[int, float], references: dict[int, float]) -> list[float]:
    """Value over reference for each repetition that has both: what the machine did meanwhile drops out."""
    return [values[i] / references[i] for i in sorted(values) if references.get(i)]
