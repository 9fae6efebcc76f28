"""A map from page ranges to values."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Ranges:
    """Disjoint ranges ``[start, end)``, each with a value; setting one replaces what it covers."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.values: list = []

    def get(self, page: int):
        """The value at ``page``, or ``None``."""
        i = bisect_right(self._starts, page) - 1
        return self.values[i] if i >= 0 and page < self._ends[i] else None

    def overlapping(self, start: int, end: int) -> list:
        """Values of the ranges that meet ``[start, end)``, in order."""
        return self.values[self._covered(start, end)]

    def within(self, start: int, end: int) -> Iterator[tuple]:
        """``(start, end, value)`` of what lies in ``[start, end)``, cut there, in order."""
        for i in range(*self._covered(start, end).indices(len(self.values))):
            yield max(start, self._starts[i]), min(end, self._ends[i]), self.values[i]

    def set(self, start: int, end: int, value) -> None:
        """Give ``[start, end)`` this value. Nothing happens if it is empty."""
        if start >= end:
            return
        cover = self._covered(start, end)
        pieces = [(start, end, value)]
        if cover.start < cover.stop:
            first, last = cover.start, cover.stop - 1
            if self._starts[first] < start:
                pieces.insert(0, (self._starts[first], start, self.values[first]))
            if self._ends[last] > end:
                pieces.append((end, self._ends[last], self.values[last]))
        starts, ends, values = zip(*pieces, strict=True)
        self._starts[cover], self._ends[cover], self.values[cover] = starts, ends, values

    def __iter__(self) -> Iterator[tuple]:
        """``(start, end, value)`` in order."""
        return zip(self._starts, self._ends, self.values, strict=True)

    def _covered(self, start: int, end: int) -> slice:
        first = bisect_right(self._ends, start)
        return slice(first, max(first, bisect_left(self._starts, end)))
