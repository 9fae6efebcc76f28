"""Recorded traces of real programs as streams of operations.

A trace is what one process did to its address space: its page faults and its memory system calls, in the
order of one clock (``workloads/traces/README.md`` describes the files). Read here, it becomes operations
of the engine:

========================  ==================================================================================
recorded                  replayed
========================  ==================================================================================
``fault``                 ``write``, or ``read`` where writing is not allowed: a trace does not tell reads from writes
``mmap_anon mmap_file``   ``mmap``, anonymous, writable or not
``mprotect``              ``mprotect`` of those of its pages that a recorded call mapped; without access is read-only
``munmap``                ``munmap``
``madvise`` 4             ``dontneed``
``madvise`` 8             ``free``
``madvise`` 22, 23         ``populate`` for reading, for writing, of those of its pages that a recorded call mapped
``brk``                   ``mmap`` or ``munmap`` of what was added to or taken from the heap
``mremap`` in place       ``mmap`` of what was added, or ``munmap`` of what was taken
``mremap`` to elsewhere   ``munmap`` of the old range, ``mmap`` of the new one: the pages do not move along
anything else             nothing; counted in ``Trace.ignored``
========================  ==================================================================================

Every access finds a mapping, and every write one that is writable. Pages of the program's image and stack were
mapped before the first event: they come first, as one mapping for each 2 MiB block, from its first such page to its
last. A page that faults after it was unmapped was mapped by a call that was not recorded: a mapping of that page
is added before the fault and counted in ``Trace.added``.

One process is one mm, and a trace is one mm: of a trace with several processes the busiest is kept, the
others are counted in ``Trace.ignored``. A thread whose first system call is ``brk`` is the first thread of
a process (its dynamic linker asks where the heap is); a thread that begins with another call belongs to
the last process begun before it. That holds for programs that start other programs one after the other.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptstress.errors import UsageError
from ptstress.ranges import Ranges
from ptstress.tracefile import Record, read_records
from ptstress.vocabulary import OP_DTYPE, PAGE_BYTES, PAGE_SHIFT, Verb

MADV_DONTNEED, MADV_FREE, MADV_POPULATE_READ, MADV_POPULATE_WRITE = 4, 8, 22, 23
_MADVISE = {
    MADV_DONTNEED: (Verb.DONTNEED, 0), MADV_FREE: (Verb.FREE, 0), MADV_POPULATE_READ: (Verb.POPULATE, 0),
    MADV_POPULATE_WRITE: (Verb.POPULATE, 1),
}
PROT_WRITE = 2
_BLOCK_SHIFT = 9  # pages of a 2 MiB block
_CLUSTER_GAP = 1 << 18  # pages of 1 GiB

Step = tuple[int, Verb, int, int, int]  # thread, verb, first page, page behind the last, 1 if writable
_ACCESSES = (Verb.READ, Verb.WRITE)
_CHANGES = (Verb.MMAP, Verb.MUNMAP, Verb.MPROTECT)


@dataclass(frozen=True, eq=False)
class Trace:
    """One process's operations in recorded order.

    ``ops``: ``OP_DTYPE``; ``worker`` is the index of the thread in ``tids``.
    ``ignored``: what was recorded and is not replayed, with counts. ``added``: mappings made up.
    """

    path: Path
    ops: np.ndarray
    tids: tuple[int, ...]
    events: int
    ignored: dict[str, int]
    added: int

    def serial(self, workers: int = 1) -> np.ndarray:
        """All operations in recorded order; ``worker`` as in ``streams(workers)``."""
        ops = self.ops.copy()
        ops["worker"] = self._owners(workers)[self.ops["worker"]]
        return ops

    def streams(self, workers: int, first: int = 0) -> list[np.ndarray]:
        """One array of operations for each of ``workers`` workers, numbered from ``first``.

        With fewer workers than threads, the busiest threads come first and each further one joins the
        worker that has least to do; with more, some arrays are empty. ``sync`` lines make a worker wait
        for another one where the order matters: a change of mappings waits for everything recorded before
        it in its range, and an access, dontneed, free or populate for the last change of mappings there. All waits point
        backwards in recorded time, so that the streams cannot block each other for ever.
        """
        ops = self.serial(workers)
        waits = _waits(ops, workers)
        lines: list[list[tuple]] = [[] for _ in range(workers)]
        for op, needs in zip(ops.tolist(), waits, strict=True):
            worker = op[-1]
            for other, count in needs:
                lines[worker].append((first + other, count, 0, Verb.SYNC, 0, first + worker))
            lines[worker].append((*op[:-1], first + worker))
        return [np.array(line, dtype=OP_DTYPE) for line in lines]

    def busiest_span(self) -> tuple[int, int]:
        """Pages ``[start, end)`` of the area with most accesses; areas lie 1 GiB apart or more.

        The trace has accesses: ``footprint`` says how many frames.
        """
        pages = np.unique(self._pages())
        cuts = np.flatnonzero(np.diff(pages) >= _CLUSTER_GAP) + 1
        areas = np.split(pages, cuts)
        counts = np.diff(np.searchsorted(np.sort(self._pages()), [a[0] for a in areas] + [pages[-1] + 1]))
        area = areas[int(np.argmax(counts))]
        return int(area[0]), int(area[-1]) + 1

    def tables_of(self, verb: Verb, table_bits: int) -> list[tuple[int, int]]:
        """Pages of each pte_table that has accesses and that an operation of this verb covers a part of, ascending."""
        tables = np.unique(self._pages() >> np.uint64(table_bits))
        ops = self.ops[(self.ops["verb"] == verb) & (self.ops["start"] < self.ops["end"])]
        first = np.searchsorted(tables, ops["start"] >> np.uint64(table_bits))
        behind = np.searchsorted(tables, ops["end"] - np.uint64(1) >> np.uint64(table_bits), side="right")
        met = sorted({i for low, high in zip(first.tolist(), behind.tolist(), strict=True) for i in range(low, high)})
        return [(table << table_bits, table + 1 << table_bits) for table in tables[met].tolist()]

    def footprint(self, bits: tuple[int, ...]) -> dict[str, int]:
        """Most frames, tables (the pgd included) and VMAs that a serial replay has at once, or a little more.

        ``bits``: index bits of each level, the pte_table first.
        """
        pages = np.unique(self._pages())
        shifts = np.cumsum(bits)[:-1].tolist()
        tables = 1 + sum(len(np.unique(pages >> np.uint64(shift))) for shift in shifts)
        return {"frames": len(pages), "tables": tables, "vmas": _peak_mappings(self.ops)}

    def _pages(self) -> np.ndarray:
        """What is accessed or populated, each page as often as it is."""
        populates = self.ops[self.ops["verb"] == Verb.POPULATE]
        ranges = [np.arange(op["start"], op["end"], dtype="u8") for op in populates]
        return np.concatenate([self.ops["start"][np.isin(self.ops["verb"], _ACCESSES)], *ranges])

    def _owners(self, workers: int) -> np.ndarray:
        """Worker of each thread."""
        counts = np.bincount(self.ops["worker"], minlength=len(self.tids))
        load = [0] * workers
        owners = np.zeros(len(self.tids), dtype="u4")
        for thread in np.argsort(-counts, kind="stable"):
            owners[thread] = load.index(min(load))
            load[owners[thread]] += int(counts[thread])
        return owners


def load_trace(path: Path | str) -> Trace:
    """Read a trace. Raises ``UsageError`` with file, line and what was expected."""
    records = read_records(Path(path))
    ignored: Counter[str] = Counter()
    kept = _busiest_process(records, ignored)
    tids = tuple(dict.fromkeys(record.tid for record in kept))
    steps, added = _with_all_mappings(_translate(kept, {tid: i for i, tid in enumerate(tids)}, ignored), ignored)
    if not steps:
        raise UsageError(f"{path}: nothing to replay ({dict(ignored)}): expected faults, mappings or madvise {MADV_DONTNEED}")
    ops = np.zeros(len(steps), dtype=OP_DTYPE)
    for field, column in zip(("worker", "verb", "start", "end", "arg"), zip(*steps, strict=True), strict=True):
        ops[field] = column
    return Trace(Path(path), ops, tids, len(records), dict(ignored), added)


def _busiest_process(records: list[Record], ignored: Counter[str]) -> list[Record]:
    first_call: dict[int, str] = {}
    for record in records:
        if record.op != "fault":
            first_call.setdefault(record.tid, record.op)
    process: dict[int, int] = {}
    latest = records[0].tid
    for record in records:
        if record.tid not in process:
            if first_call.get(record.tid) == "brk":
                latest = record.tid
            process[record.tid] = latest
    events = Counter(process[record.tid] for record in records)
    busiest = events.most_common(1)[0][0]
    if len(events) > 1:
        ignored["other processes"] = len(records) - events[busiest]
    return [record for record in records if process[record.tid] == busiest]


def _translate(records: list[Record], threads: dict[int, int], ignored: Counter[str]) -> Iterable[Step]:
    """The operations that the records stand for. Counts the others in ``ignored``."""
    heap_end: int | None = None
    moving: dict[int, Record] = {}
    for record in records:
        thread = threads[record.tid]
        start, end = _pages(record.addr, record.length)
        if record.op == "fault":
            yield thread, Verb.WRITE, start, start + 1, 0
        elif record.op == "munmap" and record.length:
            yield thread, Verb.MUNMAP, start, end, 0
        elif record.op in ("mmap_anon", "mmap_file", "mprotect") and record.length:
            verb = Verb.MPROTECT if record.op == "mprotect" else Verb.MMAP
            yield thread, verb, start, end, int(record.arg & PROT_WRITE != 0)
        elif record.op == "madvise" and record.arg in _MADVISE and record.length:
            verb, write = _MADVISE[record.arg]
            yield thread, verb, start, end, write
        elif record.op == "brk":
            end = _pages(record.addr, 0)[1]
            if heap_end is not None and end != heap_end:
                yield from _resize(thread, heap_end, end)
            else:
                ignored["brk that moves nothing"] += 1
            heap_end = end
        elif record.op == "mremap":
            moving[record.tid] = record
        elif record.op == "mremap_to" and record.tid in moving:
            old = moving.pop(record.tid)
            old_start, old_end = _pages(old.addr, old.length)
            if start == old_start:
                yield from _resize(thread, old_end, end)
            else:
                yield thread, Verb.MUNMAP, old_start, old_end, 0
                yield thread, Verb.MMAP, start, end, 1
        else:
            ignored[f"madvise {record.arg}" if record.op == "madvise" else record.op] += 1
    if moving:
        ignored["mremap"] += len(moving)


def _pages(addr: int, length: int) -> tuple[int, int]:
    return addr >> PAGE_SHIFT, (addr + length + PAGE_BYTES - 1) >> PAGE_SHIFT


def _resize(thread: int, old_end: int, end: int) -> Iterable[Step]:
    if end > old_end:
        yield thread, Verb.MMAP, old_end, end, 1
    elif end < old_end:
        yield thread, Verb.MUNMAP, end, old_end, 0


def _with_all_mappings(steps: Iterable[Step], ignored: Counter[str]) -> tuple[list[Step], int]:
    """``steps`` with the mappings that were never recorded, and how many were added midway."""
    mapped = Ranges()  # pages -> the verb that an access to them is, or None where they were unmapped
    before: set[int] = set()
    out: list[Step] = []
    added = 0
    for step in steps:
        thread, verb, start, end, writable = step
        if verb is Verb.WRITE:
            access = mapped.get(start)
            if access is None:
                if mapped.overlapping(start, end):
                    out.append((thread, Verb.MMAP, start, end, 1))
                    added += 1
                else:
                    before.add(start)
                access = Verb.WRITE
                mapped.set(start, end, access)
            out.append((thread, access, start, end, 0))
            continue
        if verb is Verb.POPULATE:
            pieces = [piece for piece in mapped.within(start, end) if piece[2] is not None]
            out += [(thread, verb, lo, hi, int(writable and access is Verb.WRITE)) for lo, hi, access in pieces]
            if not pieces:
                ignored["populate of what was mapped before"] += 1
            continue
        if verb is Verb.MPROTECT:
            pieces = _mapped_pieces(mapped, start, end)
            if not pieces:
                ignored["mprotect of what was mapped before"] += 1
            out += [(thread, verb, *piece, writable) for piece in pieces]
        else:
            pieces = [(start, end)] if verb in _CHANGES else []
            out.append(step)
        for piece in pieces:
            mapped.set(*piece, None if verb is Verb.MUNMAP else Verb.WRITE if writable else Verb.READ)
    first = out[0][0] if out else 0
    return [*((first, Verb.MMAP, start, end, 1) for start, end in _hulls(before)), *out], added


def _mapped_pieces(mapped: Ranges, start: int, end: int) -> list[tuple[int, int]]:
    """The longest parts of ``[start, end)`` that are mapped."""
    pieces: list[tuple[int, int]] = []
    for lo, hi, access in mapped.within(start, end):
        if access is None:
            continue
        if pieces and pieces[-1][1] == lo:
            pieces[-1] = (pieces[-1][0], hi)
        else:
            pieces.append((lo, hi))
    return pieces


def _hulls(pages: set[int]) -> list[tuple[int, int]]:
    """For each run of neighbouring 2 MiB blocks with pages: ``[first, last + 1)``."""
    hulls: list[tuple[int, int]] = []
    for page in sorted(pages):
        if hulls and (page >> _BLOCK_SHIFT) - ((hulls[-1][1] - 1) >> _BLOCK_SHIFT) <= 1:
            hulls[-1] = (hulls[-1][0], page + 1)
        else:
            hulls.append((page, page + 1))
    return hulls


def _peak_mappings(ops: np.ndarray) -> int:
    mapped = Ranges()
    peak = 0
    for start, end, _, verb, _, _ in ops[np.isin(ops["verb"], _CHANGES)].tolist():
        mapped.set(start, end, verb != Verb.MUNMAP)
        peak = max(peak, sum(mapped.values))
    return peak


def _waits(ops: np.ndarray, workers: int) -> list[list[tuple[int, int]]]:
    """For each operation: (worker, number of its operations) that must be complete before.

    Vector clocks leave out what follows from an earlier wait.
    """
    users = [_Users(ops, worker) for worker in range(workers)]
    changed = Ranges()  # pages -> the last operation that mapped, unmapped or protected them
    done = [0] * workers
    known = [[0] * workers for _ in range(workers)]
    after: list[list[int]] = []  # what is known once operation i is complete
    out: list[list[tuple[int, int]]] = []
    owner = ops["worker"].tolist()
    for i, (start, end, _, verb, _, worker) in enumerate(ops.tolist()):
        before = set(changed.overlapping(start, end))
        if verb in _CHANGES:
            before.update(u.latest(start, end, i) for other, u in enumerate(users) if other != worker)
            changed.set(start, end, i)
        needs = []
        mine = known[worker]
        for j in sorted(before - {-1}, reverse=True):
            other = owner[j]
            if other != worker and mine[other] < after[j][other]:
                needs.append((other, after[j][other]))
                mine[:] = map(max, mine, after[j])
        done[worker] += 1
        mine[worker] = done[worker]
        after.append(mine.copy())
        out.append(needs)
    return out


class _Users:
    """Where one worker accesses and discards, to be asked for the last time before a given operation."""

    def __init__(self, ops: np.ndarray, worker: int) -> None:
        mine = ops["worker"] == worker
        accesses = np.flatnonzero(mine & np.isin(ops["verb"], _ACCESSES))
        self._order = accesses[np.argsort(ops["start"][accesses], kind="stable")]
        self._page = ops["start"][self._order]
        self._discards = np.flatnonzero(mine & np.isin(ops["verb"], (Verb.DONTNEED, Verb.FREE, Verb.POPULATE)))
        self._start, self._end = ops["start"][self._discards], ops["end"][self._discards]

    def latest(self, start: int, end: int, before: int) -> int:
        """Index of the last operation in pages ``[start, end)`` below ``before``, or -1."""
        low, high = np.searchsorted(self._page, np.array([start, end], dtype="u8"))
        accesses = self._order[low:high]
        discards = self._discards[(self._start < end) & (self._end > start)]
        return max(int(found[found < before].max(initial=-1)) for found in (accesses, discards))
