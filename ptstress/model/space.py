"""The sequential reference model of an address space: what every operation must return and leave behind.

``AddressSpace`` is the efficient, changing form; ``step`` is the same as a pure function. Pages are
numbered from 0; ranges are half-open. Semantics are those of Linux 6.18 for private anonymous memory
without huge pages, with every ``mmap`` at a fixed address.

``reclaim``: when pte_tables are freed other than with their last VMA; names with ``+`` between them:
    never   not at all (Linux before 6.14);
    async   by a scan, if the VMA was marked since: by whatever may have left an empty table behind;
    taskwork  as async, by whoever marked it, at the end of its operation;
    zero    by a scan, tables that map nothing but the zero page too; mapping that marks the VMA;
    sync    by one DONTNEED that covers the whole span of the table inside one VMA and leaves no guard marker there (6.14 and
            later);
    upper   with each pte_table that one of the others frees, the upper tables that have no entry left then.
Otherwise upper tables are freed with the last VMA of their span only.

A ``discard`` drops exactly the pages that a ``free`` marked and no write, or populate for writing, has touched since.

Not modelled: reverse mappings, swap, file mappings, failing allocations, address-space limits other than
``max_vmas``.
"""

from collections.abc import Callable, Iterator
from errno import EFAULT, EINVAL, ENOMEM

import numpy as np

from ptstress.model.geometry import Geometry
from ptstress.model.result import STAMP_BIT, Result
from ptstress.model.tables import UNNAMED, ZERO, Page, Tables
from ptstress.model.vma import Hole, VmaSet
from ptstress.operation import Op
from ptstress.vocabulary import OPERATIONS, Verb

RECLAIM = ("never", "sync", "async", "taskwork", "zero", "upper")

_REPLAY_PART = 1 << 16
_DONE = Result(0)
_FAULT = Result(-EFAULT)
_INVALID = Result(-EINVAL)
_NO_MEMORY = Result(-ENOMEM)


