"""Histograms of durations, log-linear as HdrHistogram's: up to some value each has a bucket, then each power of two has so many.

With ``bits`` a power of two has ``1 << bits`` buckets. The engine counts clock ticks with few of them
(``cy/check/latency.pxd``); here they become nanoseconds, in the buckets of an HdrHistogram of three digits.
"""

from collections.abc import Iterable

from ptstress.errors import UsageError

#: log2 of the buckets of a power of two: as the engine counts, and of an HdrHistogram with three significant digits.
TICK_BITS, NS_BITS = 7, 10
DIGITS = 3
#: The longest duration that a histogram tells from longer ones: one hour in nanoseconds.
HIGHEST_NS = 3_600_000_000_000


def bucket_of(value: int, bits: int = NS_BITS) -> int:
    """The bucket that a value is counted in."""
    shift = max(0, value.bit_length() - bits - 1)
    return (shift << bits) + (value >> shift)


def lowest_in(bucket: int, bits: int = NS_BITS) -> int:
    """The lowest value of a bucket."""
    shift = max(0, (bucket >> bits) - 1)
    return (bucket - (shift << bits)) << shift


def highest_in(bucket: int, bits: int = NS_BITS) -> int:
    """The highest value of a bucket."""
    return lowest_in(bucket + 1, bits) - 1


class Histogram:
    """Durations in nanoseconds. ``counts``: by bucket, those that are not zero."""

    def __init__(self, counts: dict[int, int] | None = None) -> None:
        self.counts = dict(counts or {})

    @classmethod
    def of_ticks(cls, pairs: Iterable[tuple[int, int]], ns_per_tick: float) -> "Histogram":
        """From (bucket, count) as the engine has them: each becomes the duration in its middle, 0.4 % off at most."""
        histogram = cls()
        for bucket, count in pairs:
            middle = (lowest_in(bucket, TICK_BITS) + highest_in(bucket, TICK_BITS)) / 2
            histogram.add(round(middle * ns_per_tick), count)
        return histogram

    def add(self, value_ns: int, count: int = 1) -> None:
        """Count a duration."""
        bucket = bucket_of(min(value_ns, HIGHEST_NS))
        self.counts[bucket] = self.counts.get(bucket, 0) + count

    def merge(self, other: "Histogram") -> None:
        """Add what another one counted."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count

    @property
    def total(self) -> int:
        """Durations counted."""
        return sum(self.counts.values())

    @property
    def max_ns(self) -> int:
        """The longest, as its bucket has it; 0 if there are none."""
        return highest_in(max(self.counts)) if self.counts else 0

    def percentile(self, percent: float) -> int | None:
        """The duration that ``percent`` of all do not exceed. ``None`` if too few were counted to tell it from the longest."""
        return self.percentiles([percent])[0]

    def percentiles(self, percents: Iterable[float]) -> list[int | None]:
        """As ``percentile``, of ascending ``percents`` in one pass."""
        total, seen, found = self.total, 0, []
        buckets = iter(sorted(self.counts.items()))
        bucket = 0
        for percent in percents:
            if not 0 <= percent < 100:
                raise UsageError(f"percentile {percent}: expected 0 or more, below 100")
            if total * (100 - percent) < 100 - 1e-6:
                found.append(None)
                continue
            while seen < max(1.0, total * percent / 100):
                bucket, count = next(buckets)
                seen += count
            found.append(highest_in(bucket))
        return found
