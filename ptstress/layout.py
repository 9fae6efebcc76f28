"""The region that a child shares with its parent, as numpy views. It outlives a crash of the child.

The layout is that of ``cy/base/shm.pxd``: one header, then one block of counters for each worker, then
one ring of events for each worker. A test compares the numbers here with that file and with the engine.
"""

import re
from collections.abc import Mapping
from enum import IntEnum
from mmap import mmap

import numpy as np

from ptstress.pages import mm_of, page_text, range_text
from ptstress.vocabulary import ACCESSES, EVENT_DTYPE, NR_COUNTERS, NR_VERBS, REPORT_DTYPE, Oracle, Verb

MAX_REPORTS = 32
MAX_LEVELS = 5
#: In which the counters ``DEBT_GP_MAX``, ``DEBT_AGE_MAX`` and ``DEBT_AGE_SUM`` are.
DEBT_UNIT_NS = 1024
MAX_HELD_SHOWN = 6
#: The letters of a report's text that stand for its numbers; "a" before one of these words is an article.
_PLACEHOLDER = re.compile(
    r"(verb |class |status )?\b(b|a(?! (?:VMA|cpu|device|discard|dontneed|frame|guard|hole|leaf|lock|page|pmd_table|pml|populate"
    r"|pte_table|range|read-only|read section|reference|scan|spinlock|table|translation|walk|write|zap)\b))\b"
)
PAGES_PER_LINE = 512

HEADER_DTYPE = np.dtype(
    [
        ("magic", "u8"), ("nr_workers", "u8"), ("ring_events", "u8"), ("stop", "u8"), ("burst", "u8"),
        ("phase", "u8"), ("table_bytes", "u8"), ("nr_reports", "u8"),
        ("tables_unlinked", "u8"), ("pad", "u8", (7,)),
        ("reports", REPORT_DTYPE, (MAX_REPORTS,)),
    ]
)
MAX_FLIGHT = 256
#: What flight recorders note, by number.
FLIGHT_KINDS = ("", "lock", "trylock", "recheck", "unlink", "free")
FLIGHT_DTYPE = np.dtype(
    [("stamp", "u8"), ("what", "u8"), ("value", "u8"), ("seq", "u4"), ("kind", "u2"), ("detail", "u2")])
WORKER_DTYPE = np.dtype([
    ("counter", "u8", (NR_COUNTERS,)), ("nr_events", "u8"), ("nr_flight", "u8"), ("pad", "u8", (6,)),
    ("flight", FLIGHT_DTYPE, (MAX_FLIGHT,)),
])


class Phase(IntEnum):
    """What the child does."""

    IDLE = 0
    RACING = 1
    CHECKING = 2
    DONE = 3


