"""What a measured run notes beside its counters: table bytes over the racing time, and how long operations took."""

import time
from collections.abc import Sequence
from types import ModuleType

from ptstress.job import Measured
from ptstress.vocabulary import OPERATIONS

MAX_POINTS = 400


class Meter:
    """Notes for one run of ``duration_s``. The clock is the racing time: nothing moves while a burst is checked."""

    def __init__(self, engine: ModuleType, duration_s: float) -> None:
        self.engine = engine
        self.step_ns = duration_s * 1e9 / MAX_POINTS
        self.points: list[tuple[int, int]] = []
        self.race_ns = self.byte_ns = self.bytes = 0
        self.begin = self._clocks()

    def start(self, table_bytes: int) -> None:
        """Workers begin; ``table_bytes``: what there is now."""
        self.bytes = table_bytes
        self.points = self.points or [(0, table_bytes)]

    def after_burst(self, race_ns: int, samples: Sequence[tuple[int, int]]) -> None:
        """A burst has ended that raced for ``race_ns``. ``samples``: (ns since its begin, bytes), the last at its end."""
        before = 0
        for ns, table_bytes in samples:
            self.byte_ns += (ns - before) * (self.bytes + table_bytes) // 2
            before, self.bytes = ns, table_bytes
            if self.race_ns + ns >= self.points[-1][0] + self.step_ns:
                self.points.append((self.race_ns + ns, table_bytes))
        self.race_ns += race_ns

    def measured(self, counts) -> Measured:
        """All that was noted. ``counts``: the machine's ``latencies()``."""
        ticks, ns = (now - then for now, then in zip(self._clocks(), self.begin, strict=True))
        latency = {}
        for verb in OPERATIONS:
            buckets = counts[verb].nonzero()[0]
            if len(buckets):
                latency[verb.label] = [(int(bucket), int(counts[verb][bucket])) for bucket in buckets]
        return Measured(latency, ns / ticks, self.points, self.byte_ns)

    def _clocks(self) -> tuple[int, int]:
        """The clock of the stamps, and nanoseconds."""
        return self.engine.clock_pair()[0], time.monotonic_ns()
