"""Rows of one operation at a time: the fast build on its own threads, beside the C twin and the kernel."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

from ptstress.bench import Row, absent, measured
from ptstress.bench_kernel import Kernel, KernelTimes
from ptstress.bench_twin import Twin, load_twin
from ptstress.engine import load_engine
from ptstress.errors import UnsupportedError
from ptstress.operation import mmap, op_array
from ptstress.schemes import find_scheme

SCHEME = "linux-6.18"
FRAMES, TABLES = 1 << 17, 4096
#: Two VMAs of so many pages; the second begins under another pmd_table.
VMA_PAGES = 1 << 16
SECOND_VMA = 1 << 18
#: Fewer pages than TLB entries; many more, in an order that meets each entry again and again with another page.
HIT_PAGES, WALK_PAGES = 16, 512
CYCLE_PAGES, TABLE_PAGES = 8192, 512
REPEATS, QUICK_REPEATS = 15, 5
TURNS, QUICK_TURNS = 400_000, 100_000
CYCLES, QUICK_CYCLES = 4, 1
RECORD_TURNS = 200_000

TWIN_RATIO = 1.15


def bench_machine(engine: ModuleType, workers: int, second: int, **config: object) -> Any:
    """A ``Bench`` with two writable VMAs of ``VMA_PAGES`` pages, at page 0 and at page ``second``."""
    bench = engine.Bench({
        **find_scheme(SCHEME).config(), "workers": workers, "frames": FRAMES, "tables": TABLES, "knobs": {}, **config,
    })
    bench.serial(op_array([mmap(0, VMA_PAGES), mmap(second, second + VMA_PAGES)]))
    return bench


def operation_rows(quick: bool) -> Iterator[Row]:
    """Read sections, accesses, faults and discards of one thread: in nanoseconds, and over the twin's."""
    repeats = QUICK_REPEATS if quick else REPEATS
    bench = bench_machine(load_engine("fast"), 1, VMA_PAGES)
    try:
        twin, why = load_twin(FRAMES, TABLES, VMA_PAGES), ""
    except UnsupportedError as error:
        twin, why = None, str(error)
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    kernel: list[KernelTimes] = []
    with Kernel() as child:
        _once(bench, None, quick), _once(None, twin, quick)     # fills tables, frames and caches
        for _ in range(repeats):
            ours.append(_once(bench, None, quick))
            theirs.append(_once(None, twin, quick))
            if (times := child.measure()) is not None:
                kernel.append(times)
    yield from _twin_rows(ours, theirs, why)
    yield from _cost_rows(ours, kernel)


def _once(bench: Any, twin: Twin | None, quick: bool) -> dict[str, float]:
    """Nanoseconds for each operation, one round over all kinds of work on one of the two."""
    turns, cycles = (QUICK_TURNS, QUICK_CYCLES) if quick else (TURNS, CYCLES)

    def time_of(what: str, first: int, pages: int, n: int) -> tuple[int, int]:
        if bench is not None:
            return bench.measure(what, [(first, pages, n)], TABLE_PAGES)[0]
        return twin.measure(what, first, pages, n, TABLE_PAGES) if twin else (0, 0)

    dontneed, fault = time_of("cycle", 0, CYCLE_PAGES, cycles)
    time_of("write", 0, 1, WALK_PAGES)
    return {
        "section": time_of("rcu", 0, 1, turns)[0] / turns,
        "hit": time_of("read", 0, HIT_PAGES, turns)[0] / turns,
        "walk": time_of("read", 0, WALK_PAGES, turns)[0] / turns,
        "fault": fault / (CYCLE_PAGES * cycles),
        "dontneed": dontneed / (CYCLE_PAGES * cycles),
    }


#: What is measured, how it is called, and what it may cost in nanoseconds.
_WORK = (
    ("section", "RCU enter and exit", 1.5),
    ("hit", "access that hits the TLB", 6.0),
    ("walk", "access by a lockless walk", 15.0),
    ("fault", "first-touch write fault", 120.0),
    ("dontneed", "DONTNEED of a full table, per page", 20.0),
)


