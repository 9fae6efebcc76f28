"""Does any interleaving explain a concurrent run? Outcomes written by hand, and those of a toy machine."""

from errno import EFAULT, EINVAL, ENOMEM
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptstress.model import AddressSpace, AddressSpaces, Observation, explain
from ptstress.model.explain_case import GUARD
from ptstress.program import parse
from ptstress.strategies import programs
from toy_machine import BUSTED, Toy

BITS = (2, 1, 1)
# Incarnations of frames and values written; A0 and V0 are those of the prefix.
A0, A1, A2 = (1 << 63 | i for i in (1, 101, 102))
V0, V1, V2 = 1, 201, 202
ZERO = Observation(0, 0, 0)
GUARDED = GUARD[:2]
DONE = Observation(0)


def data(value, incarnation):
    return Observation(0, value, incarnation)


def populated(pages, errno=0):
    return Observation(-errno, value=pages)


def failed(errno):
    return Observation(-errno)


def seen(*pages, of):
    """A walk over pages [0, of) that found ``pages`` present."""
    return Observation(0, present=len(pages), bits=sum(1 << page for page in pages))


def verdict(text, results, final=None, **options):
    """Explain ``results``, a list for each branch, of the program ``text``."""
    program = parse(text)
    space = AddressSpaces(BITS, mms=program.mms())
    for op in program.prefix:
        assert space.apply(op).status == 0
    return explain(space, program.branches, results, final, **options).verdict


