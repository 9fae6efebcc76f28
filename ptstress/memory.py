"""Resident memory of a process, and whether it grows."""

from msgspec import Struct

KB_PER_MIB = 1024.0


def resident_kb(field: str = "VmRSS") -> int:
    """Resident memory of this process in kB: ``VmRSS`` now, ``VmHWM`` at its highest; 0 if unknown."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
            for line in stream:
                if line.startswith(field):
                    return int(line.split()[1])
    except (OSError, ValueError):
        return 0
    return 0


class Line(Struct):
    """Sums for a line through points, least squares. Keeps no points, so it grows with nothing.

    ``x`` in hours, ``y`` in MiB; ``low`` and ``high``: of ``y``.
    """

    n: int = 0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def add(self, x: float, y: float) -> None:
        """One more point."""
        self.low = min(self.low, y) if self.n else y
        self.high = max(self.high, y) if self.n else y
        self.n += 1
        self.x += x
        self.y += y
        self.xx += x * x
        self.xy += x * y

    @property
    def spread(self) -> float:
        """Sum of the squared distances of ``x`` from its mean."""
        return self.xx - self.x * self.x / self.n if self.n else 0.0

    @property
    def together(self) -> float:
        """Sum of the products of the distances of ``x`` and ``y`` from their means."""
        return self.xy - self.x * self.y / self.n if self.n else 0.0


def common_slope(lines: list[Line]) -> float | None:
    """MiB per hour that all lines grow by, each around a level of its own; ``None`` without two points on one."""
    spread = sum(line.spread for line in lines if line.n > 1)
    together = sum(line.together for line in lines if line.n > 1)
    return together / spread if spread > 1e-9 else None
