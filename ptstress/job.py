"""What a parent asks of a child that runs an engine: one job, told as JSON. Imports no engine."""

from typing import Any

import numpy as np
from msgspec import Struct

from ptstress.operation import Op
from ptstress.vocabulary import Verb


def verbs_of(chain: str) -> tuple[Verb, ...]:
    """The verbs of ``write`` or ``write+dontneed``."""
    return tuple(Verb[verb.upper()] for verb in chain.split("+"))


class Mix(Struct, frozen=True):
    """What one synthetic worker does: weights by chain over pages ``[start, end)``, there and in the next ``mms - 1`` mms.

    A chain is a verb, or verbs with ``+`` between them: done one after the other at one place.
    ``places``: if there are any, each operation takes one of these ``[start, end)`` instead, all equally often.
    """

    weights: dict[str, int]
    start: int
    end: int
    unit: dict[str, int]
    aligned: bool
    mms: int = 1
    places: list[tuple[int, int]] = []

    def stream(self) -> tuple[str, dict[str, object]]:
        """The engine's form of this worker: verbs as numbers."""
        weights = {tuple(int(verb) for verb in verbs_of(chain)): n for chain, n in self.weights.items()}
        unit = {int(Verb[verb.upper()]): n for verb, n in self.unit.items()}
        return "mix", {
            "weights": weights, "start": self.start, "end": self.end, "unit": unit, "aligned": self.aligned, "mms": self.mms,
            "places": np.array(self.places, dtype=np.uint64),
        }


class Job(Struct, frozen=True):
    """One child's work. ``trace_workers`` threads replay ``trace``; one more runs each of ``mixes``.

    ``config`` is the engine's configuration, see ``Machine``; its geometry is a list of index bits. ``history``: file that
    gets the history of the last ``history_bursts`` bursts, empty for none. ``measure``: note what ``Measured`` has.
    """

    build: str
    config: dict[str, Any]
    workers: int
    ring_events: int
    duration_s: float
    seed: int
    setup: list[Op] = []
    closing: list[Op] = []
    mixes: list[Mix] = []
    trace: str | None = None
    trace_workers: int = 0
    burst_ms: int = 100
    parent: int = 0
    history: str = ""
    history_bursts: int = 0
    measure: bool = False


class Measured(Struct, frozen=True):
    """What a measured run notes beside its counters.

    ``latency``: by verb, (bucket, count) as ``cy/check/latency.pxd`` has them, in clock ticks of ``ns_per_tick``.
    ``table_bytes``: (racing time in nanoseconds, bytes), some of the samples; ``table_byte_ns``: the area under the line
    through all of them.
    """

    latency: dict[str, list[tuple[int, int]]]
    ns_per_tick: float
    table_bytes: list[tuple[int, int]]
    table_byte_ns: int


class ChildResult(Struct, frozen=True):
    """What a child says when it ends by itself.

    ``reason``: duration, finished, violation, stopped, stuck or error; ``error`` and ``exit_code``
    belong to the last. ``raced``: operations of the workers; ``checked``: those that got a verdict.
    ``overlaps``: by verb and verb. ``replays``: times that the trace was done to its end.
    ``rss_kb``: the most resident memory that the child ever had. ``measured``: if the job asked.
    """

    reason: str
    error: str = ""
    exit_code: int = 0
    wall_s: float = 0.0
    race_ns: int = 0
    check_ns: int = 0
    bursts: int = 0
    replays: int = 0
    raced: int = 0
    checked: int = 0
    stuck: list[int] = []
    overlaps: list[list[int]] = []
    table_bytes_start: int = 0
    table_bytes_end: int = 0
    flags: dict[str, int | str | bool] = {}
    rss_kb: int = 0
    measured: Measured | None = None