EXPLAINED = {
    # name: (program, results, final pages)
    "a read before the write": (
        "prefix: mmap(p0..p4); t0: write(p1) | t1: read(p1)", [[data(V1, A1)], [ZERO]], {1: (A1, V1)}),
    "a read after the write": (
        "prefix: mmap(p0..p4); t0: write(p1) | t1: read(p1)", [[data(V1, A1)], [data(V1, A1)]], {1: (A1, V1)}),
    "a read between the fault and the store sees the fresh frame": (
        "prefix: mmap(p0..p4); t0: write(p1) | t1: read(p1)", [[data(V1, A1)], [data(A1, A1)]], {1: (A1, V1)}),
    "a frame that came and went before the write had its way": (
        "prefix: mmap(p0..p4); t0: write(p1) | t1: read(p1) | t2: dontneed(p0..p4)",
        [[data(V1, A1)], [data(A2, A2)], [DONE]], {1: (A1, V1)}),
    "a zero page is upgraded": (
        "prefix: mmap(p0..p4); read(p1); t0: write(p1) | t1: read(p1); read(p1)",
        [[data(V1, A1)], [ZERO, data(V1, A1)]], {1: (A1, V1)}),
    "dontneed pages one by one": (
        "prefix: mmap(p0..p4); write(p0); t0: dontneed(p0..p4) | t1: write(p3); read(p0)",
        [[DONE], [data(V1, A1), ZERO]], {0: (0, 0)}),
    "a walk sees what is there when it comes by": (
        "prefix: mmap(p0..p4); t0: write(p0); write(p3) | t1: walk(p0..p4)",
        [[data(V1, A1), data(V2, A2)], [seen(3, of=4)]], None),
    "a write is dropped by a dontneed that visits later": (
        "prefix: mmap(p0..p4); t0: write(p1); read(p1) | t1: dontneed(p0..p4)", [[data(V1, A1), ZERO], [DONE]], {1: (0, 0)}),
    "a stale TLB entry, until the dontneed returns": (
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: read(p2); read(p1) | t2: read(p1)",
        [[DONE], [ZERO, data(V0, A0)], [ZERO]], None),
    "a write through a stale TLB entry is lost": (
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: write(p1) | t2: read(p1)",
        [[DONE], [data(V1, A0)], [ZERO]], {1: (0, 0)}),
    "a fault beside a munmap": (
        "prefix: mmap(p0..p4); t0: munmap(p0..p4) | t1: read(p1); read(p1)", [[DONE], [ZERO, failed(EFAULT)]], {}),
    "a read in the window of a munmap between VMA and zap": (
        "prefix: mmap(p0..p4); write(p1); t0: munmap(p0..p4) | t1: read(p3); read(p1)",
        [[DONE], [failed(EFAULT), data(V0, A0)]], {}),
    "a mapping that is replaced has no hole": (
        "prefix: mmap(p0..p4); write(p1); t0: mmap(p0..p4, ro) | t1: read(p1); write(p1)",
        [[DONE], [ZERO, failed(EFAULT)]], {1: (0, 0)}),
    "dontneed beside a munmap finds a gap": (
        "prefix: mmap(p0..p8); t0: munmap(p2..p4) | t1: dontneed(p0..p8)", [[DONE], [failed(ENOMEM)]], {}),
    "a write that was in flight when the permission went": (
        "prefix: mmap(p0..p4); write(p1); t0: mprotect(p0..p4, ro); read(p1); read(p1) | t1: write(p1)",
        [[DONE, data(V0, A0), data(V1, A0)], [data(V1, A0)]], {1: (A0, V1)}),
    "a read of what was populated": (
        "prefix: mmap(p0..p4); t0: populate(p0..p2, write) | t1: read(p1); read(p1); write(p1)",
        [[populated(2)], [ZERO, data(A1, A1), data(V1, A1)]], {0: (A2, A2), 1: (A1, V1)}),
    "what is populated may go at once": (
        "prefix: mmap(p0..p4); t0: populate(p0..p2); walk(p0..p4) | t1: dontneed(p1)",
        [[populated(2), seen(0, of=4)], [DONE]], {0: (0, 0)}),
    "a populate stops at a hole": (
        "prefix: mmap(p0..p4); t0: populate(p2..p6, write); walk(p0..p4) | t1: read(p3)",
        [[populated(2, ENOMEM), seen(2, 3, of=4)], [data(A1, A1)]], {2: (A2, A2), 3: (A1, A1)}),
    "... or where writing is not allowed": (
        "prefix: mmap(p0..p4); mmap(p3, ro); t0: populate(p2..p4, write) | t1: age(p0..p4)",
        [[populated(1, EINVAL)], [DONE]], {2: (A1, A1)}),
    "a write goes through the entry that a munmap has not cleared yet": (
        "prefix: mmap(p0..p4); write(p1); t0: munmap(p0..p4) | t1: write(p2); write(p1)",
        [[DONE], [failed(EFAULT), data(V1, A0)]], {}),
    "a populate beside the munmap of another mm": (
        "prefix: mmap(p0..p4); mmap(m1:p0..p4); t0: populate(p0..p2) | t1: walk(p0..p2); munmap(m1:p0..p4); walk(p0..p2)",
        [[populated(2)], [seen(0, of=2), DONE, seen(0, of=2)]], {0: (0, 0), 1: (0, 0)}),
    "a guarded page fails until it is unguarded": (
        "prefix: mmap(p0..p4); write(p1); t0: guard_install(p0..p2); read(p1); guard_remove(p1); read(p1) | t1: read(p0)",
        [[DONE, failed(EFAULT), DONE, ZERO], [failed(EFAULT)]], {0: GUARDED, 1: (0, 0)}),
    "a page comes while its range is being guarded": (
        "prefix: mmap(p0..p4); t0: guard_install(p0..p4); dontneed(p0..p4) | t1: write(p2); walk(p0..p4); read(p2)",
        [[DONE, DONE], [data(V1, A1), seen(2, of=4), failed(EFAULT)]], {2: GUARDED}),
    "a populate stops at a guard": (
        "prefix: mmap(p0..p4); guard_install(p2); t0: populate(p0..p4, write) | t1: guard_remove(p0..p4); populate(p2..p4)",
        [[populated(2, EFAULT)], [DONE, populated(2)]], {0: (A1, A1), 1: (A2, A2), 2: (0, 0), 3: (0, 0)}),
    "a guard_install passes over a gap": (
        "prefix: mmap(p0..p2); mmap(p3..p4); t0: guard_install(p0..p4); read(p3) | t1: read(p2)",
        [[failed(ENOMEM), failed(EFAULT)], [failed(EFAULT)]], {3: GUARDED}),
    "a dontneed empties the pages between which they are populated": (
        "prefix: mmap(p0..p4); t0: populate(p0..p2) | t1: dontneed(p0..p2)", [[populated(2)], [DONE]], {0: (0, 0)}),
    "a write fails and leaves the page that it brought": (
        "prefix: mmap(p0..p4); t0: mprotect(p0..p4, ro) | t1: write(p1)", [[DONE], [failed(EFAULT)]], {1: (A1, A1)}),
    "what lies before a hole is protected": (
        "prefix: mmap(p0..p4); t0: mprotect(p2..p8, ro); write(p2) | t1: write(p1)",
        [[failed(ENOMEM), failed(EFAULT)], [data(V1, A1)]], {1: (A1, V1)}),
    "errors without effect": (
        "prefix: mmap(p0..p4); t0: munmap(p3..p3); mmap(p15..p17); dontneed(p2..p2) | t1: walk(p4..p2)",
        [[failed(EINVAL), failed(ENOMEM), DONE], [failed(EINVAL)]], {}),
    "memory pressure drops a page that is free": (
        "prefix: mmap(p0..p4); write(p1); t0: free(p0..p4) | t1: discard(p0..p4) | t2: read(p1); read(p1)",
        [[DONE], [DONE], [data(V0, A0), ZERO]], {1: (0, 0)}),
    "memory pressure finds nothing free yet": (
        "prefix: mmap(p0..p4); write(p1); t0: free(p0..p4) | t1: discard(p0..p4)", [[DONE], [DONE]], {1: (A0, V0)}),
    "a write before the free is done does not save the page": (
        "prefix: mmap(p0..p4); write(p1); t0: free(p0..p4); discard(p0..p4) | t1: write(p1)",
        [[DONE, DONE], [data(V1, A0)]], {}),
    "a freed page is read through a stale TLB entry until the discard returns": (
        "prefix: mmap(p0..p4); write(p1); free(p1); t0: discard(p1) | t1: write(p1) | t2: read(p1); read(p1)",
        [[DONE], [data(V1, A1)], [data(V0, A0), data(V1, A1)]], {1: (A1, V1)}),
    "pages that nobody touched stay": (
        "prefix: mmap(p0..p8); write(p7); t0: dontneed(p0..p4) | t1: walk(p0..p8)", [[DONE], [seen(7, of=8)]], {7: (A0, V0)}),
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_outcomes_that_can_be(name):
    text, results, final = EXPLAINED[name]
    # The stamps of the prefix are those that the model itself hands out: A0, V0.
    assert verdict(text, results, final) == "ok"


IMPOSSIBLE = {
    "a lost write": (
        "prefix: mmap(p0..p4); t0: write(p1) | t1: read(p2)", [[data(V1, A1)], [ZERO]], {2: (0, 0)}),
    "a write of its own thread is not seen": (
        "prefix: mmap(p0..p4); t0: write(p1); read(p1) | t1: read(p1)", [[data(V1, A1), ZERO], [ZERO]], None),
    "an old value after the new one": (
        "prefix: mmap(p0..p4); write(p1); t0: write(p1) | t1: read(p1); read(p1)",
        [[data(V1, A0)], [data(V1, A0), data(V0, A0)]], None),
    "a page comes back after it was dropped": (
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: read(p1); read(p1)",
        [[DONE], [ZERO, data(V0, A0)]], None),
    "a stale TLB entry after the dontneed returned, in its own thread": (
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4); read(p1) | t1: read(p2)",
        [[DONE, data(V0, A0)], [ZERO]], None),
    "a stale TLB entry although the return was already known": (
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4); write(p2) | t1: read(p2); read(p1)",
        [[DONE, data(V1, A1)], [data(V1, A1), data(V0, A0)]], None),
    "a page that survives a dontneed": (
        "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: read(p2)", [[DONE], [ZERO]], {1: (A0, V0), 2: (0, 0)}),
    "dontneed from the end": (
        "prefix: mmap(p0..p4); write(p0); write(p3); t0: dontneed(p0..p4) | t1: walk(p3); walk(p0)",
        [[DONE], [seen(of=1), seen(0, of=1)]], None),
    "one frame at two pages": (
        "prefix: mmap(p0..p4); t0: write(p1) | t1: write(p2)", [[data(V1, A1)], [data(V2, A1)]], None),
    "two fresh frames for one page without a drop between": (
        "prefix: mmap(p0..p4); t0: write(p1) | t1: write(p1)", [[data(V1, A1)], [data(V2, A2)]], None),
    "a value nobody wrote": (
        "prefix: mmap(p0..p4); t0: write(p1) | t1: read(p1)", [[data(V1, A1)], [data(V2, A1)]], None),
    "a hole while a mapping is replaced": (
        "prefix: mmap(p0..p4); t0: mmap(p0..p4) | t1: read(p1)", [[DONE], [failed(EFAULT)]], None),
    "a fault for nothing": (
        "prefix: mmap(p0..p4); t0: munmap(p0..p2) | t1: read(p3)", [[DONE], [failed(EFAULT)]], None),
    "a page present after its munmap": (
        "prefix: mmap(p0..p4); t0: munmap(p0..p4); walk(p0..p4) | t1: write(p1)",
        [[DONE, seen(1, of=4)], [data(V1, A1)]], None),
    "a page left behind by a munmap": (
        "prefix: mmap(p0..p4); t0: munmap(p0..p4) | t1: write(p1)", [[DONE], [data(V1, A1)]], {1: (A1, V1)}),
    "memory pressure drops a page that is not free": (
        "prefix: mmap(p0..p4); write(p1); t0: discard(p0..p4) | t1: read(p1)", [[DONE], [ZERO]], {1: (0, 0)}),
    "a page that a populate keeps is dropped": (
        "prefix: mmap(p0..p4); write(p1); free(p1); t0: populate(p1, write); read(p1) | t1: discard(p0..p4)",
        [[populated(1), ZERO], [DONE]], {1: (0, 0)}),
    "zero behind a populate": (
        "prefix: mmap(p0..p4); t0: populate(p1, write); read(p1) | t1: read(p2)", [[populated(1), ZERO], [ZERO]], None),
    "a read of a guarded page": (
        "prefix: mmap(p0..p4); t0: guard_install(p0..p2); read(p1) | t1: read(p1)", [[DONE, ZERO], [ZERO]], None),
    "a guard that goes by itself": (
        "prefix: mmap(p0..p4); t0: guard_install(p0..p2); read(p1) | t1: dontneed(p0..p4)",
        [[DONE, failed(EFAULT)], [DONE]], {}),
    "a failure that no guard explains": (
        "prefix: mmap(p0..p4); t0: guard_remove(p0..p4); read(p1) | t1: guard_install(p2)",
        [[DONE, failed(EFAULT)], [DONE]], {2: GUARDED}),
    "a populate that skips a page": (
        "prefix: mmap(p0..p4); t0: populate(p0..p2); walk(p0..p4) | t1: read(p0)",
        [[populated(2), seen(0, of=4)], [ZERO]], None),
    "a populate stops for nothing": (
        "prefix: mmap(p0..p4); t0: populate(p0..p2) | t1: read(p0)", [[populated(1, ENOMEM)], [ZERO]], None),
    "a write after the free is lost": (
        "prefix: mmap(p0..p4); write(p1); t0: free(p1); write(p1) | t1: discard(p0..p4)",
        [[DONE, data(V1, A0)], [DONE]], {}),
    "a write after a free of the prefix is lost": (
        "prefix: mmap(p0..p4); write(p1); free(p1); t0: write(p1); read(p1) | t1: discard(p0..p4)",
        [[data(V1, A0), ZERO], [DONE]], {1: (0, 0)}),
    "the zero page is dropped": (
        "prefix: mmap(p0..p4); read(p1); t0: free(p0..p4); discard(p0..p4) | t1: read(p2)", [[DONE, DONE], [ZERO]], {2: (0, 0)}),
    "a write to a read-only mapping": (
        "prefix: mmap(p0..p4, ro); t0: write(p1) | t1: read(p1)", [[data(V1, A1)], [ZERO]], None),
    "a write after the permission went": (
        "prefix: mmap(p0..p4); write(p1); t0: mprotect(p0..p4, ro); write(p1) | t1: read(p1)",
        [[DONE, data(V1, A0)], [data(V0, A0)]], None),
    "a second write although the first one failed": (
        "prefix: mmap(p0..p4); write(p1); t0: mprotect(p0..p4, ro) | t1: write(p1); write(p1)",
        [[DONE], [failed(EFAULT), data(V1, A0)]], None),
    "dontneed finds a gap where there is none": (
        "prefix: mmap(p0..p8); t0: munmap(p0..p2) | t1: dontneed(p4..p8)", [[DONE], [failed(ENOMEM)]], None),
    "a walk that passes over a page": (
        "prefix: mmap(p0..p4); write(p1); t0: walk(p0..p4) | t1: read(p1)", [[seen(of=4)], [data(V0, A0)]], None),
    "a walk that sees a page nobody touched": (
        "prefix: mmap(p0..p4); t0: walk(p0..p4) | t1: read(p1)", [[seen(2, of=4)], [ZERO]], None),
    "a page at the end that nobody touched": (
        "prefix: mmap(p0..p4); t0: read(p1) | t1: read(p1)", [[ZERO], [ZERO]], {1: (0, 0), 3: (0, 0)}),
    "an error that did not come": (
        "prefix: mmap(p0..p4); t0: munmap(p3..p3) | t1: read(p1)", [[DONE], [ZERO]], None),
    "no memory, but allocations do not fail": (
        "prefix: mmap(p0..p4); t0: write(p1) | t1: read(p1)", [[failed(ENOMEM)], [ZERO]], None),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_outcomes_that_cannot_be(name):
    text, results, final = IMPOSSIBLE[name]
    assert verdict(text, results, final) == "violation"


