"""Small programs under explored schedules: no oracle speaks, and every outcome has an explanation."""

from functools import cache

import pytest
from hypothesis import given, settings

from ptstress.engine import load_explorer
from ptstress.generator import generate
from ptstress.strategies import programs
from ptstress.trial import RARE, SmallMachine
from schemes_under_test import NAMES

BITS = (2, 1, 1, 1)
EXPLAINED = 20
EXPLORED = 200


@pytest.fixture(scope="module")
def explore():
    """Gives machine and explorer for a program under a scheme; machines are kept for the next program."""
    machine = cache(lambda scheme, workers, mms: SmallMachine("sched", scheme, BITS, workers, RARE, mms=mms))
    explorer = load_explorer().Explorer

    def load(scheme, program):
        small = machine(scheme, len(program.branches), program.mms())
        small.machine.program(*program.arrays())
        return small, explorer(small.machine.explorable())

    return load


def check(small, explorer, program, seed):
    """Explore ``program``, then explain some executions one by one."""
    result = explorer.explore(seed=seed, executions=EXPLORED)
    assert result["failure"] is None, f"{program.text()}\n{result['failure']['outcome']} {small.view.reports()}"
    for i in range(EXPLAINED):
        assert explorer.explore(seed=seed + i, executions=1)["failure"] is None
        verdict = small.judge_recorded(program)
        assert verdict.verdict == "ok", f"{program.text()}\n{verdict.detail}"


@pytest.mark.parametrize("scheme", NAMES)
@given(program=programs(BITS, mms=3))
@settings(max_examples=20, deadline=None)
def test_programs_under_explored_schedules_are_explained(explore, scheme, program):
    check(*explore(scheme, program), program, seed=1)


@pytest.mark.parametrize("scheme", NAMES)
def test_common_programs_under_explored_schedules_are_explained(explore, scheme):
    for index in range(20):
        program = generate(index, BITS)
        check(*explore(scheme, program), program, seed=index)
