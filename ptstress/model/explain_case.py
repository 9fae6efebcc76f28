"""A concurrent run, made ready for the search in ``explain``: pages become cells, VMAs become segments.

A cell is a page that can be present at all: it is so at the start, or a branch reads, writes or populates it. A
segment is a longest run of pages that every range operation but a walk treats alike.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from errno import EFAULT, EINVAL, ENOMEM, ESRCH
from itertools import repeat
from typing import NamedTuple

from ptstress.model.result import Observation
from ptstress.model.space import AddressSpace
from ptstress.model.spaces import AddressSpaces
from ptstress.model.tables import UNNAMED
from ptstress.operation import PROTECTING, WRITABLE, Op
from ptstress.pages import local_page, page_text
from ptstress.vocabulary import ACCESSES, Verb

# What a segment allows.
UNMAPPED, READABLE, READ_WRITE = 0, 1, 2

# A frame: (incarnation, value, bit mask of the branches whose TLB may hold it).
Frame = tuple[int, int, int]
ZERO_PAGE = 0        # incarnation of the zero page
UNBOUND = -1         # incarnation not known yet: the first access tells
FRESH = -1           # value of a frame never written: its incarnation
UNKNOWN = -2         # value of a frame written by an operation without a record
GUARD: Frame = (-3, 0, 0)       # in place of a frame: a guard marker, which is not present

_ZAPS = (Verb.DONTNEED, Verb.MUNMAP, Verb.MMAP, Verb.DISCARD, Verb.GUARD_INSTALL)
#: After these a page that could not be touched may be.
_ALLOWING = (*PROTECTING, Verb.GUARD_REMOVE)


def is_present(frame: Frame | None) -> bool:
    """Whether a cell holds a frame."""
    return frame is not None and frame != GUARD


class Task(NamedTuple):
    """An operation with what was seen of it, in terms of cells and segments."""

    op: Op
    seen: Observation
    index: int
    cells: tuple[int, ...]          # that it concerns, ascending
    segments: tuple[int, int]       # that it concerns, [first, last)
    bits: tuple[int, ...]           # walk: what it saw in each of its cells
    needs: tuple[int, ...]          # by branch: operations that ended before this one began
    inert: bool                     # returned an error that comes without any effect
    grants: int                     # mmap, mprotect: what its pages allow afterwards


class Case:
    """A run to explain. ``contradiction``: why no interleaving can, or ``None`` if it takes a search."""

    def __init__(
        self,
        space: AddressSpace | AddressSpaces,
        known: bool,
        branches: Sequence[Sequence[Op]],
        seen: Sequence[Sequence[Observation]],
        final: Mapping[int, tuple[int, int]] | None,
        realtime: bool,
        may_fail: bool,
        lockless: bool = False,
    ) -> None:
        self.limit = space.geometry.pages
        self.may_fail = may_fail
        self.lockless = lockless
        # Scans may unmap the zero page at any time.
        self.zero_goes = any("zero" in part.policies for _, part in space.parts())
        self.contradiction: str | None = None
        self._ops = branches
        self._parts = dict(space.parts())
        present = {first + page: entry for first, part in self._parts.items() for page, entry in part.tables.pages()}
        touched = {op.start for ops in branches for op in ops if op.verb in ACCESSES}
        for ops, row in zip(branches, seen, strict=True):
            touched.update(page for op, o in zip(ops, row, strict=True) for page in _populated(op, o))
        self.pages = sorted(present.keys() | touched)
        self._edges = self._segment_edges(branches)
        self.segment_of = [self.segment(page) for page in self.pages]
        self.branches = [
            tuple(self._task(op, o, b, i, seen, realtime) for i, (op, o) in enumerate(zip(ops, seen[b], strict=True)))
            for b, ops in enumerate(branches)
        ]
        self.all_branches = (1 << len(branches)) - 1
        guarded = {first + page for first, part in self._parts.items() for page in part.tables.guards()}
        self.start_cells = tuple(GUARD if page in guarded else self._frame(present.get(page), known) for page in self.pages)
        self.start_segments = tuple(self._allows(page) for page in self._edges[:-1])
        self.start_labels = {entry[0] for entry in present.values() if entry != UNNAMED} if known else set()
        self.seen_by: dict[int, list[tuple[int, int]]] = {}
        for b, tasks in enumerate(self.branches):
            for task in tasks:
                if task.op.verb in ACCESSES and task.seen.incarnation:
                    self.seen_by.setdefault(task.seen.incarnation, []).append((b, task.index))
        self.last_access = self._last_by_cell(ACCESSES)
        self.last_walk = self._last_by_cell((Verb.WALK,))
        self.last_populate = self._last_by_cell((Verb.POPULATE,))
        self.last_zap = self._last_by_cell(_ZAPS)
        self.last_map = self._last_by_cell(_ALLOWING)
        self.last_guard = self._last_by_cell((Verb.GUARD_INSTALL,))
        self.last_discard = self._last_by_cell((Verb.DISCARD,))
        lazy = {first + page for first, part in self._parts.items() for page in part.tables.lazy(0, self.limit)}
        self.start_lazy = frozenset(cell for cell, page in enumerate(self.pages) if page in lazy)
        self.final = self._final(final)

    def remains(self, last: list[tuple[int, ...]], cell: int, pos: tuple[int, ...], but: int = -1) -> bool:
        """Whether a branch other than ``but`` still has an operation of the kind that ``last`` lists."""
        return any(at <= i for b, (at, i) in enumerate(zip(pos, last[cell], strict=True)) if b != but)

    def _segment_edges(self, branches: Sequence[Sequence[Op]]) -> list[int]:
        edges = {edge for first in self._parts for edge in (first, first + self.limit)}
        vmas = ((first, vma) for first, part in self._parts.items() for vma in part.vmas.vmas)
        edges.update(first + edge for first, vma in vmas for edge in (vma.start, vma.end))
        edges.update(edge for ops in branches for op in ops if op.verb is not Verb.WALK for edge in (op.start, op.end))
        return sorted(edges) + [1 << 64]

    def segment(self, page: int) -> int:
        """The segment that holds ``page``."""
        return bisect_right(self._edges, page) - 1

    def _task(
        self, op: Op, o: Observation, b: int, index: int, seen: Sequence[Sequence[Observation]], realtime: bool
    ) -> Task:
        if op.verb is Verb.EXIT and o.status == 0 and len(self._parts) > 1:
            # What an exit does to the pages of its mm: it unmaps them all.
            op = Op(Verb.MUNMAP, op.start, op.start + self.limit)
        # A populate concerns what it brought in, and the marker that it met, or the page that was unmapped when it came back.
        failed_at = o.status == -EFAULT or (self.lockless and o.status != 0)
        end = op.start + o.value + failed_at if op.verb is Verb.POPULATE else op.end
        lo, hi = bisect_left(self.pages, op.start), bisect_left(self.pages, end)
        cells = tuple(range(lo, max(lo, hi)))
        expected = self._static_status(op) if o.status != -ESRCH else -ESRCH
        inert = expected is not None
        if inert and o.status != expected:
            self._contradict(f"t{b}: {op} returned {o.status}, expected {expected}")
        if self.may_fail and o.status == -ENOMEM and op.verb in (Verb.MMAP, Verb.MUNMAP):
            inert = True
        if o.status == -ESRCH and not any(map(self._is_exit_beside, repeat(op), repeat(o), self._ops, seen)):
            self._contradict(f"t{b}: {op} found its mm exiting, but no exit of it was under way")
        bits = ()
        if op.verb is Verb.WALK and not inert:
            bits = tuple(o.bits >> (self.pages[c] - op.start) & 1 for c in cells)
            if sum(bits) != o.bits.bit_count() or o.present != o.bits.bit_count() or o.status:
                self._contradict(f"t{b}: {op} saw a page that nobody touched, or miscounted")
        return Task(
            op=op,
            seen=o,
            index=index,
            cells=cells,
            segments=(self.segment(op.start), max(self.segment(op.start), self.segment(op.end))),
            bits=bits,
            needs=tuple(self._ended_before(o, others) if realtime and c != b else 0 for c, others in enumerate(seen)),
            inert=inert,
            grants=(READ_WRITE if op.arg & WRITABLE else READABLE) if op.verb in PROTECTING else 0,
        )

    @staticmethod
    def _is_exit_beside(op: Op, o: Observation, ops: Sequence[Op], seen: Sequence[Observation]) -> bool:
        """Whether one of ``ops`` is an exit that succeeded, of the mm of ``op`` and at the same time."""
        return any(
            other.verb is Verb.EXIT and other.mm == op.mm and row.status == 0 and row.t0 <= o.t1 and o.t0 <= row.t1
            for other, row in zip(ops, seen, strict=True)
        )

    @staticmethod
    def _ended_before(o: Observation, others: Sequence[Observation]) -> int:
        return sum(1 for other in others if 0 < other.t1 < o.t0)

    def _static_status(self, op: Op) -> int | None:
        """The status of an operation that does nothing, whatever the others do; ``None`` if it does something."""
        valid = op.start <= op.end and op.end - (op.start - local_page(op.start)) <= self.limit
        if op.verb is Verb.SCAN:
            return 0                # tables only
        if op.verb is Verb.AGE:
            return 0 if valid else -EINVAL
        if op.verb in ACCESSES or (valid and op.start < op.end):
            return None
        if op.verb is Verb.EXIT:
            return 0 if len(self._parts) > 1 else -EINVAL
        if op.verb in (Verb.MPROTECT, Verb.POPULATE) and op.start < op.end:
            return None             # what lies before the end of the address space is done
        if op.start == op.end and op.verb not in (Verb.MMAP, Verb.MUNMAP):
            return 0
        return -ENOMEM if op.verb is Verb.MPROTECT or (op.verb is Verb.MMAP and op.start < op.end) else -EINVAL

    def _frame(self, entry: tuple[int, int] | None, known: bool) -> Frame | None:
        if entry is None:
            return None
        if entry == UNNAMED:
            return UNBOUND, FRESH, self.all_branches
        incarnation, value = entry
        return (incarnation, value, self.all_branches) if known or not incarnation else (UNBOUND, UNKNOWN, self.all_branches)

    def _allows(self, page: int) -> int:
        part = self._parts.get(page - local_page(page))
        vma = part.vmas.find(local_page(page)) if part is not None else None
        return UNMAPPED if vma is None else READ_WRITE if vma.writable else READABLE

    def _last_by_cell(self, verbs: tuple[Verb, ...]) -> list[tuple[int, ...]]:
        """By cell and branch: the last operation of these verbs on it, or -1."""
        last = [[-1] * len(self.branches) for _ in self.pages]
        for b, tasks in enumerate(self.branches):
            for task in tasks:
                if task.op.verb in verbs and not task.inert:
                    for cell in task.cells:
                        last[cell][b] = task.index
        return [tuple(row) for row in last]

    def _final(self, final: Mapping[int, tuple[int, int]] | None) -> tuple[tuple[int, int] | None, ...] | None:
        if final is None:
            return None
        stray = sorted(page for page in final.keys() - set(self.pages) if final[page] != GUARD[:2])
        if stray:
            self._contradict(f"{page_text(stray[0])} is present at the end, but nobody touched it")
        return tuple(final.get(page) for page in self.pages)

    def _contradict(self, why: str) -> None:
        self.contradiction = self.contradiction or why


def _populated(op: Op, seen: Observation) -> range:
    """Pages that a populate brought in, or may have been about to."""
    return range(op.start, min(op.end, op.start + seen.value + 1)) if op.verb is Verb.POPULATE else range(0)