def test_without_known_stamps_the_prefix_says_only_what_is_present():
    text = "prefix: mmap(p0..p4); write(p1); t0: read(p1) | t1: read(p1)"
    results = [[data(V1, A1)], [data(V1, A1)]]
    assert verdict(text, results, {1: (A1, V1)}, known=False) == "ok"
    assert verdict(text, results, {1: (A1, V1)}, known=True) == "violation"
    assert verdict(text, [[data(V1, A1)], [data(V2, A1)]], known=False) == "violation"
    assert verdict(text, [[data(V1, A1)], [ZERO]], known=False) == "violation"
    assert verdict(text, results, {1: (A1, V2)}, known=False) == "violation"


def test_an_operation_that_had_returned_comes_before_one_that_began_later():
    text = "prefix: mmap(p0..p4); t0: write(p1) | t1: read(p1)"
    write = Observation(0, V1, A1, t0=10, t1=20)
    early, late = (Observation(0, t0=t, t1=t + 5) for t in (15, 21))
    assert verdict(text, [[write], [early]]) == "ok"
    assert verdict(text, [[write], [late]]) == "violation"
    assert verdict(text, [[write], [late]], realtime=False) == "ok"


def test_failing_allocations_have_no_effect_where_they_are_allowed():
    text = "prefix: mmap(p0..p4); t0: write(p1); munmap(p0..p4) | t1: read(p1)"
    results = [[failed(ENOMEM), failed(ENOMEM)], [ZERO]]
    assert verdict(text, results, {1: (0, 0)}, may_fail=True) == "ok"
    assert verdict(text, results, {1: (A1, V1)}, may_fail=True) == "violation"


