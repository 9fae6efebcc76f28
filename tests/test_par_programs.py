"""Small programs on real threads: every outcome has an explanation by the model's atomic steps."""

from functools import cache

import pytest
from hypothesis import given, settings

from ptstress.generator import generate
from ptstress.strategies import programs
from ptstress.trial import RARE, SmallMachine
from schemes_under_test import NAMES

BITS = (2, 1, 1, 1)
REPEATS = 15
FAILING = {**dict(RARE), "alloc_fail": 4}


@pytest.fixture(scope="module")
def machine():
    """Gives a machine of scheme and number of workers; threads and memory are kept for the next program."""
    failing = cache(lambda scheme, workers, mms: SmallMachine("stress", scheme, BITS, workers, FAILING, mms=mms))
    sound = cache(lambda scheme, workers, mms: SmallMachine("stress", scheme, BITS, workers, RARE, mms=mms))
    return lambda scheme, program, may_fail=False: (failing if may_fail else sound)(scheme, len(program.branches), program.mms())


@pytest.mark.parametrize("scheme", NAMES)
@given(program=programs(BITS, mms=3))
@settings(max_examples=25, deadline=None)
def test_programs_on_threads_are_explained(machine, scheme, program):
    small = machine(scheme, program)
    for seed in range(REPEATS):
        verdict = small.race(program, seed)
        assert verdict.verdict == "ok", f"{program.text()}\n{verdict.detail}"


@pytest.mark.parametrize("scheme", ["linux-6.12", "linux-6.18"])
@given(program=programs(BITS, touches=False, mms=3))
@settings(max_examples=15, deadline=None)
def test_failing_allocations_have_no_other_effect(machine, scheme, program):
    small = machine(scheme, program, may_fail=True)
    for seed in range(REPEATS):
        verdict = small.race(program, seed, may_fail=True)
        assert verdict.verdict == "ok", f"{program.text()}\n{verdict.detail}"


@pytest.mark.parametrize("scheme", NAMES)
def test_common_programs_on_threads_are_explained(machine, scheme):
    for index in range(60):
        program = generate(index, BITS)
        verdict = machine(scheme, program).race(program, index)
        assert verdict.verdict == "ok", f"{program.text()}\n{verdict.detail}"
