"""What was in flight around a violation that threads showed: a few operations of a few workers, and what was there before.

A report says when, by whom and where something was found; the history says who was there. Many windows come of it, because nobody
knows which of the operations it takes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ptstress.history import History, complete, operation_starts
from ptstress.layout import is_write
from ptstress.vocabulary import ACCESSES, MM_SHIFT, PAGE_SHIFT, WHOLE_MM, Oracle, Verb

#: Workers and operations of each of them.
SIZES = ((2, 1), (2, 2), (3, 1), (3, 2), (2, 4), (3, 4), (4, 2), (4, 4), (4, 8))
#: What makes an operation part of a window: a page of the focus, its table, nothing.
PAGES, TABLES, ANYTHING = range(3)
#: In windows of two workers the second one is each of those that were nearest.
PARTNERS = 3
#: Windows of a burst of which nobody says where it went wrong.
UNKNOWN_PLACES = 12
#: What a page holds hangs on its last operations; so many say it.
MOST_CHANGES = 64
#: So many operations are ranked; of those of one worker that are alike only the nearest count.
NEAREST, MOST_ALIKE = 1024, 2
#: Operations that may lie between what went wrong and what shows it.
BEHIND = 4
#: Places at which two met are drawn from so many operations.
SAMPLE = 4096
#: Numbers of reports below this are counts and states: they name no frame, value or time.
_LEAST_NAME = 1 << 16
#: What reports of these call address 0 is page 0; elsewhere 0 is none.
_NAMES_PAGES = (Oracle.DATA.label, Oracle.STALE_TLB.label)
#: Of a row of ``History.maps``.
_WRITABLE = 4


class Recorded:
    """A burst as one table: the operations of all workers in order of their begin, each with an end.

    ``t0``, ``t1``, ``start``, ``end`` and ``verb`` are columns of ``ops``; ``worker`` says whose they are.
    """

    def __init__(self, history: History) -> None:
        """From a history with its geometry, as a failure folder has it."""
        history = complete(history)
        rings = [ring[operation_starts(ring)] for ring in history.rings]
        ops = np.concatenate(rings)
        # An exit is of a whole mm.
        exits = ops["verb"] == Verb.EXIT
        ops["end"][exits] = ops["start"][exits] + (1 << MM_SHIFT)
        order = np.argsort(ops["t0"], kind="stable")
        self.ops = ops[order]
        self.worker = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])[order]
        self.t0, self.t1, self.start, self.end, self.verb = (
            np.ascontiguousarray(self.ops[name]) for name in ("t0", "t1", "start", "end", "verb"))
        self.accesses = np.isin(self.verb, ACCESSES)
        self.maps, self.pages, self.known = history.maps, history.pages, history.known
        self.table_bits = history.geometry[0]
        self._changes: dict[int, np.ndarray] = {}

    def touching(self, first: int, last: int) -> np.ndarray:
        """Which operations are about a page of ``[first, last]``."""
        return (self.start <= last) & (self.end > first)

    def changes(self, page: int) -> np.ndarray:
        """Operations on a page that succeeded, in order of their end."""
        found = self._changes.get(page)
        if found is None:
            found = np.flatnonzero(self.touching(page, page))
            found = found[self.ops["status"][found] == 0]
            found = self._changes[page] = found[np.argsort(self.t1[found], kind="stable")]
        return found


@dataclass(frozen=True)
class Focus:
    """When and where it went wrong, as far as the report says. ``by``: the operation that found it, -1: nobody knows."""

    stamp: int
    first: int
    last: int
    by: int = -1


@dataclass(frozen=True)
class Window:
    """``branches``: indices of operations, one tuple for each worker that takes part. ``focus``: a page that it is about."""

    branches: tuple[tuple[int, ...], ...]
    focus: int

    def members(self) -> np.ndarray:
        """All of them."""
        return np.array(sorted(i for branch in self.branches for i in branch), dtype=np.int64)


@dataclass
class PageBefore:
    """A page when the window begins: whether and how it is mapped, and what is there.

    ``content``: none, zero, written, free, guard, or dropped: it was there, and was discarded since.
    """

    mapped: bool
    writable: bool
    content: str = "none"


def windows(recorded: Recorded, report: Mapping[str, int | str], seed: int) -> Iterator[Window]:
    """Windows that may hold what a violation takes, each once; the likeliest first, of all sizes in turns."""
    seen = set()
    focuses = list(_focuses(recorded, report, seed))
    # It may take nobody else.
    least = min(2, len(np.unique(recorded.worker)))
    for reaches in ((PAGES, TABLES), (ANYTHING,)):
        for window in _in_turns([_of_size(recorded, focuses, reaches, *size) for size in SIZES]):
            if window.branches not in seen and len(window.branches) >= least:
                seen.add(window.branches)
                yield window


def _of_size(
    recorded: Recorded, focuses: Sequence[Focus], reaches: Sequence[int], threads: int, each: int
) -> Iterator[Window]:
    for focus in focuses:
        for reach in reaches:
            yield from _around(recorded, focus, threads, each, reach)


def _in_turns(sources: Sequence[Iterator[Window]]) -> Iterator[Window]:
    """The first of each, then the second of each, and so on: nobody knows how many operations it takes."""
    left = list(sources)
    while left:
        for source in list(left):
            window = next(source, None)
            if window is None:
                left.remove(source)
            else:
                yield window


def page_before(recorded: Recorded, page: int, until: int, without: np.ndarray) -> PageBefore:
    """What operations that had ended at time ``until`` had left of a page; ``without``: those do not count."""
    changes = recorded.changes(page)
    changes = changes[(recorded.t1[changes] <= until) & ~np.isin(changes, without)]
    row = recorded.maps[(recorded.maps[:, 0] <= page) & (recorded.maps[:, 1] > page)]
    held = recorded.pages[recorded.pages[:, 0] == page]
    state = PageBefore(bool(len(row)) or not recorded.known, not len(row) or bool(int(row[0, 2]) & _WRITABLE))
    if len(held):
        state.content = "written" if held[0, 1] else "zero"
    for i in changes[-MOST_CHANGES:]:
        _apply(state, recorded.ops[i])
    return state


def _apply(state: PageBefore, op: np.void) -> None:
    verb, arg = Verb(int(op["verb"])), int(op["aux"])
    if verb in (Verb.MMAP, Verb.MUNMAP, Verb.EXIT):
        state.content = "none"
    if verb is Verb.MMAP:
        state.mapped, state.writable = True, bool(arg)
    elif verb in (Verb.MUNMAP, Verb.EXIT):
        state.mapped = False
    elif verb is Verb.MPROTECT:
        state.writable = bool(arg)
    elif is_write(op) or (verb is Verb.POPULATE and arg and state.content in ("none", "dropped", "zero")):
        state.content = "written"
    elif verb in (Verb.READ, Verb.GUP_FAST, Verb.POPULATE) and state.content in ("none", "dropped"):
        state.content = "zero"
    elif verb is Verb.FREE and state.content == "written":
        state.content = "free"
    elif state.content in {Verb.DISCARD: ("free",), Verb.DONTNEED: ("written", "zero", "free")}.get(verb, ()):
        state.content = "dropped"
    elif verb is Verb.GUARD_INSTALL:
        state.content = "guard"
    elif verb is Verb.GUARD_REMOVE and state.content == "guard":
        state.content = "none"


def _focuses(recorded: Recorded, report: Mapping[str, int | str], seed: int) -> Iterator[Focus]:
    """Where to look, likeliest first."""
    if not len(recorded.ops):
        return
    # Who found that nothing moves has no stamp: it was so in the end.
    stamp, page = int(report["stamp"]) or int(recorded.t1.max()), int(report["addr"]) >> PAGE_SHIFT
    racing = stamp <= int(recorded.t1.max())
    if racing:
        mine = np.flatnonzero(recorded.worker == report["cpu"])
        # Found between two operations: on the way into the next one, if that is there.
        count = np.searchsorted(recorded.t0[mine], stamp, side="right") + (report["verb"] == Verb.NONE.label)
        if min(count, len(mine)):
            by = int(mine[min(count, len(mine)) - 1])
            stamp = max(stamp, int(recorded.t0[by]))
            first, last = _pages(recorded.ops[by])
            if report["addr"]:
                yield Focus(stamp, page, page, by)
            yield Focus(stamp, first, last, by)
            return
    if report["addr"] or report["oracle"] in _NAMES_PAGES:
        yield from _last_uses(recorded, report, page)
        return
    yield from _anywhere(recorded, seed)


def _last_uses(recorded: Recorded, report: Mapping[str, int | str], page: int) -> Iterator[Focus]:
    """Where a check that looked at a page afterwards says, or else the last operations on that page."""
    ops = recorded.ops
    here = recorded.touching(page, page) & ~np.isin(recorded.verb, WHOLE_MM)
    names = [n for n in (int(report["a"]), int(report["b"])) if n >= _LEAST_NAME]
    named = np.zeros(len(ops), bool)
    for column in ("t0", "t1", "incarnation", "value"):
        named |= here & np.isin(ops[column], np.array(names, dtype=np.uint64))
    all_here = np.flatnonzero(here)
    for found in (np.flatnonzero(named), all_here):
        for i in (found[-1], found[0]) if len(found) else ():
            yield Focus(int(recorded.t1[i]), page, page, int(i))
            # What shows it came after what did it; or what is named did it, and it took some more to show.
            yield Focus(int(recorded.t0[i]), page, page)
            behind = all_here[np.searchsorted(all_here, i) + 1 :][:BEHIND]
            if len(behind):
                yield Focus(int(recorded.t1[behind].max()), page, page, int(i))


def _anywhere(recorded: Recorded, seed: int) -> Iterator[Focus]:
    """Of a burst that went wrong somewhere: places where two met of whom one changes something, of different kinds first."""
    ops, worker, t0, t1 = recorded.ops, recorded.worker, recorded.t0, recorded.t1
    ends = np.maximum.accumulate(t1)
    met: dict[tuple[int, int], list[tuple[int, int]]] = {}
    rng = np.random.default_rng(seed)
    overlapping = np.flatnonzero(t0[1:] < ends[:-1]) + 1
    for i in rng.permutation(overlapping)[:SAMPLE]:
        for j in range(max(0, i - 8), i):
            if worker[j] != worker[i] and t1[j] > t0[i] and _same_table(recorded, int(j), int(i)):
                pair = tuple(sorted((int(ops["verb"][j]), int(ops["verb"][i]))))
                met.setdefault(pair, []).append((int(j), int(i)))
    quiet = {int(Verb.READ), int(Verb.WALK), int(Verb.AGE)}
    kinds = sorted(met, key=lambda pair: (set(pair) <= quiet, -max(pair)))
    for number in range(UNKNOWN_PLACES):
        kind = kinds[number % len(kinds)] if kinds else None
        if kind and met[kind]:
            j, i = met[kind].pop()
            first, last = _pages(ops[i])
            yield Focus(int(min(t1[i], t1[j])), first, last, i)


def _same_table(recorded: Recorded, i: int, j: int) -> bool:
    (a, b), (c, d) = _pages(recorded.ops[i]), _pages(recorded.ops[j])
    shift = recorded.table_bits
    return a >> shift <= d >> shift and c >> shift <= b >> shift


def _pages(op: np.void) -> tuple[int, int]:
    """First and last page of an operation, the mm's first one if it names none."""
    start, end = int(op["start"]), int(op["end"])
    return start, max(start, end - 1)


