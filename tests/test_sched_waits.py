"""Who waits for mmap_lock or a VMA, under the explorer: the counters say so, execution by execution."""

import pytest

from ptstress.lab import KNOBS, MAX_STEPS, Lab
from ptstress.layout import Counter
from ptstress.program import parse
from ptstress.units import parse_geometry

EXECUTIONS = 400
ELSEWHERE = "prefix: mmap(p4..p8); write(p4); t0: write(p5); read(p4) | t1: mmap(p0..p2); munmap(p0..p2)"
IN_THE_VMA = "prefix: mmap(p4..p8); write(p4); t0: write(p5); read(p4) | t1: mprotect(p6..p7, ro)"


def waits(scheme: str, program: str) -> int:
    """How often the first worker waited, all executions together; or fell back, where it has a lock to fall back to."""
    lab = Lab(scheme, parse_geometry("2x2x2x4"), (), dict(KNOBS), 1)
    lab.load(parse(program))
    total = 0
    for seed in range(EXECUTIONS):
        lab.explorer.explore(policy="random", seed=seed, max_steps=MAX_STEPS, executions=1)
        counters = lab.machine.counters()[0]
        total += int(counters[Counter.MM_WAITS] + counters[Counter.VMA_LOCK_FALLBACK])
    return total


@pytest.mark.parametrize("scheme", ["linux-6.18", "rcu"])
def test_a_fault_does_not_wait_for_who_maps_elsewhere(scheme):
    """Result: Never. The set of VMAs changes under the lookup, which finds its own all the same."""
    assert waits(scheme, ELSEWHERE) == 0


@pytest.mark.parametrize(("scheme", "program"), [("linux-6.3", ELSEWHERE), ("linux-6.18", IN_THE_VMA), ("rcu", IN_THE_VMA)])
def test_a_fault_waits_for_who_is_in_its_way(scheme, program):
    """Result: Sometimes. What the test above counts is counted."""
    assert waits(scheme, program) > 0
