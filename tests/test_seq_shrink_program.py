"""Programs that are made simpler, for as long as something that can be said of them stays true."""

from itertools import permutations

import pytest

from ptstress.program import parse
from ptstress.shrink_program import MOST, Candidates, simplify
from ptstress.spelling import shrink_spelled
from ptstress.vocabulary import Verb

BITS = (2, 2, 2)
KNOBS = {"need_resched": 2, "walk_sleep": 4, "reuse": "lifo"}
LONG = (
    "prefix: mmap(p0..p16); write(p7); read(p9); t0: write(p9); dontneed(p4..p12); read(p1) "
    "| t1: walk(p0..p16, sleep); write(p6); exit(m0) | t2: read(p3); read(p7)"
)


def simplified(text, still_fails, took=1, enough=lambda: False, hypothesis=False):
    """The candidates after simplifying; ``still_fails``: of program and knobs. Also what it was asked."""
    asked = []

    def run(program, knobs, executions):
        asked.append((program, knobs, executions))
        return took if still_fails(program, knobs) else None

    candidates = Candidates(parse(text), KNOBS, took, run, enough)
    simplify(candidates)
    if hypothesis:
        shrink_spelled(candidates, BITS)
    return candidates, asked


def has(program, verb):
    return [op for op in program.operations() if op.verb == verb]


@pytest.mark.parametrize("hypothesis", [False, True])
def test_nothing_is_left_that_the_failure_does_not_need(hypothesis):
    found, _ = simplified(LONG, lambda program, knobs: bool(has(program, Verb.DONTNEED)), hypothesis=hypothesis)
    assert found.finished
    assert [len(list(found.program.operations())), len(found.program.branches)] == [1, 1]
    (op,) = has(found.program, Verb.DONTNEED)
    assert op.start == 0 and op.end <= 1
    assert found.knobs == {"need_resched": 0, "walk_sleep": 0, "reuse": "lifo"}


def test_threads_stay_that_have_to_be_two():
    def fails(program, knobs):
        verbs = [{op.verb for op in ops} for ops in program.branches]
        return any(Verb.WRITE in mine and Verb.DONTNEED in other for mine, other in permutations(verbs, 2))

    found, _ = simplified(LONG, fails)
    assert found.program in (parse("t0: write(p0) | t1: dontneed(p0)"), parse("t0: dontneed(p0) | t1: write(p0)"))


def test_threads_become_one_and_operations_move_before_them():
    found, _ = simplified(LONG, lambda program, knobs: len(has(program, Verb.WRITE)) > 1 and knobs["walk_sleep"])
    assert found.program == parse("prefix: write(p0); t0: write(p0)")
    assert found.knobs["walk_sleep"] == 4 and not found.knobs["need_resched"]


def test_pages_and_modes_become_simple_together_where_they_depend_on_each_other():
    def fails(program, knobs):
        reads = {op.start for op in has(program, Verb.READ) if op.mm == 1}
        return any(op.arg and op.start in reads for op in has(program, Verb.WALK))

    found, _ = simplified("t0: walk(m1:p6..p9, sleep); read(m1:p3) | t1: read(m1:p6); write(p2)", fails)
    ops = list(found.program.operations())
    assert sorted(str(op) for op in ops) == ["read(m1:p0)", "walk(m1:p0, sleep)"]


def test_what_seldom_fails_gets_more_schedules_and_no_program_is_run_twice_alike():
    _, asked = simplified(LONG, lambda program, knobs: bool(has(program, Verb.DONTNEED)), took=100)
    assert {executions for _, _, executions in asked} == {600, MOST}
    keys = [(program, tuple(knobs.items()), executions) for program, knobs, executions in asked]
    assert len(keys) == len(set(keys))


def test_the_simplest_so_far_is_left_when_the_time_is_over():
    left = [12]

    def enough():
        left[0] -= 1
        return left[0] < 0

    found, asked = simplified(LONG, lambda program, knobs: bool(has(program, Verb.DONTNEED)), enough=enough)
    assert not found.finished and len(asked) == 12
    assert has(found.program, Verb.DONTNEED)
    assert len(list(found.program.operations())) < len(list(parse(LONG).operations()))