LOCKLESS = {
    # What mmap_lock for reading, or the lock of one VMA, rules out.
    "a dontneed finds a mapping that came while it was under way": (
        "prefix: mmap(p0..p4); write(p0); t0: dontneed(p0..p8) | t1: read(p0); mmap(p4..p8)",
        [[DONE], [ZERO, DONE]]),
    "a populate brings in what is unmapped before it looks again": (
        "prefix: mmap(p0..p4); t0: populate(p0..p4, write) | t1: read(p0); munmap(p0..p4)",
        [[populated(0, ENOMEM)], [data(A1, A1), DONE]]),
}


@pytest.mark.parametrize("name", LOCKLESS)
def test_outcomes_that_can_be_where_nobody_locks_vmas_and_nowhere_else(name):
    assert verdict(*LOCKLESS[name], lockless=True) == "ok"
    assert verdict(*LOCKLESS[name]) == "violation"


def test_nobody_locks_vmas_but_a_hole_needs_a_munmap():
    text = "prefix: mmap(p0..p4); t0: dontneed(p0..p4) | t1: write(p0)"
    assert verdict(text, [[failed(ENOMEM)], [data(V1, A1)]], lockless=True) == "violation"
    text = "prefix: mmap(p0..p4); t0: populate(p0..p4) | t1: dontneed(p0..p4)"
    assert verdict(text, [[populated(2, ENOMEM)], [DONE]], lockless=True) == "violation"


