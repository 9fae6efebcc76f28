"""Explored executions are looked up among the outcomes that the model allows: what is none of them fails, and comes again."""

from dataclasses import replace

import pytest

from ptstress import lab as lab_module
from ptstress.bugs import find_bug
from ptstress.explore_report import explore_lines
from ptstress.exploring import ExploreRequest, describe_record, explore
from ptstress.exploring import search as explored
from ptstress.lab import CARRIERS, KNOBS, Lab
from ptstress.outcome_table import outcome_table
from ptstress.program import parse
from ptstress.reconstruct import Search
from ptstress.renumber import Small
from ptstress.replaying import replay
from ptstress.schedule import decode
from ptstress.shrinking import shrink
from ptstress.units import parse_geometry

GEOMETRY = parse_geometry("2x2x2x4")
SIMPLE = "prefix: mmap(p0..p4); t0: dontneed(p0..p4); read(p2) | t1: write(p0); write(p1)"
DRAWN_EXECUTIONS = 50


def request(program, executions=2_000, **others):
    return ExploreRequest(program, "linux-6.18", GEOMETRY, (), executions, None, 1, "random", **others)


def test_all_outcomes_of_a_program_are_seen_and_counted():
    summary = explore(request(SIMPLE), lambda line: None)
    assert summary.verdict == "pass"
    assert (summary.outcomes.allowed, summary.outcomes.seen, summary.outcomes.note) == (4, 4, "")
    assert "outcomes: 4 allowed by the model, 4 seen" in explore_lines(summary)


@pytest.mark.parametrize(
    ("program", "knobs", "note"),
    [
        (SIMPLE, {"alloc_fail": 8}, "allocations fail"),
        ("t0: | t1:", {}, "no operations"),
        ("t0: " + "; ".join(["mmap(p0)"] * 70), {}, "more than 64 operations of one thread"),
        ("prefix: mmap(p0..p4)" + "".join(f"; t{b}: " + "write(p0); read(p0); dontneed(p0); " * 2 for b in range(4)), {},
         "more than 5,000 states"),
    ],
    ids=["failing", "empty", "long", "large"],
)
def test_why_there_are_no_outcomes_is_said(program, knobs, note):
    summary = explore(request(program, 20, knobs=tuple((dict(KNOBS) | knobs).items())), lambda line: None)
    assert summary.failures == []
    assert f"outcomes: not computed: {note}" in explore_lines(summary)


def test_of_drawn_programs_nobody_asks():
    assert explore(request(None, DRAWN_EXECUTIONS), lambda line: None).outcomes is None


def without(row):
    """What makes tables without the last ``row`` rows."""
    return lambda *given: (table := outcome_table(*given)) and replace(table, rows=table.rows[:-row])


def test_an_outcome_that_is_missing_from_the_table_fails_and_is_named(monkeypatch):
    monkeypatch.setattr(lab_module, "outcome_table", without(1))
    (gone,) = set(outcome_table(parse(SIMPLE), "linux-6.18", GEOMETRY, False).rows) - set(
        without(1)(parse(SIMPLE), "linux-6.18", GEOMETRY, False).rows)
    summary = explore(request(SIMPLE), lambda line: None)
    (failure,) = summary.failures
    assert (summary.exit_code, failure.oracle, failure.invariants) == (2, "model", [58])
    assert failure.what == "results and pages at the end are no outcome that the model allows: it allows 3"
    assert failure.headline.startswith("BUG: wrong result")
    assert failure.expected[0] == "expected: one of the 3 outcomes that the model allows"
    assert any(line.startswith("nearest:  end: p0 ") for line in failure.expected)
    lab = Lab.of(decode(failure.replay))
    lab.repeat(decode(failure.replay), CARRIERS[:1], 1)
    assert tuple(lab.machine.outcome()) == gone
    again = replay(failure.replay, "both", 3)
    assert again.reproduced == {"fibres": 3, "threads": 3} and again.same_trace
    assert again.oracle == "model"


def model_only(bug):
    """The first failure of a bug to which no oracle but the model objects, as a record."""
    lab = Lab(bug.scheme, GEOMETRY, (bug.id,), dict(KNOBS), 1)
    program = parse(bug.program)
    lab.load(program, judged=True)
    found = lab.explorer.explore(
        "random", seed=1, executions=20_000, wanted=lambda outcome: lab.signature(outcome)[0] == "model")["failure"]
    return lab.record(program, found), lab


def test_the_model_finds_executions_of_a_bug_that_every_oracle_lets_pass():
    """P21: a munmap clears what was mapped anew, between two operations of the other thread: each page alone looks right."""
    bug = find_bug("P21")
    record, lab = model_only(bug)
    assert record.judged
    told = describe_record(lab, record, 1)
    assert told.oracle == "model" and told.oracle in bug.oracles
    simple, shrunk = shrink(record, "random", 300.0)
    assert (shrunk.size.threads, shrunk.size.operations) <= (2, 6) and shrunk.whole
    assert Lab.of(simple).repeat(simple, CARRIERS, 3)[0] == {"fibres": 3, "threads": 3}


def test_a_range_that_was_never_mapped_at_one_moment_shows_to_the_model_alone():
    """Each page was mapped when its DONTNEED came by. That nobody else objects is in the bug's oracles."""
    bug = find_bug("MX-madvise-relock")
    lab = Lab(bug.scheme, GEOMETRY, (bug.id,), dict(KNOBS), 1)
    program = parse(bug.program)
    lab.load(program)
    assert lab.explorer.explore("random", seed=1, executions=5_000)["failure"] is None
    lab.load(program, judged=True)
    record = lab.record(program, lab.explorer.explore("random", seed=1, executions=5_000)["failure"])
    told = describe_record(lab, record, 1)
    assert (told.oracle, told.invariants) == ("model", [58])
    assert told.expected == [
        "expected: the only outcome", "found:    t0: dontneed(p0..p4) = 0", "found:    t1: munmap(p0..p2) = 0; mmap(p2..p4) = 0",
        "nearest:  t0: dontneed(p0..p4) = -12"]


def test_what_the_model_alone_saw_on_threads_gets_a_schedule():
    bug = find_bug("MX-madvise-relock")
    search = Search(bug.scheme, (bug.id,), dict(KNOBS), 1, "model", None, 5_000)
    found = search.run([(Small(parse(bug.program), GEOMETRY), b"")])
    assert found.oracle == "model"
    assert replay(found.replay, "both", 2).reproduced == {"fibres": 2, "threads": 2}


def test_without_the_table_the_same_schedule_passes():
    record, _ = model_only(find_bug("P21"))
    lab = Lab.of(record)
    lab.load(parse(record.program))
    assert lab.follow(record.choices, record.seed, record.max_steps, record.steps_only) is None


def test_a_search_counts_outcomes_of_the_program_that_it_was_given():
    lab = Lab("linux-6.18", GEOMETRY, (), dict(KNOBS), 1)
    total, found = explored(lab, request(SIMPLE, 200), lambda: False)
    assert found is None and total.outcomes.allowed == 4 and 0 < total.outcomes.seen <= 4
