"""Rows that compare schemes: what reclaim costs where it has nothing to do, who waits for whom, what waits for readers.

Machines of the schemes stand side by side in one process and do the same work in turns, as other rows do.
"""

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from ptstress.bench import Row, measured
from ptstress.bench_engine import SECOND_VMA, VMA_PAGES, bench_machine
from ptstress.engine import load_engine
from ptstress.layout import Counter
from ptstress.operation import mmap, op_array
from ptstress.pages import global_page
from ptstress.schemes import find_scheme

REPEATS, QUICK_REPEATS = 25, 5
LONG_REPEATS = 3                    # of what takes a second or more
#: Discards of half a table, and of one page.
UNITS = (256, 1)
ZAP_PAGES, ZAP_TURNS = 2048, 4
#: A machine lies where it lies: rows of few percent are of several pairs of them, in turns.
PAIRS = 3
FAULT_PAGES, FAULT_TURNS, LONG_FAULT_TURNS = 2048, 8, 25
PROTECTIONS = {"mmap_lock": "mmap_lock+sync", "vma_lock": "linux-6.18", "rcu": "rcu"}
#: Where a third worker maps a table and unmaps it: in a VMA of its own, or at the end of the one with the faults.
ELSEWHERE, AT_THE_END = SECOND_VMA + VMA_PAGES + 512, VMA_PAGES - 512
#: A walk of ``WALK_PAGES`` pages sleeps in each of its tables.
WALK_PAGES, WALK_SLEEP_US, WALKS, QUICK_WALKS = 1 << 14, 50, 20, 4
STALL_MS, QUICK_STALL_MS = 1000, 100
BACKLOG_MAX = 512                   # knob backlog_max, where no workload says otherwise
SLEEPER_PAGES, SLEEPER_US = 1 << 14, 10_000


def scheme_rows(quick: bool) -> Iterator[Row]:
    """All of them, all of the build fast."""
    engine = load_engine("fast")
    yield from _idle_reclaim_rows(engine, quick)
    yield from _fault_rows(engine, quick)
    yield from _mapper_rows(engine, quick)
    yield from _walker_rows(engine, quick)
    yield _stall_row(engine, quick)
    yield from _sleeper_rows(engine, quick)


def _machine(engine: ModuleType, scheme: str, workers: int, **config: object) -> Any:
    return bench_machine(engine, workers, SECOND_VMA, **{**find_scheme(scheme).config(), **config})


def _idle_reclaim_rows(engine: ModuleType, quick: bool) -> Iterator[Row]:
    """``sync`` beside ``never`` where a DONTNEED leaves something in its table, so that nothing can be freed."""
    pairs = [[_machine(engine, f"vma_lock+{reclaim}", 1) for reclaim in ("never", "sync")] for _ in range(PAIRS)]
    for unit in UNITS:
        never, sync = [], []
        for turn in range(PAIRS + (QUICK_REPEATS if quick else REPEATS)):
            order = [0, 1] if turn % 2 else [1, 0]
            took = {i: pairs[turn % PAIRS][i].measure("cycle", [(0, ZAP_PAGES, ZAP_TURNS)], unit)[0][0] for i in order}
            if turn >= PAIRS:                       # the first turn of each pair fills tables, frames and caches
                never.append(took[0] / (ZAP_PAGES * ZAP_TURNS))
                sync.append(took[1] / (ZAP_PAGES * ZAP_TURNS))
        yield measured(f"sync over never, DONTNEED of {unit} page{'s' if unit > 1 else ''}, per page", sync, "ns",
                       references=never, ratio_at_most=1.03, note="nothing to reclaim; reference: reclaim never")


def _fault_rows(engine: ModuleType, quick: bool) -> Iterator[Row]:
    """Faults of two workers in one VMA, tables of their own: by the CPU time of each, in which other load hardly shows."""
    rates, _ = _rates(engine, QUICK_REPEATS if quick else REPEATS, FAULT_TURNS, mapper=False)
    yield measured("faults in one VMA, rcu over vma_lock", rates["rcu"], "M/s", references=rates["vma_lock"], ratio_at_least=1.0,
                   note="2 threads; in a second of CPU time of both; reference: vma_lock")
    yield measured("faults in one VMA, mmap_lock over vma_lock", rates["mmap_lock"], "M/s", references=rates["vma_lock"],
                   note="the same")


def _mapper_rows(engine: ModuleType, quick: bool) -> Iterator[Row]:
    """The same beside a worker that maps and unmaps elsewhere, by the clock on the wall: who waits uses no CPU time."""
    turns = FAULT_TURNS if quick else LONG_FAULT_TURNS
    rates, waits = _rates(engine, QUICK_REPEATS if quick else REPEATS, turns, mapper=True)
    for name, limit in (("rcu", 1.5), ("vma_lock", None)):
        yield measured(
            f"faults beside a mapper, {name} over mmap_lock", rates[name], "M/s", references=rates["mmap_lock"],
            ratio_at_least=limit, note="2 threads, a third one maps and unmaps elsewhere; reference: mmap_lock; waits for "
            f"mmap_lock or a VMA of 1,000 faults: {waits[name]:.3g}, reference: {waits['mmap_lock']:.3g}",
        )


