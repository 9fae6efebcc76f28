"""All outcomes of small programs: the same that ``explain`` explains, and the same words that the engine makes of them."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptstress._explore import Explorer
from ptstress.engine import load_engine
from ptstress.model import AddressSpaces, Observation, explain
from ptstress.model.outcome_words import words_of
from ptstress.model.outcomes import Outcome, allowed_outcomes, prepared
from ptstress.outcome_table import outcome_table
from ptstress.program import parse
from ptstress.strategies import programs
from ptstress.trial import SmallMachine
from ptstress.vocabulary import Verb
from toy_machine import Toy

BITS = (2, 1, 1)
ENOUGH = 10
RECLAIMS = ("sync", "sync+zero")


class Asked:
    """A program, all its outcomes, and their words."""

    def __init__(self, program, reclaim="sync", lockless=False):
        self.program, self.lockless = program, lockless
        self.space = AddressSpaces(BITS, reclaim, program.mms())
        self.done = prepared(self.space, program.prefix)
        self.allowed = allowed_outcomes(self.space, program.branches, first=len(self.done), lockless=lockless)
        self.outcomes = sorted(self.allowed.outcomes, key=repr)
        self.words = {self.words_of(outcome) for outcome in self.outcomes}

    def words_of(self, outcome):
        return words_of(outcome, self.program.branches, self.program.prefix, self.done)

    def is_explained(self, outcome):
        final = {page: entry for page, entry in zip(self.allowed.pages, outcome.final, strict=True) if entry is not None}
        return explain(
            self.space, self.program.branches, outcome.results, final, realtime=False, lockless=self.lockless).verdict


def changed(outcome, others, program, pages, random):
    """The outcome with one thing as it is in another one, or as it may never be."""
    results = [list(row) for row in outcome.results]
    other = random.choice(others)
    places = [(b, i) for b, ops in enumerate(program.branches) for i in range(len(ops))]
    # Of other pages explain is not told what was not there.
    ends = [k for k, page in enumerate(pages) if any(op.accesses and op.start == page for ops in program.branches for op in ops)]
    choice = random.randrange(len(places) + len(ends))
    if choice >= len(places):
        k = ends[choice - len(places)]
        entry = random.choice([None, (0, 0), other.final[k]])
        return outcome._replace(final=(*outcome.final[:k], entry, *outcome.final[k + 1 :]))
    b, i = places[choice]
    op, seen = program.branches[b][i], other.results[b][i]
    if op.accesses and random.random() < 0.5:
        seen = random.choice([Observation(-14), Observation(0)])
    elif op.verb is Verb.WALK and seen.status == 0 and op.start < op.end:
        bits = seen.bits ^ 1 << random.randrange(op.end - op.start)
        seen = seen._replace(bits=bits, present=bits.bit_count())
    elif op.verb in (Verb.DONTNEED, Verb.FREE, Verb.MPROTECT, Verb.MMAP, Verb.MUNMAP) and random.random() < 0.5:
        seen = Observation(random.choice([0, -12, -22]))
    results[b][i] = seen
    return Outcome(tuple(map(tuple, results)), outcome.final)


@given(
    program=programs(BITS, branches=(2, 3), max_ops=2, mms=2), seed=st.integers(0, 1 << 32), lockless=st.booleans(),
    reclaim=st.sampled_from(RECLAIMS),
)
@settings(max_examples=80, deadline=None)
def test_an_outcome_is_allowed_if_it_can_be_explained_and_only_then(program, seed, lockless, reclaim):
    asked, random = Asked(program, reclaim, lockless), Random(seed)
    if asked.allowed.why:
        return
    for outcome in random.sample(asked.outcomes, min(len(asked.outcomes), ENOUGH)):
        assert asked.is_explained(outcome) == "ok", outcome
        for _ in range(3):
            other = changed(outcome, asked.outcomes, program, asked.allowed.pages, random)
            explained = asked.is_explained(other)
            assert explained == "unknown" or (explained == "ok") == (asked.words_of(other) in asked.words), other


@given(program=programs(BITS, branches=(2, 3), max_ops=2))
@settings(max_examples=40, deadline=None)
def test_whatever_the_toy_machine_does_is_allowed(program):
    asked = Asked(program)
    for seed in range(0 if asked.allowed.why else 10):
        toy = Toy(asked.space.spaces[0], Random(seed))
        results = tuple(map(tuple, toy.run(program.branches)))
        final = toy.final()
        assert asked.words_of(Outcome(results, tuple(final.get(page) for page in asked.allowed.pages))) in asked.words


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("prefix: mmap(p0..p4); t0: write(p0) | t1: write(p1)", 1),
        # The zero page, the fresh frame, the value.
        ("prefix: mmap(p0..p4); t0: write(p0) | t1: read(p0)", 3),
        # Whose value is left.
        ("prefix: mmap(p0..p4); write(p0); t0: write(p0) | t1: write(p0)", 2),
        ("prefix: mmap(p0..p4); write(p0); t0: dontneed(p0) | t1: walk(p0)", 2),
        # The pages go in ascending order.
        ("prefix: mmap(p0..p4); write(p0); write(p1); t0: dontneed(p0..p2) | t1: walk(p0..p2)", 4),
        ("prefix: mmap(p0..p4); t0: munmap(p0..p4) | t1: munmap(p0..p4)", 1),
        ("prefix: mmap(p0..p4); t0: mmap(p0..p4, ro) | t1: write(p0)", 2),
    ],
)
def test_outcomes_can_be_counted_by_hand(text, count):
    assert len(Asked(parse(text)).words) == count


def test_over_the_budget_there_is_no_set():
    program = parse("prefix: mmap(p0..p4); t0: write(p0); read(p0) | t1: write(p0); read(p0)")
    space = AddressSpaces(BITS)
    prepared(space, program.prefix)
    allowed = allowed_outcomes(space, program.branches, budget_states=5)
    assert (allowed.outcomes, allowed.why) == (frozenset(), "more than 5 states")
    assert outcome_table(program, "linux-6.18", BITS, budget_states=7).note == "more than 7 states"
    assert outcome_table(program, "linux-6.18", BITS, may_fail=True).note == "allocations fail"


ONE_AFTER_THE_OTHER = (
    "prefix: mmap(p0..p8); write(p1); read(p2); guard_install(p6); t0: read(p1); write(p1); read(p2); read(p3); read(p6); "
    "walk(p0..p8); populate(p3..p5, write); gup_fast(p4); dontneed(p1..p3); age(p0..p8); free(p0..p8); discard(p4); "
    "mprotect(p4..p8, ro); write(p4); munmap(p0..p2); write(p0); walk(p4..p2); scan(m0)"
)


@pytest.mark.parametrize("scheme", ["linux-6.18", "rcu"])
def test_the_engine_writes_the_words_of_the_model(scheme):
    """Of one branch there are two outcomes: memory pressure need not take the page that is free."""
    program = parse(ONE_AFTER_THE_OTHER)
    table = outcome_table(program, scheme, (2, 1, 1, 1))
    assert len(table.rows) == 2 and table.note == ""
    small = SmallMachine("sched", scheme, (2, 1, 1, 1))
    prefix, branches = program.arrays()
    small.machine.program(prefix, branches, table.arrays())
    Explorer(small.machine.explorable()).explore(executions=1)
    assert tuple(small.machine.outcome()) in table.rows
    assert sum(small.machine.outcomes_seen()) == 1
    assert small.machine.look_up(3) == 3


def test_a_table_needs_a_row_and_a_program():
    machine = load_engine("sched").Machine({"geometry": (2, 1, 1)})
    nothing = np.zeros((0, 4), np.uint64), np.zeros(0, np.uint64)
    prefix, branches = parse("t0: read(p0)").arrays()
    with pytest.raises(ValueError, match="expected at least one outcome"):
        machine.program(prefix, branches, nothing)
    machine.program(prefix, branches)
    with pytest.raises(RuntimeError, match="no outcome"):
        machine.outcome()
    with pytest.raises(RuntimeError, match="no outcomes"):
        machine.look_up(1)
