"""Resident memory of a process, and whether it grows."""

from collections.abc import Iterable
from itertools import combinations
from statistics import median

from msgspec import Struct

KB_PER_MIB = 1024.0
#: Points that a series keeps: enough for a slope, few enough to be compared each with each.
MAX_POINTS = 48


def resident_kb(field: str = "VmRSS", pid: int | str = "self") -> int:
    """Resident memory of a process in kB: ``VmRSS`` now, ``VmHWM`` at its highest; 0 if unknown."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as stream:
            for line in stream:
                if line.startswith(field):
                    return int(line.split()[1])
    except (OSError, ValueError):
        return 0
    return 0


class Series(Struct):
    """Measurements of one thing that can be compared with each other: ``x`` in hours, ``y`` in MiB.

    Of very many it keeps every ``every``-th, so that it grows with nothing. ``seen``: how many there were; ``high``: of ``y``.
    """

    x: list[float] = []
    y: list[float] = []
    every: int = 1
    seen: int = 0
    high: float = 0.0

    def add(self, x: float, y: float) -> None:
        """One more point."""
        self.high = max(self.high, y)
        if self.seen % self.every == 0:
            self.x.append(x)
            self.y.append(y)
        self.seen += 1
        if len(self.x) > MAX_POINTS:
            del self.x[1::2], self.y[1::2]
            self.every *= 2


def common_slope(series: Iterable[Series]) -> float | None:
    """MiB per hour that all grow by, each from a level of its own; ``None`` without two points of one.

    The median of the slopes between any two points of the same series (Theil and Sen): what a third of the
    points have for reasons of their own, such as a busy machine, does not move it.
    """
    slopes = [
        (y1 - y0) / (x1 - x0)
        for one in series
        for (x0, y0), (x1, y1) in combinations(zip(one.x, one.y, strict=True), 2)
        if x1 > x0
    ]
    return median(slopes) if slopes else None