def test_unknown_is_not_ok():
    text = "prefix: mmap(p0..p4); t0: write(p1); dontneed(p0..p4); write(p1) | t1: write(p1); write(p1); read(p1)"
    never = [[data(V1, A1), DONE, data(V2, A2)], [data(203, 1 << 63 | 103), data(204, 1 << 63 | 104), data(205, A0)]]
    assert verdict(text, never) == "violation"
    assert verdict(text, never, budget_states=3) == "unknown"
    assert verdict(text, [[data(V1, A1)], never[1]]) == "unknown"


def test_an_explanation_can_be_read():
    program = parse("prefix: mmap(p0..p4); t0: write(p1); dontneed(p0..p4) | t1: read(p1)")
    space = AddressSpace(BITS)
    space.apply(program.prefix[0])
    found = explain(space, program.branches, [[data(V1, A1), DONE], [data(V1, A1)]])
    assert found.order == (
        "t0: write(p1) faults in and writes p1",
        "t1: read(p1) reads p1",
        "t0: dontneed(p0..p4) clears p1",
        "t0: dontneed(p0..p4) returns",
    )
    stuck = explain(space, program.branches, [[data(V1, A1), DONE], [data(V2, A1)]])
    assert stuck.detail == f"no order of steps gets past t1 read(p1) = 0, value {V2:#x} incarnation {A1:#x}"


