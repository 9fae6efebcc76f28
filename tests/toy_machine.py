"""A toy concurrent address space: the steps of real operations, interleaved at random in one thread.

Each operation is a generator that yields wherever another one may run. Cpus have TLBs, faults drop and
retake what they hold, flushes come after the clearing; so its runs are what ``explain`` must explain, and
its busted variants are what it must refuse. It shares no code with the model's steps.
"""

import itertools
from collections.abc import Iterator, Sequence
from errno import EFAULT, EINVAL, ENOMEM
from random import Random

from ptstress.model import AddressSpace, Observation
from ptstress.model.explain_case import GUARD
from ptstress.operation import Op
from ptstress.vocabulary import Verb

Steps = Iterator[None]
STAMP_BIT = 1 << 63

# BUSTED: deliberately wrong, for testing the tester only.
BUSTED = {
    "no-flush": "a dontneed does not flush",
    "no-recheck": "a fault does not look again whether the page is still empty",
    "stale-vma": "a fault trusts the VMA that it found before it waited",
    "late-clear": "a dontneed clears its pages a second time",
    "skip-last": "a dontneed leaves its last page",
    "no-free-flush": "a free does not flush",
    "early-look": "a discard looks whether a page is dirty before it takes its lock",
    "no-protect-flush": "an mprotect that takes the permission to write leaves it in TLBs",
    "populate-skips": "a populate leaves its last page",
    "no-guard-recheck": "a fault does not look again whether the page was guarded",
    "drops-guards": "a dontneed takes guard markers out",
    "skips-guard": "a guard_install leaves its last page",
    "no-upgrade-flush": "a write to the zero page leaves the zero page in TLBs",
}


class Frame:
    """A page of data; ``incarnation`` 0: the zero page. ``lazy``: given to FREE. ``dirty``: D of its entry."""

    def __init__(self, incarnation: int, value: int, lazy: bool = False) -> None:
        self.incarnation = incarnation
        self.value = value
        self.lazy = lazy
        self.pins = 0
        self.dirty = incarnation != 0 and not lazy


