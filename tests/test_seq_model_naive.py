"""The model's rules of pages and tables, said again without any cleverness."""

from collections import Counter
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptstress.model import AddressSpace
from ptstress.model.geometry import Geometry
from ptstress.strategies import TINY, geometries, sequences
from ptstress.vocabulary import Verb
from random_ops import random_ops


class Naive:
    """Pages and tables as sets; looks at everything, each time. VMAs it takes from the model."""

    def __init__(self, bits, reclaim):
        self.geometry = Geometry.of(bits)
        self.reclaim = reclaim
        self.allows = {}
        self.present = {}
        self.lazy = set()
        self.guards = set()
        self.protected = set()      # present pages without their write bit
        self.tables = set()

    def span(self, level, page):
        size = 1 << self.geometry.shifts[level]
        return range(page // size * size, page // size * size + size)

    def make_tables(self, page):
        self.tables |= {(level, self.span(level, page)[0]) for level in range(self.geometry.table_levels)}

    def bring_in(self, page, writes):
        if self.present.get(page, -1) < writes:
            self.present[page] = bool(writes)
            self.make_tables(page)
        if writes:
            self.protected.discard(page)

    def apply(self, op, vmas_before):
        if op.accesses:
            if self.allows.get(op.start, -1) >= op.writes and op.start not in self.guards:
                self.bring_in(op.start, op.writes)
                if op.writes:
                    self.lazy.discard(op.start)
        elif op.verb is Verb.MPROTECT:
            for page in takewhile(self.allows.__contains__, range(op.start, op.end)):
                self.protected |= {page} if self.allows[page] and not op.arg and page in self.present else set()
                self.allows[page] = op.arg
        elif op.verb is Verb.POPULATE:
            allowed = takewhile(lambda page: self.allows.get(page, -1) >= op.arg, range(op.start, op.end))
            for page in takewhile(lambda page: page not in self.guards, allowed):
                if op.arg:
                    self.lazy.discard(page)
                self.bring_in(page, op.arg)
        elif op.verb is Verb.SCAN:
            self.drop_empty()
        elif op.start < op.end <= self.geometry.pages and op.verb not in (Verb.WALK, Verb.AGE, Verb.POPULATE):
            if op.verb is Verb.FREE:
                self.lazy |= {page for page in range(op.start, op.end) if self.present.get(page)}
                return
            dropped = set(range(op.start, op.end))
            if op.verb is Verb.DISCARD:
                dropped &= self.lazy
            if op.verb is Verb.GUARD_REMOVE:
                self.guards -= dropped
                return
            if op.verb is Verb.GUARD_INSTALL:
                dropped &= self.allows.keys()
                self.guards |= dropped
                for page in dropped:
                    self.make_tables(page)
            self.lazy -= dropped
            for page in dropped:
                self.present.pop(page, None)
                self.protected.discard(page)
            if op.verb is Verb.DISCARD:
                self.drop_empty()
            if op.verb in (Verb.DISCARD, Verb.GUARD_INSTALL):
                return
            if op.verb is Verb.DONTNEED:
                self.drop_covered(op, vmas_before)
                return
            for page in range(op.start, op.end):
                self.allows.pop(page, None)
                self.guards.discard(page)
            self.tables = {(level, p) for level, p in self.tables if any(q in self.allows for q in self.span(level, p))}
            if op.verb is Verb.MMAP:
                self.allows.update(dict.fromkeys(range(op.start, op.end), op.arg))

    def drop_empty(self):
        # Whatever emptied it has told so.
        if "async" in self.reclaim:
            kept = {page for page, anon in self.present.items() if anon or "zero" not in self.reclaim} | self.guards
            gone = {p for lev, p in self.tables if lev == 0 and not set(self.span(0, p)) & kept}
            self.present = {page: anon for page, anon in self.present.items() if self.span(0, page)[0] not in gone}
            self.drop({(0, p) for p in gone})

    def drop_covered(self, op, vmas_before):
        for start, end, _, _ in vmas_before if "sync" in self.reclaim.split("+") else ():
            covered = range(max(start, op.start), min(end, op.end))
            spans = {p: set(self.span(0, p)) for lev, p in self.tables if lev == 0}
            self.drop({(0, p) for p, span in spans.items() if span <= set(covered) and not span & self.guards})

    def drop(self, gone):
        while gone:
            self.tables -= gone
            above = {t for t in self.tables for lev, p in gone if t[0] == lev + 1 and p in self.span(*t)}
            gone = {t for t in above if "upper" in self.reclaim and not self.has_tables(*t)}

    def has_tables(self, level, page):
        return any(lev == level - 1 and p in self.span(level, page) for lev, p in self.tables)


def tables(space):
    return {(level, page) for level, page, _ in space.tables.rows()}


def check_equal(space, naive):
    """Pages, tables of every level and how full they are, counters, VMAs."""
    assert tables(space) == naive.tables
    assert {page: bool(entry[0]) for page, entry in space.tables.pages()} == naive.present
    assert set(space.tables.guards()) == naive.guards
    assert space.rss == sum(naive.present.values())
    assert space.table_bytes == 4096 * sum(level < 3 for level, _ in naive.tables)
    used = {(level, page): n for level, page, n in space.tables.rows()}
    for level, page in naive.tables:
        below = naive.present.keys() | naive.guards if level == 0 else {p for lev, p in naive.tables if lev == level - 1}
        assert used[level, page] == sum(p in naive.span(level, page) for p in below)
    vmas = [vma.row() for vma in space.vmas.vmas]
    assert {p: w for s, e, w, _ in vmas for p in range(s, e)} == naive.allows
    assert all(a[1] <= b[0] for a, b in zip(vmas, vmas[1:], strict=False))


@given(data=st.data(), reclaim=st.sampled_from(["never", "sync", "sync+async", "sync+upper", "sync+async+zero+upper"]))
@settings(max_examples=100, deadline=None)
def test_the_model_equals_the_naive_rules(data, reclaim):
    bits = data.draw(geometries())
    space, naive = AddressSpace(bits, reclaim), Naive(bits, reclaim)
    for op in data.draw(sequences(bits, 25)):
        before = [vma.row() for vma in space.vmas.vmas]
        space.apply(op)
        naive.apply(op, before)
        check_equal(space, naive)


@pytest.mark.parametrize("bits", TINY, ids=str)
def test_the_model_equals_the_naive_rules_in_long_runs(bits):
    freed, discarded, guarded = Counter(), 0, 0
    space, naive = AddressSpace(bits, "sync"), Naive(bits, "sync")
    for op in random_ops(len(bits), bits, 1200):
        before, had, rss = [vma.row() for vma in space.vmas.vmas], tables(space), space.rss
        space.apply(op)
        naive.apply(op, before)
        check_equal(space, naive)
        freed[op.verb] += len(had - tables(space))
        guarded += len(naive.guards)
        discarded += rss - space.rss if op.verb is Verb.DISCARD else 0
    # The run was worth it.
    assert freed[Verb.DONTNEED] > 10
    assert freed[Verb.MUNMAP] + freed[Verb.MMAP] > 10
    assert discarded > 0
    assert guarded > 100
    assert freed[Verb.FREE] == freed[Verb.DISCARD] == 0
