"""Histories for the data oracle from a simulated address space, legal by construction.

Nothing here knows the engine. ``Simulation`` is one thread that takes one step of one simulated worker after the other.
"""

from collections.abc import Iterable, Iterator
from errno import EFAULT, EINVAL, ENOMEM
from random import Random

import numpy as np
from page_events import (
    FRESH, age, discard, dontneed, event, free, guard_install, guard_remove, mmap, mprotect, munmap, populate, walk)
from rules import EMPTY, GUARD

from ptstress.vocabulary import EVENT_DTYPE, Verb


class Simulation:
    """An address space with TLBs, zap batches and one mmap_lock; every step of every worker can be the next."""

    ZERO = ("zero page",)
    GUARD = ("guard",)

    def __init__(self, rng: Random, workers: int, pages: list[int], limit: int) -> None:
        self.rng, self.pages, self.limit = rng, sorted(pages), limit
        self.now = 1
        self.vmas: list[tuple[int, int, bool]] = []
        self.entries: dict[int, object] = {}            # page -> ZERO, GUARD or [incarnation, value, free and clean]
        self.tlbs: list[dict[int, object]] = [{} for _ in range(workers)]
        self.dirty: list[set[int]] = [set() for _ in range(workers)]    # pages whose TLB entry has D
        self.protected: set[int] = set()                # pages whose frame may not be written
        self.made = 0
        self.writer, self.readers = False, 0
        self.pins: list[int] = []                       # of entries, each once for each pin
        self.rings: list[list[np.ndarray]] = [[] for _ in range(workers)]

    def burst(self, count: int) -> tuple[list[np.ndarray], dict[int, tuple[int, int]]]:
        """Let each worker do ``count`` operations. Returns (rings, final)."""
        self.rings = [[np.zeros(0, EVENT_DTYPE)] for _ in self.tlbs]
        if self.now == 1 and self.rng.random() < 0.8:
            self.now = 2
            self.vmas.append((0, self.limit, True))
            self.rings[0].append(mmap(1, 1, 0, self.limit))
        running = {w: self._worker(w, count) for w in range(len(self.tlbs))}
        lazy = self.rng.randrange(len(self.tlbs))
        while running:
            w = self.rng.choice(list(running))
            if w == lazy and self.rng.random() < 0.8:
                continue                                # one worker is preempted most of the time
            if next(running[w], self) is self:
                del running[w]
        final = dict.fromkeys(self.pages, EMPTY)
        for page, e in self.entries.items():
            final[page] = (0, 0) if e is self.ZERO else GUARD if e is self.GUARD else tuple(e[:2])
        return [np.concatenate(ring) for ring in self.rings], final

    def _tick(self) -> int:
        self.now += self.rng.choice((0, 1, 1))
        return self.now

    def _worker(self, w: int, count: int) -> Iterator[None]:
        ranges = (self._dontneed, self._walk, self._map, self._free, self._discard, self._protect, self._populate, self._age)
        kinds = (*(self._access,) * 5, self._gup_fast, *ranges, self._guard_install, *(self._guard_remove,) * 2)
        for _ in range(count):
            begin = self._tick()
            yield
            row = yield from self.rng.choice(kinds)(w)
            row["t0"][0], row["t1"][0] = begin, self._tick()
            self.rings[w].append(row)
            yield

    def _vma(self, page: int) -> tuple[int, int, bool] | None:
        return next((v for v in self.vmas if v[0] <= page < v[1]), None)

    def _range(self) -> tuple[int, int]:
        """Around a page: small, a table or so, or very large."""
        start = max(0, self.rng.choice(self.pages) - self.rng.randrange(4))
        size = self.rng.choice((1, 2, 4, 9, 40, 512, 600, 1 << 14))
        if self.rng.random() < 0.3:
            start = start // size * size
        return start, min(self.limit, start + size)

    def _within(self, start: int, end: int) -> list[int]:
        return [p for p in self.pages if start <= p < end]

    def _flush(self, pages: Iterable[int]) -> None:
        for page in pages:
            for tlb, dirty in zip(self.tlbs, self.dirty, strict=True):
                tlb.pop(page, None)
                dirty.discard(page)

    def _flush_freed(self, pages: Iterable[int]) -> None:
        self._flush(pages)

    def _lock(self) -> Iterator[None]:
        while self.writer:
            yield
        self.readers += 1

    def _zap(self, pages: list[int], keeps_guards: bool = False) -> Iterator[None]:
        for page in pages:
            if self.rng.random() < 0.4:
                yield
            if keeps_guards and self._is_guarded(page):
                continue
            self.entries.pop(page, None)
            self.protected.discard(page)

    def _is_guarded(self, page: int) -> bool:
        return self.entries.get(page) is self.GUARD

    def _is_refused(self, page: int) -> bool:
        return self._is_guarded(page)

    def _access(self, w: int) -> Iterator[None]:
        page, store, status = self.rng.choice(self.pages), self.rng.random() < 0.5, 0
        while True:
            held = self.tlbs[w].get(page)
            if held is None or (store and page not in self.dirty[w]):
                held = self.entries.get(page)
                if held is None or held is self.GUARD or (store and (held is self.ZERO or page in self.protected)):
                    yield
                    while self.writer:
                        yield
                    status = self._fault(page, store)
                    if status:
                        break
                    yield
                    continue
                self.tlbs[w][page] = held
                self.dirty[w].discard(page)
                if store:
                    self.dirty[w].add(page)
                    held[2] = False
            yield
            break
        verb, frame = Verb.WRITE if store else Verb.READ, (0, 0)
        if not status and held is not self.ZERO:
            if store:
                self.made += 1
                held[1] = self.made
            frame = tuple(held[:2])
        return event(verb, 0, 0, page, inc=frame[0], value=frame[1], status=status)

    def _gup_fast(self, w: int) -> Iterator[None]:
        """Past the TLB: the entry at one instant, then its frame, whatever became of it."""
        page, store = self.rng.choice(self.pages), self.rng.random() < 0.5
        while (held := self.entries.get(page)) in (None, self.GUARD) or (store and (held is self.ZERO or page in self.protected)):
            while self.writer:
                yield
            if status := self._fault(page, store):
                return event(Verb.GUP_FAST, 0, 0, page, status=status, aux=int(store))
            yield
        self.pins.append(id(held))
        while self.rng.random() < 0.5:
            yield
        if store:
            self.made += 1
            held[1:] = self.made, False
        self.pins.remove(id(held))
        frame = (0, 0) if held is self.ZERO else tuple(held[:2])
        return event(Verb.GUP_FAST, 0, 0, page, inc=frame[0], value=frame[1], aux=int(store))

    def _fault(self, page: int, store: bool) -> int:
        vma = self._vma(page)
        if vma is None or (store and not vma[2]):
            return -EFAULT
        if self.rng.random() < 0.05:
            return -ENOMEM
        if self._is_refused(page):
            return -EFAULT
        held = self.entries.get(page)
        if store:
            self.protected.discard(page)
            if held is not None and held is not self.ZERO:
                held[2] = False                         # the fault sets D
        if store and (held is None or held is self.ZERO):
            self._flush([page])
            self.made += 1
            self.entries[page] = [FRESH | self.made, FRESH | self.made, False]
        elif held is None:
            self.entries[page] = self.ZERO
        return 0

    def _is_whole(self, start: int, end: int) -> bool:
        inside = sorted((max(v[0], start), min(v[1], end)) for v in self.vmas if v[0] < end and v[1] > start)
        return sum(b - a for a, b in inside) == end - start

    def _dontneed(self, w: int) -> Iterator[None]:
        start, end = self._range()
        yield from self._lock()
        whole = self._is_whole(start, end)
        pages = self._within(start, end)
        yield from self._zap([p for p in pages if self._vma(p)], keeps_guards=True)
        self.readers -= 1
        yield
        self._flush(pages)
        yield
        return dontneed(0, 0, start, end, status=0 if whole else -ENOMEM)

    def _free(self, w: int) -> Iterator[None]:
        start, end = self._range()
        yield from self._lock()
        whole = self._is_whole(start, end)
        pages = self._within(start, end)
        for page in pages:
            if self.rng.random() < 0.4:
                yield
            held = self.entries.get(page)
            if isinstance(held, list) and self._vma(page):
                held[2] = True
        self.readers -= 1
        yield
        self._flush_freed(pages)
        yield
        return free(0, 0, start, end, status=0 if whole else -ENOMEM)

    def _discard(self, w: int) -> Iterator[None]:
        start, end = self._range()
        yield from self._lock()
        dropped = []
        for page in self._within(start, end):
            if self.rng.random() < 0.4:
                yield
            held = self.entries.get(page)
            if isinstance(held, list) and held[2] and id(held) not in self.pins and self._vma(page):
                del self.entries[page]
                self.protected.discard(page)
                dropped.append(page)
        self.readers -= 1
        yield
        self._flush(dropped)
        yield
        return discard(0, 0, start, end)

    def _walk(self, w: int) -> Iterator[None]:
        start, end = self._range()
        yield from self._lock()
        present = []
        for page in self._within(start, end):
            if self.rng.random() < 0.4:
                yield
            if page in self.entries and not self._is_guarded(page) and self._vma(page):
                present.append(page)
        self.readers -= 1
        yield
        return walk(0, 0, start, end, present)

    def _map(self, w: int) -> Iterator[None]:
        """mmap or munmap, mostly of a lot."""
        start, end = self._range() if self.rng.random() < 0.5 else (0, self.limit)
        unmap, status, writable = self.rng.random() < 0.3, 0, self.rng.random() < 0.8
        while self.writer or self.readers:
            yield
        self.writer = True
        pages = [p for p in self._within(start, end) if self._vma(p)]
        for a, b, rw in [v for v in self.vmas if v[0] < end and v[1] > start]:
            self.vmas.remove((a, b, rw))
            self.vmas += [(a, start, rw)] * (a < start) + [(end, b, rw)] * (end < b)
        yield
        if unmap:
            self.writer, self.readers = False, 1        # downgrade
        yield from self._zap(pages)
        self._flush(pages)
        yield
        if unmap:
            self.readers -= 1
            return munmap(0, 0, start, end)
        if self.rng.random() < 0.1:
            status = -ENOMEM                            # no room for another VMA, but the old one is gone
        else:
            self.vmas.append((start, end, writable))
        yield
        self.writer = False
        return mmap(0, 0, start, end, writable, status)

    def _protect(self, w: int) -> Iterator[None]:
        """mprotect, up to the first hole."""
        start, end = self._range() if self.rng.random() < 0.5 else (0, self.limit)
        allow = self.rng.random() < 0.6
        while self.writer or self.readers:
            yield
        self.writer = True
        upto = start
        for a, b, rw in sorted(v for v in self.vmas if v[0] < end and v[1] > start):
            if a > upto:
                break
            upto = min(b, end)
            self.vmas.remove((a, b, rw))
            self.vmas += [(a, start, rw)] * (a < start) + [(end, b, rw)] * (end < b) + [(max(a, start), upto, allow)]
        yield
        pages = [] if allow else self._within(start, upto)
        for page in pages:
            self.protected.add(page)
            yield
        self._flush(pages)
        self.writer = False
        return mprotect(0, 0, start, end, allow, 0 if upto == end else -ENOMEM)

    def _populate(self, w: int) -> Iterator[None]:
        """Of a few pages: the others would all have to be known."""
        start = self.rng.choice(self.pages)
        end, write, status, done = start + self.rng.randint(1, 3), self.rng.random() < 0.5, 0, 0
        yield from self._lock()
        for page in range(start, min(end, self.limit)):
            vma = self._vma(page)
            if page not in self.pages or vma is None:
                status = -ENOMEM
            elif write and not vma[2]:
                status = -EINVAL
            while not status and ((held := self.entries.get(page)) in (None, self.GUARD)
                                  or (write and (held is self.ZERO or page in self.protected))):
                status = self._fault(page, write)
                yield
            if status:
                break
            done += 1
            yield
        self.readers -= 1
        yield
        return populate(0, 0, start, end, done, write, status if status or done == end - start else -ENOMEM)

    def _age(self, w: int) -> Iterator[None]:
        """Of what is there, anything may be young."""
        row = yield from self._walk(w)
        start, bits = int(row["start"][0]), np.unpackbits(row[1:].view(np.uint8), bitorder="little")
        young = [start + int(i) for i in np.flatnonzero(bits) if self.rng.random() < 0.7]
        return age(0, 0, start, int(row["end"][0]), young)

    def _guard_install(self, w: int) -> Iterator[None]:
        """Markers where nothing is; whatever is there is zapped first, and what came back meanwhile again."""
        start, end = self._range()
        yield from self._lock()
        whole = self._is_whole(start, end)
        pages = [p for p in self._within(start, end) if self._vma(p)]
        while (found := (yield from self._put_guards(pages))) is not None:
            yield from self._zap([p for p in pages if p >= found], keeps_guards=True)
        self.readers -= 1
        yield
        self._flush_guarded(pages)      # and what others have cleared, and not flushed yet
        yield
        return guard_install(0, 0, start, end, status=0 if whole else -ENOMEM)

    def _flush_guarded(self, pages: Iterable[int]) -> None:
        self._flush(pages)

    def _put_guards(self, pages: list[int]) -> Iterator[None]:
        """The page at which something else was, or None."""
        for page in pages:
            if self.rng.random() < 0.4:
                yield
            if self.entries.setdefault(page, self.GUARD) is not self.GUARD:
                return page
        return None

    def _take_guard(self, page: int) -> None:
        del self.entries[page]

    def _guard_remove(self, w: int) -> Iterator[None]:
        start, end = self._range()
        yield from self._lock()
        for page in self._within(start, end):
            if self.rng.random() < 0.4:
                yield
            if self._is_guarded(page):
                self._take_guard(page)
        whole = self._is_whole(start, end)
        self.readers -= 1
        yield
        return guard_remove(0, 0, start, end, status=0 if whole else -ENOMEM)