class Counter(IntEnum):
    """Counters of one worker; ``OPS`` and the ``TABLES_`` ones are the first of a row."""

    OPS = 0
    MAP_FAILED = 24
    RECHECK_LOST = 25
    TRYLOCK_FAILED = 26
    VMA_LOCK_FALLBACK = 27
    INSTALL_LOST = 28
    WP_LOST = 29
    FILL_DROPPED = 30
    HW_RETRY = 31
    LOCK_CONTENDED = 32
    FAULTS = 33
    ZAP_BREAK = 34
    FAST_DETACH = 35
    SLOW_DETACH = 36
    DETACH_NOT_EMPTY = 37
    FLUSHES = 38
    FULL_FLUSHES = 39
    ALLOC_FAILED = 40
    GRACE_PERIODS = 41
    RCU_CALLBACKS = 42
    RCU_BACKPRESSURE = 43
    RCU_BACKLOG_MAX = 44
    RCU_GP_MAX_NS = 45
    TABLES_ALLOCATED = 46
    TABLES_FREED = 51
    TABLES_RECLAIMED = 56
    EVENTS = 57
    VERB_NOW = 58
    WAIT_ADDR = 59
    WAIT_CLASS = 60
    PARKED = 61
    RCU_STALL_NS = 62
    RCU_STALL_CPU = 63
    RCU_STALL_SITE = 64
    TABLE_BYTES_PEAK = 65
    STREAM_DONE = 66
    HELD_NR = 67
    HELD = 68
    VMA_RECYCLED = 80
    EXIT_BY_OTHER = 81
    GUARD_FAULTS = 85
    GUARD_ZAPS = 86
    GUARDS_KEPT = 87
    GATHER_FALLBACK = 90
    SYNC_ONE = 91
    GUP_FAST = 92
    GUP_SLOW = 93
    GUP_LOST = 94
    PINNED_KEPT = 95
    LAZYFREE = 99
    LAZYFREED = 100
    LAZYFREE_KEPT = 101
    BATCHED_FLUSHES = 102
    BATCHED_DRAINS = 103
    SCANS = 104
    SCANNED = 105
    SCAN_EMPTY = 106
    SCAN_BUSY = 107
    VMAS_MARKED = 108
    ZEROES_UNMAPPED = 109
    WALK_SLEEPS = 82
    WALK_LOST = 83
    NOTIFIED = 84
    SRCU_PERIODS = 96
    SRCU_GP_MAX_NS = 97
    SRCU_BACKLOG_MAX = 98
    REF_LOST = 110
    DEVICE_FILLS = 88
    DEVICE_RETRIES = 89
    MM_WAITS = 112
    MM_WAIT_MAX_NS = 113
    WAIT_SINCE = 114
    TABLES_UNLINKED = 111
    DEBT_MAX = 115
    DEBT_GP_MAX = 116
    DEBT_AGE_MAX = 117
    DEBT_AGE_SUM = 118


class LockClass(IntEnum):
    """Classes of locks; their order is the lock order."""

    MMAP = 1
    VMA = 2
    PGL = 3
    P4D = 4
    PUD = 5
    PML = 6
    PTL = 7
    ARENA = 8
    RCU = 9
    LIST = 10
    DEVICE = 11

    @property
    def label(self) -> str:
        """Name in reports."""
        return {LockClass.MMAP: "mmap_lock", LockClass.VMA: "VMA lock", LockClass.PGL: "page_table_lock"}.get(
            self, self.name.lower()
        )


#: Near misses: how often a rare path was taken and noticed.
NEAR_MISSES = (
    Counter.MAP_FAILED, Counter.RECHECK_LOST, Counter.TRYLOCK_FAILED, Counter.VMA_LOCK_FALLBACK,
    Counter.INSTALL_LOST, Counter.WP_LOST, Counter.FILL_DROPPED, Counter.HW_RETRY, Counter.LOCK_CONTENDED,
    Counter.ZAP_BREAK, Counter.SLOW_DETACH, Counter.DETACH_NOT_EMPTY, Counter.LAZYFREE_KEPT, Counter.BATCHED_DRAINS,
    Counter.GATHER_FALLBACK, Counter.GUP_LOST, Counter.PINNED_KEPT, Counter.SCAN_BUSY, Counter.GUARD_ZAPS,
    Counter.WALK_LOST, Counter.REF_LOST, Counter.DEVICE_RETRIES,
)
_MAXIMA = (
    Counter.RCU_BACKLOG_MAX, Counter.RCU_GP_MAX_NS, Counter.RCU_STALL_NS, Counter.TABLE_BYTES_PEAK,
    Counter.SRCU_BACKLOG_MAX, Counter.SRCU_GP_MAX_NS, Counter.DEBT_MAX, Counter.DEBT_GP_MAX, Counter.DEBT_AGE_MAX,
    Counter.MM_WAIT_MAX_NS,
)


def shared_bytes(workers: int, ring_events: int) -> int:
    """Size of the region."""
    return HEADER_DTYPE.itemsize + workers * (WORKER_DTYPE.itemsize + ring_events * EVENT_DTYPE.itemsize)


