"""Bugs that this project's own oracles found in the engine, as explored programs that must stay silent."""

import pytest

from ptstress.engine import load_explorer
from ptstress.program import parse
from ptstress.trial import RARE, SmallMachine
from schemes_under_test import NAMES

BITS = (2, 1, 1, 1)


def explored(scheme, text, executions, bits=BITS, before=(), knobs=RARE):
    """The failure that exploring the program finds, or None. ``before``: programs that run once each, first."""
    program = parse(text)
    small = SmallMachine("sched", scheme, bits, len(program.branches), knobs, mms=program.mms())
    for earlier in before:
        small.machine.program(*parse(earlier).arrays())
        load_explorer().Explorer(small.machine.explorable()).explore(seed=1, executions=1)
    small.machine.program(*program.arrays())
    result = load_explorer().Explorer(small.machine.explorable()).explore(seed=1, executions=executions)
    return result["failure"] and small.view.reports()


@pytest.mark.parametrize("scheme", NAMES)
def test_walk_does_not_enter_what_munmap_tears_down(scheme):
    """A walk over a hole met the tables of a downgraded munmap.

    1. t1 takes the VMA out of the set and downgrades mmap_lock to reading.
    2. t0 gets mmap_lock for reading, walks the whole range and loads a pud entry.
    3. t1 clears the entry without a lock, because no VMA is there, and frees the table.
    4. t0 reads the freed pmd_table: use-after-free, found within 402 executions.
    Fix: the walk goes from VMA to VMA. Runs well under a second per scheme.
    """
    program = "prefix: mmap(p0..p16); write(p1); write(p6); t0: walk(p0..p16) | t1: munmap(p0..p16)"
    assert explored(scheme, program, 20_000) is None


@pytest.mark.parametrize("scheme", NAMES)
def test_a_new_table_is_accounted_by_its_own_level(scheme):
    """A p4d_table was counted among the tables that VmPTE counts.

    1. t0 takes a free descriptor that was a table of another level before, and stores level 3 into it.
    2. The store waits in t0's buffer. t0 accounts by reading the level back from memory, and finds the old one.
    3. pgtables_bytes is one table too high for ever: counters.
    Fix: pmd_install is told the level. Found within 100 executions of a fuzz campaign's program on five levels;
    runs well under a second per scheme.
    """
    filled = "t0: mmap(p0..p16); read(p0); read(p4); read(p8); read(p12); munmap(p0..p16) | t1: "
    raced = "prefix: mmap(p0..p4); t0: read(p0) | t1: read(p0)"
    assert explored(scheme, raced, 2000, (2, 1, 1, 1, 1), [filled, raced]) is None


@pytest.mark.parametrize("change", ["munmap(p1..p2)", "mprotect(p1..p2, ro)"])
def test_a_split_takes_the_anon_vma_that_a_fault_sets(change):
    """A split read anon_vma before it write-locked the VMA, which nothing but that keeps from faults under `rcu`.

    1. t0 reads that the VMA has no anon_vma.
    2. t1 faults page 3 in: it gives the VMA one, finds that the VMA has not changed, and maps a frame.
    3. t0 write-locks the VMA and splits it: the part with page 3 has a frame and no anon_vma (census, within 200 executions).
    Fix: write-lock first. Runs under a second.
    """
    assert explored("rcu", f"prefix: mmap(p0..p4); t0: {change} | t1: write(p3)", 5_000) is None


def test_a_scan_of_two_mms_is_checked_for_each():
    """The stale-tlb oracle took a table of one mm for one of another mm, which the same scan flushed later.

    1. t1 scans m0, unlinks its table of zero pages and flushes: what caches hold of m0 is of an old generation.
    2. It goes on to m2, and after its flush looks for caches that reach a table which this operation has unlinked.
    3. It finds the one of m0, and judges its entry by the generation of m2.
    Fix: tables of the mm that was flushed only. A fuzz campaign found it; here within 8,000 executions, a second.
    """
    program = "prefix: mmap(p0..p13, ro); mmap(m2:p0..p13, ro); t0: read(m2:p0) | t1: read(p0); discard(p0..p0)"
    assert explored("seed-rcu", program, 8000, (3, 2, 1, 1), knobs={"reuse": "fifo"}) is None


def test_a_frame_takes_the_anon_vma_of_the_vma_that_was_proved_current():
    """A fault asked its VMA for the anon_vma of the frame after it had proved, under `rcu`, that the VMA had not changed.

    1. t0 locks the table of page 4 and finds the VMA as it was.
    2. t1 unmaps page 0 and splits the VMA: page 4 is in the new part. It maps the old part anew, with no anon_vma; the table of
       page 4 is in nobody's way.
    3. t0 notes that its frame has no anon_vma, and maps it: census, within 400 executions of "pct".
    Fix: the anon_vma is what the fault has found before it locked the table. Runs under a second.
    """
    program = parse("prefix: mmap(p0..p5); t0: populate(p4, write) | t1: munmap(p0); mmap(p0, ro)")
    small = SmallMachine("sched", "rcu", BITS, 2, RARE)
    small.machine.program(*program.arrays())
    result = load_explorer().Explorer(small.machine.explorable()).explore(policy="pct", seed=1, executions=10_000)
    assert result["failure"] is None, small.view.reports()
