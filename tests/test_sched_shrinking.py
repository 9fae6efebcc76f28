"""Failures become as small as they are known to be, and fail as they did: same oracle, each time, on fibres and on OS threads."""

import pytest
from msgspec import structs

from ptstress._explore import Explorer, litmus
from ptstress.bugs import BUGS, find_bug
from ptstress.errors import UsageError
from ptstress.lab import CARRIERS, KNOBS, Lab
from ptstress.program import parse
from ptstress.schedule import decode
from ptstress.shrink_schedule import simplest_schedule
from ptstress.shrinking import shrink
from ptstress.units import parse_geometry

GEOMETRY = parse_geometry("2x2x2x4")
#: Bound by what is left to try, not by time, so that a busy machine changes nothing.
SECONDS = 300.0
#: Bugs, and the fewest threads, operations and preemptions with which they fail.
KNOWN = {
    "P01": (2, 3, 1), "P02": (2, 3, 1), "P08": (2, 3, 2), "P16": (2, 3, 1), "P24-batch": (1, 3, 0), "M01-guard": (2, 3, 1),
    "M11-age": (2, 7, 1), "M15-lock-order": (1, 3, 0), "MX-install-leak": (2, 3, 1),
}


def found(bug, policy="random", executions=20_000):
    """A failure of the bug's own program, as a record."""
    lab = Lab(bug.scheme, GEOMETRY, (bug.id,), dict(KNOBS), 1)
    program = parse(bug.program)
    lab.load(program, judged=True)
    failure = lab.explorer.explore(policy, seed=1, executions=executions)["failure"]
    return lab.record(program, failure), lab.signature(failure["outcome"])


def check_shrunk(record, signature):
    """It still fails, and in the same way."""
    lab = Lab.of(record)
    again, hashes = lab.repeat(record, CARRIERS, 10)
    assert again == {"fibres": 10, "threads": 10}
    assert hashes == {record.trace_hash}
    assert lab.signature(record.outcome) == signature


@pytest.mark.parametrize("name", KNOWN)
def test_a_bug_shrinks_to_the_smallest_failure_that_is_known(name):
    record, signature = found(find_bug(name))
    simple, shrunk = shrink(record, "random", SECONDS)
    size = shrunk.size
    assert (size.threads, size.operations, size.preemptions) <= KNOWN[name]
    assert size.preemptions <= min(2, shrunk.was.preemptions)
    assert shrunk.whole and decode(shrunk.replay) == record
    check_shrunk(simple, signature)


@pytest.mark.parametrize("policy", ["pct", "pos", "dfs", "dpor"])
def test_the_policy_that_found_a_failure_shrinks_it(policy):
    record, signature = found(find_bug("P05"), policy)
    simple, shrunk = shrink(record, policy, SECONDS)
    assert (shrunk.size.threads, shrunk.size.operations, shrunk.size.preemptions) <= (2, 4, 1)
    check_shrunk(simple, signature)


def test_a_stop_leaves_what_there_is_by_then():
    record, signature = found(find_bug("P01"))
    asked = []
    simple, shrunk = shrink(record, "random", SECONDS, lambda: asked.append(0) or len(asked) > 12)
    assert not shrunk.whole and 0 < shrunk.programs <= 12
    check_shrunk(simple, signature)
    same, shrunk = shrink(record, "random", SECONDS, lambda: True)
    assert (same.program, shrunk.programs) == (record.program, 0)
    check_shrunk(same, signature)


def test_what_does_not_come_again_is_refused():
    record, _ = found(find_bug("P01"))
    with pytest.raises(UsageError, match="does not come again"):
        shrink(structs.replace(record, bugs=()), "random", SECONDS)


class Litmus:
    """A tiny system in place of an engine's machine."""

    follow = Lab.follow

    def __init__(self, name):
        self.explorer = Explorer(litmus(name))


# Both load before one stores: the least is one preemption, A B B A.
@pytest.mark.parametrize("choices", [[0, 1, 0], [0, 1, 1], [1, 0, 1], [1, 0, 0]])
def test_a_schedule_gets_the_fewest_preemptions_that_there_are(choices):
    lab = Litmus("split_increment")
    failure = lab.explorer.follow(choices, seed=0)["failure"]
    simple = simplest_schedule(lab, failure, lambda outcome: outcome == "violation", lambda: False)
    assert simple["preemptions"] == 1 and simple["steps_only"]
    assert lab.explorer.replay(simple["choices"], simple["seed"], steps_only=True)["outcome"] == "violation"


# Each of two flags is buffered while the other is read: without buffers nothing is wrong. The one that ends first is stopped
# before its buffer drains.
def test_stores_stay_late_where_the_failure_needs_them():
    lab = Litmus("store_buffer")
    failure = lab.explorer.explore(seed=7)["failure"]
    simple = simplest_schedule(lab, failure, lambda outcome: outcome == "violation", lambda: False)
    assert simple["preemptions"] == 1 and not simple["steps_only"]


@pytest.mark.long
def test_every_bug_shrinks_and_it_is_told_how_long_that_takes(record_property):
    """The times are printed, kept with the test's result, and asserted nowhere: a busy machine is no failure."""
    times = []
    for bug in BUGS:
        record, signature = found(bug, executions=200_000)
        simple, shrunk = shrink(record, "random", 60.0)
        check_shrunk(simple, signature)
        assert shrunk.size.preemptions <= max(2, shrunk.was.preemptions)
        times.append(shrunk.seconds)
        print(f"{bug.id:16} {shrunk.seconds:6.2f} s  {shrunk.was} -> {shrunk.size}")
    times.sort()
    for name, seconds in (("median", times[len(times) // 2]), ("longest", times[-1])):
        record_property(f"shrink_{name}_s", seconds)
        print(f"shrinking {len(times)} bugs: {name} {seconds:.2f} s")