class Toy:
    """One run of ``branches`` from the state of ``space``."""

    def __init__(self, space: AddressSpace, rng: Random, busted: str = "") -> None:
        self.allows = {p: v.writable for v in space.vmas.vmas for p in range(v.start, v.end)}
        lazy = set(space.tables.lazy(0, space.geometry.pages))
        self.frames = {p: Frame(i, v, p in lazy) for p, (i, v) in space.tables.pages()}
        self.writable = {p for p, frame in self.frames.items() if frame.incarnation and self.allows[p]}
        self.guards = set(space.tables.guards())
        self.rng = rng
        self.busted = busted
        self.stamps = 1 << 20
        self.clock = 0
        self.readers = 0
        self.writer = False
        self.locked: set[int] = set()
        self.tlbs: list[dict[int, Frame]] = []
        self.dirty_tlbs: list[set[int]] = []     # pages whose TLB entry has D
        self.flushes: list[int] = []

    def run(self, branches: Sequence[Sequence[Op]]) -> list[list[Observation]]:
        """Interleave the branches; returns what each operation saw."""
        self.tlbs = [{} for _ in branches]
        self.dirty_tlbs = [set() for _ in branches]
        self.flushes = [0] * len(branches)
        seen: list[list[Observation]] = [[] for _ in branches]
        running = [self._branch(i, ops, seen[i]) for i, ops in enumerate(branches)]
        while running:
            steps = self.rng.choice(running)
            self.clock += 1
            if next(steps, self) is self:
                running.remove(steps)
        return seen

    def final(self) -> dict[int, tuple[int, int]]:
        """Present pages, page -> (incarnation, value), and guard markers."""
        present = {page: (frame.incarnation, frame.value) for page, frame in self.frames.items()}
        return present | dict.fromkeys(self.guards, GUARD[:2])

    def _branch(self, cpu: int, ops: Sequence[Op], seen: list[Observation]) -> Steps:
        for op in ops:
            t0 = self.clock
            out: list[Observation] = []
            yield
            yield from getattr(self, f"_{op.verb.label}")(cpu, op, out)
            yield
            self.clock += 1
            seen.append(out[0]._replace(t0=t0, t1=self.clock))

    # ---- accesses

    def _read(self, cpu: int, op: Op, out: list[Observation]) -> Steps:
        yield from self._access(cpu, op, out)

    def _write(self, cpu: int, op: Op, out: list[Observation]) -> Steps:
        yield from self._access(cpu, op, out)

    def _access(self, cpu: int, op: Op, out: list[Observation]) -> Steps:
        page, writes = op.start, op.verb is Verb.WRITE
        while True:
            frame = self.tlbs[cpu].get(page)
            usable = frame is not None and (not writes or page in self.dirty_tlbs[cpu])
            if not usable:
                flushes = self.flushes[cpu]
                frame = self.frames.get(page)
                usable = frame is not None and (not writes or page in self.writable)
                sets_dirty = writes and usable
                if sets_dirty:
                    frame.dirty = True
                yield
                if frame is not None and flushes == self.flushes[cpu]:
                    self.tlbs[cpu][page] = frame
                    self.dirty_tlbs[cpu].discard(page)
                    if sets_dirty:
                        self.dirty_tlbs[cpu].add(page)
            yield
            if usable:
                if writes:
                    self.stamps += 1
                    frame.value = self.stamps
                out.append(Observation(0, frame.value, frame.incarnation))
                return
            if not (yield from self._fault(page, writes)):
                out.append(Observation(-EFAULT))
                return

    def _gup_fast(self, _cpu: int, op: Op, out: list[Observation]) -> Steps:
        """The page as it is at one instant; its frame is used later, through a pin."""
        page, writes = op.start, bool(op.arg)
        while (frame := self.frames.get(page)) is None or (writes and page not in self.writable):
            yield
            if not (yield from self._fault(page, writes)):
                out.append(Observation(-EFAULT))
                return
            yield
        frame.pins += 1
        yield
        if writes:
            self.stamps += 1
            frame.value = self.stamps
            frame.dirty = True
        frame.pins -= 1
        out.append(Observation(0, frame.value, frame.incarnation))

    def _fault(self, page: int, writes: bool) -> Iterator[None]:
        early = self.allows.get(page)
        yield
        yield from self._down_read()
        allows = early if self.busted == "stale-vma" else self.allows.get(page)
        permitted = allows is not None and (allows or not writes) and page not in self.guards
        if permitted:
            before = self.frames.get(page)
            yield
            yield from self._lock(page)
            if self._is_still(page, before) or self.busted == "no-recheck":
                yield from self._install(page, before, writes)
            self.locked.discard(page)
        self.readers -= 1
        return permitted

    def _is_still(self, page: int, before: Frame | None) -> bool:
        """Whether the page is as it was before its lock was taken, when it was not guarded."""
        if self.busted == "no-guard-recheck" and page in self.guards:
            self.guards.discard(page)
            return True
        return self.frames.get(page) is before and page not in self.guards

    def _install(self, page: int, before: Frame | None, writes: bool) -> Steps:
        if before is None and not writes:
            self.frames[page] = Frame(0, 0)
        elif writes and (before is None or not before.incarnation):
            # Only what holds no lock sees the entry empty meanwhile.
            self.frames.pop(page, None)
            self.writable.discard(page)
            yield
            if self.busted != "no-upgrade-flush":
                self._flush([page])
            self.stamps += 1
            self.frames[page] = Frame(STAMP_BIT | self.stamps, STAMP_BIT | self.stamps)
        if writes:
            self.writable.add(page)
            self.frames[page].dirty = True

    # ---- range operations

    def _walk(self, _cpu: int, op: Op, out: list[Observation]) -> Steps:
        bits = 0
        yield from self._down_read()
        for i, page in enumerate(range(op.start, op.end)):
            yield from self._lock(page)
            bits |= (page in self.frames and page in self.allows) << i
            self.locked.discard(page)
            yield
        self.readers -= 1
        out.append(Observation(0, present=bits.bit_count(), bits=bits))

    def _dontneed(self, _cpu: int, op: Op, out: list[Observation]) -> Steps:
        yield from self._down_read()
        pages = [page for page in range(op.start, op.end) if page in self.allows]
        status = 0 if len(pages) == op.end - op.start else -ENOMEM
        if self.busted == "drops-guards":
            self.guards.difference_update(pages)
        zapped = pages[:-1] if self.busted == "skip-last" else pages * (2 if self.busted == "late-clear" else 1)
        yield from self._zap(zapped)
        self.readers -= 1
        yield
        if self.busted != "no-flush":
            self._flush(pages)
        out.append(Observation(status))

    def _free(self, _cpu: int, op: Op, out: list[Observation]) -> Steps:
        yield from self._down_read()
        pages = [page for page in range(op.start, op.end) if page in self.allows]
        for page in pages:
            yield from self._lock(page)
            frame = self.frames.get(page)
            if frame is not None and frame.incarnation:
                frame.lazy, frame.dirty = True, False
            self.locked.discard(page)
            yield
        self.readers -= 1
        yield
        if self.busted != "no-free-flush":
            self._flush(pages)
        out.append(Observation(0 if len(pages) == op.end - op.start else -ENOMEM))

    def _discard(self, _cpu: int, op: Op, out: list[Observation]) -> Steps:
        yield from self._down_read()
        dropped = []
        for page in range(op.start, op.end):
            frame = self.frames.get(page)
            early = frame is not None and not frame.dirty
            yield
            yield from self._lock(page)
            frame = self.frames.get(page)
            clean = early if self.busted == "early-look" else frame is not None and not frame.dirty
            if frame is not None and frame.lazy and not frame.pins and clean:
                del self.frames[page]
                self.writable.discard(page)
                dropped.append(page)
            self.locked.discard(page)
            yield
        self.readers -= 1
        yield
        self._flush(dropped)
        out.append(Observation(0))

    def _munmap(self, _cpu: int, op: Op, out: list[Observation]) -> Steps:
        yield from self._down_write()
        pages = [page for page in range(op.start, op.end) if self.allows.pop(page, None) is not None]
        downgraded = self.rng.random() < 0.5
        if downgraded:
            self.readers += 1
            self.writer = False
        yield from self._zap(pages)
        self.guards.difference_update(pages)
        self._flush(pages)
        if downgraded:
            self.readers -= 1
        else:
            self.writer = False
        out.append(Observation(0))

    def _mmap(self, _cpu: int, op: Op, out: list[Observation]) -> Steps:
        yield from self._down_write()
        pages = range(op.start, op.end)
        yield from self._zap([page for page in pages if page in self.allows])
        self.guards.difference_update(pages)
        self.allows.update(dict.fromkeys(pages, bool(op.arg)))
        yield
        self._flush(pages)
        self.writer = False
        out.append(Observation(0))

    def _mprotect(self, _cpu: int, op: Op, out: list[Observation]) -> Steps:
        yield from self._down_write()
        pages = list(itertools.takewhile(self.allows.__contains__, range(op.start, op.end)))
        for page in pages:
            self.allows[page] = bool(op.arg)
            yield
            if not op.arg:
                self.writable.discard(page)
        if not op.arg and self.busted != "no-protect-flush":
            self._flush(pages)
        self.writer = False
        out.append(Observation(0 if len(pages) == op.end - op.start else -ENOMEM))

    def _populate(self, _cpu: int, op: Op, out: list[Observation]) -> Steps:
        status = done = 0
        yield from self._down_read()
        for page in range(op.start, op.end):
            if page not in self.allows or (op.arg and not self.allows[page]):
                status = -EINVAL if page in self.allows else -ENOMEM
                break
            if self.busted != "populate-skips" or page + 1 < op.end:
                yield from self._bring_in(page, bool(op.arg))
                if page not in self.frames:
                    status = -EFAULT
                    break
            done += 1
            yield
        self.readers -= 1
        out.append(Observation(status, value=done))

    def _bring_in(self, page: int, writes: bool) -> Steps:
        """Until it is there under its lock, or guarded; for writing it counts as written then."""
        while page not in self.guards:
            before = self.frames.get(page)
            yield
            yield from self._lock(page)
            if page in (self.writable if writes else self.frames):
                self.frames[page].dirty |= writes
                self.locked.discard(page)
                return
            if self._is_still(page, before):
                yield from self._install(page, before, writes)
            self.locked.discard(page)

    def _guard_install(self, _cpu: int, op: Op, out: list[Observation]) -> Steps:
        yield from self._down_read()
        pages = [page for page in range(op.start, op.end) if page in self.allows]
        guarded = pages[:-1] if self.busted == "skips-guard" else pages
        left = list(guarded)
        while left:
            yield from self._lock(left[0])
            is_there = left[0] in self.frames
            if not is_there:
                self.guards.add(left[0])
            self.locked.discard(left.pop(0))
            yield
            if is_there:
                yield from self._zap(guarded)
                left = list(guarded)
        self._flush(pages)
        self.readers -= 1
        out.append(Observation(0 if len(pages) == op.end - op.start else -ENOMEM))

    def _guard_remove(self, _cpu: int, op: Op, out: list[Observation]) -> Steps:
        yield from self._down_read()
        pages = [page for page in range(op.start, op.end) if page in self.allows]
        for page in pages:
            yield from self._lock(page)
            self.guards.discard(page)
            self.locked.discard(page)
            yield
        self.readers -= 1
        out.append(Observation(0 if len(pages) == op.end - op.start else -ENOMEM))

    def _age(self, _cpu: int, _op: Op, out: list[Observation]) -> Steps:
        yield
        out.append(Observation(0))

    def _scan(self, _cpu: int, _op: Op, out: list[Observation]) -> Steps:
        """It frees tables, which are not here."""
        yield
        out.append(Observation(0))

    def _zap(self, pages: Sequence[int]) -> Steps:
        for page in pages:
            yield from self._lock(page)
            self.frames.pop(page, None)
            self.writable.discard(page)
            self.locked.discard(page)
            yield

    def _flush(self, pages: Sequence[int]) -> None:
        for cpu, tlb in enumerate(self.tlbs):
            self.flushes[cpu] += 1
            for page in pages:
                tlb.pop(page, None)
                self.dirty_tlbs[cpu].discard(page)

    # ---- locks

    def _lock(self, page: int) -> Steps:
        """The lock of a page's table; here each page has its own."""
        while page in self.locked:
            yield
        self.locked.add(page)

    def _down_read(self) -> Steps:
        while self.writer:
            yield
        self.readers += 1

    def _down_write(self) -> Steps:
        while self.writer or self.readers:
            yield
        self.writer = True
