"""Walks that sleep: under every sleep mode and protection no schedule goes wrong, and the model explains what walks report."""

from functools import cache

import pytest

from ptstress.engine import load_explorer
from ptstress.exploring import ExploreRequest, explore
from ptstress.generator import generate
from ptstress.program import parse
from ptstress.schemes import SLEEP_MODES
from ptstress.trial import RARE, SmallMachine
from ptstress.units import parse_geometry

BITS = (2, 1, 1, 1)
BASES = ("linux-6.18", "covering", "rcu-upper")
SCHEMES = [f"{base}@{mode}" for base in BASES for mode, _ in SLEEP_MODES]
#: Tables that go, come back and change hands, and mappings that move, under two walks.
CROWD = (
    "prefix: mmap(p0..p8); write(p0); write(p5); t0: walk(p0..p8, sleep); walk(p0..p8, sleep) | "
    "t1: dontneed(p0..p4); write(p1); munmap(p2..p6) | t2: write(p0); dontneed(p0..p8); mprotect(p0..p4, ro)"
)


@pytest.fixture(scope="module")
def explained():
    """Explores a program under a scheme, one execution at a time, and gives the model's first objection, or None."""
    knobs = {**dict(RARE), "walk_sleep": 1}
    machine = cache(lambda scheme, workers, mms: SmallMachine("sched", scheme, BITS, workers, knobs, mms=mms))

    def objection(scheme, program, executions):
        small = machine(scheme, len(program.branches), program.mms())
        small.machine.program(*program.arrays())
        explorer = load_explorer().Explorer(small.machine.explorable())
        for seed in range(executions):
            if explorer.explore(seed=seed, executions=1)["failure"] is not None:
                return f"{program.text()}\n{small.view.reports()}"
            verdict = small.judge_recorded(program)
            if verdict.verdict != "ok":
                return f"{program.text()}\n{verdict.detail}"
        return None

    return objection


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_schedule_of_a_crowd_around_sleeping_walks_goes_wrong(scheme):
    request = ExploreRequest(CROWD, scheme, parse_geometry("2x2x2x4"), (), 1500, None, 1, "random")
    assert explore(request, lambda line: None).failures == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_sleeping_walks_report_is_explained(explained, scheme):
    for index in range(12):
        assert explained(scheme, generate(index, BITS), 10) is None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_sleeping_walk_alone_sees_what_is_there(explained, scheme):
    text = "prefix: mmap(p0..p12); write(p1); read(p6); write(p9); munmap(p4..p6); t0: walk(p0..p16, sleep); age(p0..p16)"
    assert explained(scheme, parse(text), 1) is None