class AddressSpace:
    """VMAs, tables and pages. ``apply`` does one operation.

    ``max_vmas`` is Linux's ``vm.max_map_count``: mmap fails if there are more VMAs than that, and munmap
    if there are that many and it would make one more; ``None``: no limit. A write takes the next value
    and a fresh frame the next incarnation of the model's own; ``learn`` replaces them by observed ones.
    """

    def __init__(self, bits: tuple[int, ...], reclaim: str = "sync", max_vmas: int | None = None) -> None:
        self.policies = frozenset(reclaim.split("+"))
        if not self.policies <= set(RECLAIM):
            raise ValueError(f"reclaim {reclaim!r}: expected one of {', '.join(RECLAIM)}, or several with + between them")
        self.geometry = Geometry.of(bits)
        self.reclaim = reclaim
        self.max_vmas = max_vmas
        self.vmas = VmaSet(self.geometry.pages)
        self.tables = Tables(self.geometry)
        self._writes = 0
        self._frames = 0
        # Pages that were aged, or that FREE made look so, since a fault made them: whether they were accessed since.
        self._aged: dict[int, bool] = {}
        # Pages that lost their write bit to mprotect, or were not there any more when it came back.
        self._protected: set[int] = set()
        self._work = False
        self._operations = {verb: getattr(self, f"_{verb.label}") for verb in (*OPERATIONS, Verb.SYNC)}

    def copy(self) -> "AddressSpace":
        """An independent copy."""
        other = AddressSpace(self.geometry.bits, self.reclaim, self.max_vmas)
        other.vmas = self.vmas.copy()
        other.tables = self.tables.copy()
        other._aged, other._protected = self._aged.copy(), self._protected.copy()
        other._writes, other._frames = self._writes, self._frames
        return other

    def reborn(self) -> "AddressSpace":
        """An empty one, whose stamps go on where those of this one end."""
        other = AddressSpace(self.geometry.bits, self.reclaim, self.max_vmas)
        other._writes, other._frames = self._writes, self._frames
        return other

    def parts(self) -> Iterator[tuple[int, "AddressSpace"]]:
        """``(first global page, address space)`` of each mm: of the only one."""
        yield 0, self

    @property
    def table_bytes(self) -> int:
        """Bytes of all pte, pmd and pud tables."""
        return self.tables.table_bytes

    @property
    def rss(self) -> int:
        """Present pages without the zero page."""
        return self.tables.rss

    def apply(self, op: Op) -> Result:
        """Do one operation."""
        return self._do(op.verb, op.start, op.end, op.arg)

    def _do(self, verb: Verb, start: int, end: int, arg: int) -> Result:
        result = self._operations[verb](start, end, arg)
        if self._work:
            self._work = False
            self.scan()
        return result

    def learn(self, page: int, incarnation: int, value: int) -> None:
        """The frame at ``page``, which is not the zero page, really is ``incarnation`` and holds ``value``."""
        self.tables.rename(page, (incarnation, value))

    def replay(self, ops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Do an array of operations. Returns, for each, its status and the table bytes after it."""
        status = np.zeros(len(ops), dtype=np.int32)
        table_bytes = np.zeros(len(ops), dtype=np.uint64)
        columns = [ops[name] for name in ("verb", "start", "end", "arg")]
        # In parts, because Python's integers take many times the memory of an array's.
        for first in range(0, len(ops), _REPLAY_PART):
            part = zip(*(column[first : first + _REPLAY_PART].tolist() for column in columns), strict=True)
            for i, (verb, start, end, arg) in enumerate(part, first):
                status[i] = self._do(verb, start, end, arg).status
                table_bytes[i] = self.tables.table_bytes
        return status, table_bytes

    def _read(self, page: int, _end: int, _arg: int) -> Result:
        entry = self.tables.get(page)
        if entry is None:
            # Permission is checked before any table is allocated.
            if self.vmas.find(page) is None or self.tables.is_guarded(page):
                return _FAULT
            self._install(page, ZERO)
            entry = ZERO
        self._touch(page)
        return Result(0, entry[1], entry[0], fresh=entry == UNNAMED)

    def _write(self, page: int, _end: int, _arg: int) -> Result:
        vma = self.vmas.find(page)
        if vma is None or not vma.writable or self.tables.is_guarded(page):
            return _FAULT
        entry = self.tables.get(page)
        fresh = entry is None or entry in (ZERO, UNNAMED)
        if fresh:
            self.vmas.prepare_anon(vma)
            self._frames += 1
        self._writes += 1
        incarnation = STAMP_BIT | self._frames if fresh else entry[0]
        if entry is None or entry == ZERO or page in self._protected:
            self._install(page, (incarnation, self._writes))
        else:
            self._touch(page)
            self.tables.set(page, (incarnation, self._writes))
        return Result(0, self._writes, incarnation, 0, fresh)

    def _gup_fast(self, page: int, end: int, arg: int) -> Result:
        # The slow way is taken where the fast one cannot succeed, so that alone it is an access like any other.
        return self._write(page, end, 0) if arg & 1 else self._read(page, end, 0)

    def _walk(self, start: int, end: int, _arg: int) -> Result:
        if start > end or end > self.geometry.pages:
            return _INVALID
        seen = bytearray((end - start + 7) // 8)
        for page in self.tables.present(start, end):
            seen[(page - start) >> 3] |= 1 << ((page - start) & 7)
        return Result(0, bits=int.from_bytes(seen, "little"))

    def _mmap(self, start: int, end: int, arg: int) -> Result:
        if start >= end:
            return _INVALID
        if end > self.geometry.pages or (self.max_vmas is not None and len(self.vmas) > self.max_vmas):
            return _NO_MEMORY
        replaced = self._munmap(start, end, 0)
        if replaced.status == 0:
            self.vmas.insert(start, end, bool(arg & 1))
        return replaced

    def _munmap(self, start: int, end: int, _arg: int) -> Result:
        if start >= end or end > self.geometry.pages:
            return _INVALID
        if self.max_vmas is not None and len(self.vmas) >= self.max_vmas and self.vmas.punches_hole(start, end):
            return _NO_MEMORY
        hole = self.vmas.remove(start, end)
        if hole is not None:
            self.tables.zap(hole.start, hole.end)
            self.tables.unguard(hole.start, hole.end)
            self.tables.free_behind(hole)
            self._tell_neighbours(hole)
        return _DONE

    def _exit(self, _start: int, _end: int, _arg: int) -> Result:
        # An only mm stays; several: see AddressSpaces.
        return _INVALID

    def _mprotect(self, start: int, end: int, arg: int) -> Result:
        if start == end:
            return _DONE
        at, writable = start, bool(arg & 1)
        while at < end:
            vma = self.vmas.find(at)
            if vma is None:
                return _NO_MEMORY
            upto = min(vma.end, end)
            if vma.writable != writable:
                if not self.vmas.protect(vma, at, upto, writable, self.max_vmas):
                    return _NO_MEMORY
                if not writable:
                    self._protected.update(self.tables.present(at, upto))
            at = upto
        return _DONE if start < end else _NO_MEMORY

    def _populate(self, start: int, end: int, arg: int) -> Result:
        if start > end:
            return _INVALID
        for page in range(start, end):
            vma, entry = self.vmas.find(page), self.tables.get(page)
            if vma is None:
                return Result(-ENOMEM, page - start)
            if arg & 1 and not vma.writable:
                return Result(-EINVAL, page - start)
            if self.tables.is_guarded(page):
                return Result(-EFAULT, page - start)
            if arg & 1 and (entry is None or entry == ZERO):
                self.vmas.prepare_anon(vma)
                self._install(page, UNNAMED)
            elif arg & 1 and page in self._protected:
                self._install(page, entry)      # the write bit is given back, with A and D
            elif arg & 1:
                self.tables.unmark_lazy(page)
            elif entry is None:
                self._install(page, ZERO)
        return Result(0, end - start)

    def _age(self, start: int, end: int, _arg: int) -> Result:
        if start > end or end > self.geometry.pages:
            return _INVALID
        young = maybe = 0
        for page in self.tables.present(start, end):
            touched = self._aged.get(page)
            young |= (touched is None) << (page - start)
            maybe |= (touched is True) << (page - start)
            self._aged[page] = False
        return Result(0, bits=young, maybe=maybe)

    def _install(self, page: int, entry: Page) -> None:
        """By a fault, which sets A, and D and the write bit for a frame."""
        if entry == ZERO and "zero" in self.policies:
            self._mark(page)
        self.tables.set(page, entry)
        self._aged.pop(page, None)
        self._protected.discard(page)

    def _touch(self, page: int) -> None:
        """An access to a page that may be in a TLB, so that its entry may not tell."""
        if page in self._aged:
            self._aged[page] = True

    def _sync(self, _worker: int, _ops: int, _arg: int) -> Result:
        # Waiting for another worker is nothing in a single thread.
        return _DONE

    def _dontneed(self, start: int, end: int, _arg: int) -> Result:
        return self._madvise(start, end, self._zap_and_reclaim)

    def _zap_and_reclaim(self, start: int, end: int) -> None:
        self.tables.zap(start, end)
        if "sync" in self.policies:
            self.tables.reclaim(start, end, upper="upper" in self.policies)
        if self.tables.any_table(start, end):
            self._left_behind(start)

    def _left_behind(self, page: int) -> None:
        """Tables of the VMA that holds ``page`` may be empty."""
        if self.policies & {"async", "taskwork", "zero"}:
            self._mark(page)

    def _mark(self, page: int) -> None:
        vma = self.vmas.find(page)
        if vma is not None:
            vma.marked = True
            self._work = "taskwork" in self.policies

    def _tell_neighbours(self, hole: Hole) -> None:
        in_table = self.geometry.table_pages - 1
        if hole.floor > hole.start & ~in_table:
            self._left_behind(hole.floor - 1)
        if hole.ceiling <= hole.end - 1 | in_table:
            self._left_behind(hole.ceiling)

    def scan(self) -> None:
        """Free the empty tables of marked VMAs, those at their edges too."""
        for vma in self.vmas.vmas:
            if vma.marked:
                vma.marked = False
                self.tables.free_empty(vma.start, vma.end, "zero" in self.policies, "upper" in self.policies)

    def _scan(self, _start: int, _end: int, _arg: int) -> Result:
        self.scan()
        return _DONE

    def _free(self, start: int, end: int, _arg: int) -> Result:
        return self._madvise(start, end, self._mark_lazy)

    def _mark_lazy(self, start: int, end: int) -> None:
        self.tables.mark_lazy(start, end)
        self._left_behind(start)
        self._aged.update((page, False) for page in self.tables.present(start, end) if self.tables.get(page) != ZERO)

    def _guard_install(self, start: int, end: int, _arg: int) -> Result:
        return self._madvise(start, end, self._zap_and_guard)

    def _zap_and_guard(self, start: int, end: int) -> None:
        self.vmas.prepare_anon(self.vmas.find(start))
        self.tables.zap(start, end)
        self.tables.guard(start, end)

    def _guard_remove(self, start: int, end: int, _arg: int) -> Result:
        return self._madvise(start, end, self._unguard)

    def _unguard(self, start: int, end: int) -> None:
        self.tables.unguard(start, end)
        self._left_behind(start)

    def _madvise(self, start: int, end: int, behavior: Callable[[int, int], None]) -> Result:
        """``behavior`` for the part of each VMA that lies in the range."""
        if start > end:
            return _INVALID
        if start == end:
            return _DONE
        if end > self.geometry.pages:
            return _INVALID
        covered = 0
        for vma in self.vmas.overlapping(start, end):
            lo, hi = max(start, vma.start), min(end, vma.end)
            covered += hi - lo
            behavior(lo, hi)
        # A gap is an error, but what is mapped is done all the same.
        return _DONE if covered == end - start else _NO_MEMORY

    def _discard(self, start: int, end: int, _arg: int) -> Result:
        if start > end or end > self.geometry.pages:
            return _INVALID
        for page in self.tables.lazy(start, end):
            self.tables.zap(page, page + 1)
            self._left_behind(page)
        self.scan()
        return _DONE


def step(space: AddressSpace, op: Op) -> tuple[AddressSpace, Result]:
    """The next state and the result; ``space`` itself stays as it is."""
    after = space.copy()
    result = after.apply(op)
    return after, result


def run(space: AddressSpace, ops: list[Op]) -> list[Result]:
    """Do operations in order; ``space`` changes."""
    return [space.apply(op) for op in ops]