def toy_run(program, seed, busted="", known=True):
    """Run ``program`` on the toy machine and explain it."""
    space = AddressSpace(BITS)
    for op in program.prefix:
        space.apply(op)
    toy = Toy(space, Random(seed), busted)
    return explain(space, program.branches, toy.run(program.branches), toy.final(), known=known)


@given(program=programs(BITS, max_ops=4), known=st.booleans())
@settings(max_examples=100, deadline=None)
def test_whatever_the_toy_machine_does_is_explained(program, known):
    for seed in range(15):
        found = toy_run(program, seed, known=known)
        assert found.verdict == "ok", found


@pytest.mark.parametrize(
    ("busted", "text"),
    [
        ("no-flush", "prefix: mmap(p0..p4); write(p1); t0: read(p1); read(p1); read(p1) | t1: dontneed(p0..p4); write(p1)"),
        ("no-recheck", "prefix: mmap(p0..p4); t0: write(p1); read(p1) | t1: write(p1); read(p1)"),
        ("stale-vma", "prefix: mmap(p0..p4); t0: munmap(p0..p4); walk(p0..p4) | t1: write(p1)"),
        ("late-clear", "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: write(p1); read(p1); write(p1); read(p1)"),
        ("skip-last", "prefix: mmap(p0..p4); write(p3); t0: dontneed(p0..p4) | t1: read(p1)"),
        ("no-free-flush",
         "prefix: mmap(p0..p4); t0: write(p1); write(p1); free(p1); write(p1); read(p1) | t1: discard(p1); discard(p1)"),
        ("early-look", "prefix: mmap(p0..p4); write(p1); t0: free(p1); write(p1); read(p1) | t1: discard(p1); discard(p1)"),
        ("no-protect-flush",
         "prefix: mmap(p0..p4); write(p1); t0: mprotect(p0..p4, ro); write(p2) | t1: write(p1); write(p1); write(p1)"),
        ("no-guard-recheck", "prefix: mmap(p0..p4); t0: guard_install(p0); read(p0) | t1: write(p0)"),
        ("drops-guards", "prefix: mmap(p0..p4); t0: guard_install(p0..p2); read(p1) | t1: dontneed(p0..p4)"),
        ("skips-guard", "prefix: mmap(p0..p4); t0: guard_install(p0..p2); read(p1) | t1: read(p2)"),
        ("populate-skips", "prefix: mmap(p0..p4); t0: populate(p0..p2); walk(p0..p4) | t1: read(p0)"),
        ("no-upgrade-flush", "prefix: mmap(p0..p4); read(p1); t0: write(p1); write(p2) | t1: read(p1); read(p2); read(p1)"),
    ],
)
def test_a_busted_toy_machine_is_found_out(busted, text):
    assert busted in BUSTED
    verdicts = [toy_run(parse(text), seed, busted).verdict for seed in range(400)]
    assert "violation" in verdicts
    assert "unknown" not in verdicts
