"""Bugs that this project's own oracles found in the engine, as explored programs that must stay silent."""

import pytest

from ptstress.engine import load_explorer
from ptstress.program import parse
from ptstress.schemes import SCHEMES
from ptstress.trial import RARE, SmallMachine

BITS = (2, 1, 1, 1)
NAMES = [scheme.name for scheme in SCHEMES]


def explored(scheme, text, executions):
    """The failure that exploring the program finds, or None."""
    program = parse(text)
    small = SmallMachine("sched", scheme, BITS, len(program.branches), RARE)
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
    assert explored(scheme, "prefix: mmap(p0..p16); write(p1); write(p6); t0: walk(p0..p16) | t1: munmap(p0..p16)", 20_000) is None