def _rates(
    engine: ModuleType, repeats: int, turns: int, mapper: bool
) -> tuple[Mapping[str, list[float]], Mapping[str, float]]:
    """Of two workers together, by protection: millions of faults a second, and waits of 1,000 faults."""
    machines = {name: _machine(engine, scheme, 3) for name, scheme in PROTECTIONS.items()}
    shares = [("cycle", first, FAULT_PAGES, turns) for first in (0, VMA_PAGES // 2)]
    shares.append(("map", ELSEWHERE, 512, None if mapper else 0))
    rates: dict[str, list[float]] = {name: [] for name in machines}
    for turn in range(1 + repeats):
        for name in [*machines][turn % 3:] + [*machines][:turn % 3]:
            took = machines[name].together(shares)
            if turn > 0:
                rates[name].append(sum(FAULT_PAGES * turns * 1e3 / times[2 if mapper else 1] for times in took[:2]))
    counted = {name: machine.counters()[:2].sum(axis=0) for name, machine in machines.items()}
    return rates, {name: 1000 * int(c[Counter.MM_WAITS]) / int(c[Counter.FAULTS]) for name, c in counted.items()}


def _walker_rows(engine: ModuleType, quick: bool) -> Iterator[Row]:
    """How long a fault waits for mmap_lock or a VMA while somebody walks the same VMA and sleeps in its tables.

    A walk that holds a lock for reading is in the way of who wants it for writing, and that one in the way of faults.
    """
    for where, mapped in (("elsewhere", ELSEWHERE), ("in the VMA", AT_THE_END)):
        for name, scheme in PROTECTIONS.items():
            longest, waits = [], 0
            for _ in range(1 if quick else LONG_REPEATS):
                bench = _machine(engine, scheme, 3, sleep_mode="srcu" if name == "rcu" else "vma_lock",
                                 knobs={"sleep_us": WALK_SLEEP_US})
                bench.measure("write", [(0, 1, 0), (0, 1, WALK_PAGES), (0, 1, 0)])
                before = bench.counters()[0]
                bench.together([("cycle", 0, 16, None), ("walk", 0, WALK_PAGES, QUICK_WALKS if quick else WALKS),
                                ("map", mapped, 512, None)], 16)
                after = bench.counters()[0]
                longest.append(int(after[Counter.MM_WAIT_MAX_NS]) / 1e3)
                waits += int(after[Counter.MM_WAITS] - before[Counter.MM_WAITS])
            yield measured(
                f"fault behind a walk, mapper {where}, {name}", longest, "us",
                at_most=0 if name == "rcu" and mapped == ELSEWHERE else None,
                note=f"longest wait for mmap_lock or a VMA; {waits} waits; the walk sleeps in each of {WALK_PAGES // 512} tables",
            )


def _stall_row(engine: ModuleType, quick: bool) -> Row:
    """What is unlinked and cannot be freed while a reader stays in its section."""
    stall_ms = QUICK_STALL_MS if quick else STALL_MS
    queued = []
    for _ in range(1 if quick else LONG_REPEATS):
        bench = _machine(engine, "linux-6.18", 2)
        bench.together([("cycle", 0, 512, None), ("stall", 0, 1, stall_ms)])
        queued.append(int(bench.counters()[0, Counter.RCU_BACKLOG_MAX]))
    return measured("tables that wait for a stalled reader", queued, "tables", references=[BACKLOG_MAX] * len(queued),
                    ratio_at_most=1.01, note=f"a reader stays for {stall_ms} ms; reference: where DONTNEED has to wait")


def _sleeper_rows(engine: ModuleType, quick: bool) -> Iterator[Row]:
    """Walks that sleep in one mm, DONTNEED in another: what waits for SRCU there, and how long a grace period lasts."""
    for mode in ("srcu", "srcu-mm"):
        queued, longest, reclaimed = [], [], 0
        for _ in range(1 if quick else LONG_REPEATS):
            bench = _machine(engine, "rcu", 2, sleep_mode=mode, mms=2, knobs={"sleep_us": SLEEPER_US})
            other = global_page(1, 0)
            bench.serial(op_array([mmap(other, other + VMA_PAGES)]))
            bench.measure("write", [(0, 1, 0), (0, 1, SLEEPER_PAGES)])
            bench.together([("cycle", other, 512, None), ("walk", 0, SLEEPER_PAGES, 1)])
            counters = bench.counters()
            queued.append(int(counters[0, Counter.SRCU_BACKLOG_MAX]))
            longest.append(int(counters[:, Counter.SRCU_GP_MAX_NS].max()) / 1e6)
            reclaimed += int(counters[0, Counter.TABLES_RECLAIMED])
        note = f"a walk of {SLEEPER_PAGES // 512} tables sleeps {SLEEPER_US / 1000:g} ms in each, on average; {{}}"
        yield measured(f"DONTNEED beside a sleeper of another mm, {mode}", queued, "tables",
                       note=note.format(f"most that waited to be freed, of {reclaimed:,} in all runs"))
        yield measured(f"grace period beside a sleeper of another mm, {mode}", longest, "ms", note=note.format("the longest"))