class SharedView:
    """Views over a region of ``workers`` rings with ``ring_events`` lines each. Copies nothing."""

    def __init__(self, memory: mmap | bytearray, workers: int, ring_events: int) -> None:
        self.workers = workers
        self.ring_events = ring_events
        self.header = np.frombuffer(memory, HEADER_DTYPE, count=1)[0:1]
        at = HEADER_DTYPE.itemsize
        self.blocks = np.frombuffer(memory, WORKER_DTYPE, count=workers, offset=at)
        at += workers * WORKER_DTYPE.itemsize
        lines = np.frombuffer(memory, EVENT_DTYPE, count=workers * ring_events, offset=at)
        self.rings = lines.reshape(workers, ring_events)

    @property
    def phase(self) -> Phase:
        """What the child does now."""
        return Phase(min(int(self.header["phase"][0]), Phase.DONE))

    @property
    def counters(self) -> np.ndarray:
        """Counters, one row for each worker."""
        return self.blocks["counter"]

    def field(self, name: str) -> int:
        """A number of the header."""
        return int(self.header[name][0])

    def request_stop(self, at_once: bool = False) -> None:
        """Ask the child to end its run; ``at_once``: without the rest of a check, whose burst then counts as not checked."""
        self.header["stop"][0] = 2 if at_once else 1

    def total(self, counter: Counter) -> int:
        """A counter over all workers: the sum, or the largest for those that are maxima."""
        column = self.counters[:, counter]
        return int(column.max() if counter in _MAXIMA else column.sum())

    def row(self, first: Counter, length: int) -> list[int]:
        """Sums of a row of counters, such as operations by verb."""
        return [int(n) for n in self.counters[:, first : first + length].sum(axis=0)]

    def ops_by_verb(self) -> dict[str, int]:
        """Operations done so far, by name, those that were used."""
        row = self.row(Counter.OPS, NR_VERBS)
        return {verb.label: row[verb] for verb in Verb if row[verb] and verb not in (Verb.NONE, Verb.SYNC)}

    def progress(self) -> tuple[int, ...]:
        """Changes whenever anything moves on: operations of every worker, phase and burst."""
        return (self.field("phase"), self.field("burst"), *self.worker_ops())

    def worker_ops(self) -> tuple[int, ...]:
        """Operations done so far by each worker."""
        return tuple(int(n) for n in self.counters[:, Counter.OPS : Counter.OPS + NR_VERBS].sum(axis=1))

    def held_locks(self, worker: int) -> list[tuple[int, int]]:
        """Address and class of the locks that a worker holds, first taken first; at most ``MAX_HELD_SHOWN``."""
        row = self.counters[worker]
        shown = min(int(row[Counter.HELD_NR]), MAX_HELD_SHOWN)
        pairs = row[Counter.HELD : Counter.HELD + 2 * shown].reshape(shown, 2)
        return [(int(address), int(lock_class)) for address, lock_class in pairs]

    def reports(self) -> list[dict[str, int | str]]:
        """Violations that were reported, in order; ``what`` and ``oracle`` as text."""
        kept = self.header["reports"][0][: min(self.field("nr_reports"), MAX_REPORTS)]
        return [
            {
                "oracle": Oracle(r["oracle"]).label if r["oracle"] <= max(Oracle) else str(r["oracle"]),
                "invariant": int(r["invariant"]), "cpu": int(r["cpu"]), "verb": verb_name(int(r["verb"])),
                "seq": int(r["seq"]), "addr": int(r["addr"]), "a": int(r["a"]), "b": int(r["b"]),
                "stamp": int(r["stamp"]), "what": bytes(r["what"]).decode("utf-8", "replace"),
            }
            for r in kept
            if r["oracle"]
        ]

    def flight(self, worker: int) -> np.ndarray:
        """What a worker's flight recorder holds, oldest first."""
        count, ring = int(self.blocks["nr_flight"][worker]), self.blocks["flight"][worker]
        return np.roll(ring, -count)[MAX_FLIGHT - min(count, MAX_FLIGHT) :]

    def recorded(self, worker: int) -> np.ndarray:
        """Lines that a worker wrote since the last check, continuation lines included.

        A check empties the ring by its count only: right after one, these are the lines that it saw.
        """
        ring = self.rings[worker]
        return ring[: min(int(self.blocks["nr_events"][worker]), self.ring_events) or _consecutive(ring)]

    def history(self) -> dict[str, np.ndarray]:
        """A copy of all rings of the last burst: ``worker_00``, ``worker_01`` ..."""
        return {f"worker_{w:02d}": self.recorded(w).copy() for w in range(self.workers)}

    def last_operations(self, worker: int, count: int) -> list[str]:
        """A worker's last operations as text, oldest first, the one in flight included."""
        lines = self.recorded(worker)
        starts = operation_lines(lines)[-count:]
        texts = [describe_event(lines[i]) for i in starts]
        # A worker fills the line of its next operation before it counts the line.
        at = len(lines)
        if at < self.ring_events:
            event = self.rings[worker][at]
            if event["t0"] and not event["t1"] and event["verb"]:
                texts.append(describe_event(event))
        if len(texts) == 0 and self.counters[worker, Counter.VERB_NOW]:
            texts.append(f"{verb_name(int(self.counters[worker, Counter.VERB_NOW]))}(..)  in flight")
        return texts[-count:]