def _twin_rows(ours: list[dict[str, float]], theirs: list[dict[str, float]], why: str) -> Iterator[Row]:
    for key, title, _ in _WORK:
        name = f"{title}, over the C twin"
        if why:
            yield absent(name, "ns", why)
        else:
            yield measured(
                name, [o[key] for o in ours], "ns", references=[t[key] for t in theirs], ratio_at_most=TWIN_RATIO,
                note="reference: the same work written by hand in C (tests/bench/twin.c)",
            )


def _cost_rows(ours: list[dict[str, float]], kernel: list[KernelTimes]) -> Iterator[Row]:
    references = {
        "hit": [k.access_ns for k in kernel], "fault": [k.fault_ns for k in kernel],
        "dontneed": [k.dontneed_ns for k in kernel],
    }
    for key, title, limit in _WORK:
        found = references.get(key, [])
        same = found if len(found) == len(ours) else []
        note = "reference: this kernel, anonymous memory without huge pages" if same else ""
        if key == "section":
            note = "membarrier; liburcu memb 0.13.2: 1.4 to 3.3 ns where it was measured"
        yield measured(title, [o[key] for o in ours], "ns", references=same, at_most=limit, note=note)


def record_rows(quick: bool) -> Iterator[Row]:
    """What it costs to record one operation, stamps included."""
    bench = bench_machine(load_engine("stress"), 1, VMA_PAGES)
    record, stamps = [], []
    for _ in range(QUICK_REPEATS if quick else REPEATS):
        record.append(bench.measure("record", [(0, 1, RECORD_TURNS)])[0][0] / RECORD_TURNS)
        stamps.append(bench.measure("stamps", [(0, 1, RECORD_TURNS)])[0][0] / RECORD_TURNS)
    yield measured("recording an operation", record, "ns", references=stamps, at_most=45,
                   note="build stress, one 64-byte line; reference: its two fenced stamps alone")


def thread_rows(quick: bool) -> Iterator[Row]:
    """Two threads against one: in VMAs and tables of their own, and in one VMA."""
    bench = bench_machine(load_engine("fast"), 2, SECOND_VMA)
    repeats = QUICK_REPEATS if quick else REPEATS
    apart = {what: [] for what in ("section", "walk", "fault", "dontneed")}
    together = {what: [] for what in ("walk", "fault", "dontneed")}
    for second in (SECOND_VMA, VMA_PAGES // 2):
        _pair(bench, second, quick)                             # the first round fills tables, frames and caches
    for _ in range(repeats):
        for what, speedup in _pair(bench, SECOND_VMA, quick).items():
            apart[what].append(speedup)
        for what, speedup in _pair(bench, VMA_PAGES // 2, quick).items():
            if what in together:
                together[what].append(speedup)
    limits = {"walk": 1.8, "fault": 1.8, "dontneed": 1.7}
    yield measured("two threads, RCU enter and exit", apart["section"], "x",
                   note="nothing is shared: what the machine itself gives")
    for what, limit in limits.items():
        yield measured(f"two threads, VMAs of their own, {what}", apart[what], "x", at_least=limit, note="over one thread")
    for what in limits:
        yield measured(f"two threads, one VMA, {what}", together[what], "x", note="tables of their own; over one thread")


def _pair(bench: Any, second: int, quick: bool) -> dict[str, float]:
    """How much more two workers do than one, the second from page ``second`` on. One after the other, in turns."""
    turns, cycles = (QUICK_TURNS, QUICK_CYCLES) if quick else (TURNS, CYCLES)

    def speedups(what: str, pages: int, n: int) -> list[float]:
        alone = bench.measure(what, [(0, pages, n), (0, pages, 0)], TABLE_PAGES)[0]
        both = bench.measure(what, [(0, pages, n), (second, pages, n)], TABLE_PAGES)
        return [sum(one / other[i] for other in both) if one else 0.0 for i, one in enumerate(alone)]

    cycle = speedups("cycle", CYCLE_PAGES, cycles)
    bench.measure("write", [(0, 1, WALK_PAGES), (second, 1, WALK_PAGES)])
    return {
        "section": speedups("rcu", 1, turns)[0],
        "walk": speedups("read", WALK_PAGES, turns)[0],
        "fault": cycle[1],
        "dontneed": cycle[0],
    }