def _around(recorded: Recorded, focus: Focus, threads: int, each: int, reach: int) -> Iterator[Window]:
    """The operations nearest to a focus, of ``threads`` workers."""
    ops, t0, shift = recorded.ops, recorded.t0, recorded.table_bits if reach == TABLES else 0
    first, last = focus.first >> shift << shift, (focus.last >> shift << shift) + (1 << shift) - 1
    # A scan may look at any table, and a lockless lookup of a VMA may meet one of any mm.
    maps = np.isin(recorded.verb, (Verb.MMAP, Verb.MUNMAP)) & (recorded.start >> MM_SHIFT != focus.first >> MM_SHIFT)
    near = recorded.touching(first, last) | (recorded.verb == Verb.SCAN) | maps | (reach == ANYTHING)
    near &= t0 <= focus.stamp
    if focus.by >= 0:
        near[focus.by] = True
    chosen = np.flatnonzero(near)
    if not len(chosen):
        return
    # How long before; what is about the very pages counts as much nearer.
    distance = np.maximum(0, focus.stamp - recorded.t1[chosen].astype(np.int64)).astype(float)
    distance += 1.0 + (focus.stamp - t0[chosen].astype(np.int64)) / 1024
    exact = recorded.touching(focus.first, focus.last)[chosen]
    distance[exact] /= 16
    if focus.by >= 0:
        distance[chosen == focus.by] = 0
    ranked: dict[int, list[int]] = {}
    times: Counter[tuple[int, ...]] = Counter()
    for k in np.argsort(distance, kind="stable")[:NEAREST]:
        worker, op = int(recorded.worker[chosen[k]]), ops[chosen[k]]
        # About one page all operations are alike but for what they do.
        kind = (worker, int(op["verb"])) if reach == PAGES else (worker, int(op["verb"]), int(op["start"]), int(op["end"]))
        times[kind] += 1
        if times[kind] <= MOST_ALIKE:
            ranked.setdefault(worker, []).append(int(chosen[k]))
    order = list(ranked)
    groups = [order[:threads]]
    if threads == 2:
        groups = [[order[0], other] for other in order[1 : 1 + PARTNERS]]
    page = focus.first if focus.first == focus.last else -1
    for group in groups:
        yield Window(tuple(tuple(sorted(ranked[w][:each])) for w in group), page)