def _consecutive(ring: np.ndarray) -> int:
    """Lines from the start of a ring that belong to one burst: operations are numbered in order."""
    at, seq = 0, 0
    while at < len(ring):
        event = ring[at]
        known = event["verb"] in Verb._value2member_map_ and event["verb"] != Verb.NONE
        if not known or not event["t0"] or (at and event["seq"] != seq):
            break
        seq = (int(event["seq"]) + 1) & 0xFFFFFFFF
        at += 1 + int(event["lines"])
    return min(at, len(ring))


def operation_lines(lines: np.ndarray) -> list[int]:
    """Index of the first line of each operation: the lines of bits behind a walk are passed over."""
    starts, at = [], 0
    while at < len(lines):
        starts.append(at)
        at += 1 + int(lines["lines"][at])
    return starts


def present_pages(lines: np.ndarray, at: int) -> np.ndarray:
    """Pages that the walk whose first line is ``lines[at]`` saw present."""
    head = lines[at]
    count = int(head["end"] - head["start"])
    bits = np.unpackbits(lines[at + 1 : at + 1 + int(head["lines"])].view(np.uint8), bitorder="little")
    return np.flatnonzero(bits[:count]).astype(np.uint64) + head["start"]


def is_write(events: np.ndarray) -> np.ndarray:
    """Which of the operations store to their page."""
    return (events["verb"] == Verb.WRITE) | ((events["verb"] == Verb.GUP_FAST) & (events["aux"] != 0))


def describe_event(event: np.void) -> str:
    """``write(p3) = 0  value 0x2a  1,204 ticks``."""
    verb, start, end = verb_name(int(event["verb"])), int(event["start"]), int(event["end"])
    accesses = verb in [v.label for v in ACCESSES]
    if verb == "exit":
        where = f"m{mm_of(start)}"
    else:
        where = page_text(start) if end == start + 1 and accesses else range_text(start, end)
    if not event["t1"]:
        return f"{verb}({where})  in flight"
    value = f"  value {int(event['value']):#x}" if accesses else ""
    counted = {"walk": ("present", "aux"), "age": ("young", "aux"), "populate": ("populated", "value")}.get(verb)
    value = f"  {counted[0]} {int(event[counted[1]])}" if counted else value
    return f"{verb}({where}) = {int(event['status'])}{value}  {int(event['t1'] - event['t0']):,} ticks"


def report_text(report: Mapping[str, int | str]) -> str:
    """What a report says, with numbers where its text says a and b: ``table 3 was detached and holds an entry: 0x2067``."""
    return _PLACEHOLDER.sub(lambda m: _spelled(m[1] or "", int(report[m[2]])), str(report["what"]))


def _spelled(noun: str, number: int) -> str:
    """A number behind the word that says what it is."""
    if noun == "verb ":
        return verb_name(number)
    if noun == "class ":
        return f"{noun}{LockClass(number).label if number in LockClass._value2member_map_ else number}"
    if noun == "status ":
        return f"{noun}{number - (1 << 64) if number >> 63 else number}"
    return f"{noun}{number}" if number < 1 << 12 else f"{noun}{number:#x}"


def verb_name(number: int) -> str:
    """Name of a verb's number, or the number."""
    return Verb(number).label if number in Verb._value2member_map_ else f"verb {number}"
