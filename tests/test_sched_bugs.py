"""Every planted bug shows in its own small program under some schedule, and comes again; the right engine is silent there."""

import pytest

from ptstress.bugs import BUGS
from ptstress.exploring import ExploreRequest, explore
from ptstress.invariants import broken_by
from ptstress.replaying import replay
from ptstress.units import parse_geometry

GEOMETRY = parse_geometry("2x2x2x4")
BUDGET = 20_000
SILENT = 2_000


def look(bug, planted, executions):
    """Explore the bug's program with the bug or without it."""
    request = ExploreRequest(bug.program, bug.scheme, GEOMETRY, planted, executions, None, 1, "random")
    return explore(request, lambda line: None)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.id)
def test_a_bug_shows_in_its_program_and_comes_again(bug):
    (failure,) = look(bug, (bug.id,), BUDGET).failures
    assert failure.oracle in bug.oracles
    assert failure.invariants[0] in broken_by(bug.id)
    again = replay(failure.replay, "both", 3)
    assert again.reproduced == {"fibres": 3, "threads": 3}
    assert again.same_trace


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.id)
def test_without_the_bug_its_program_is_silent(bug):
    assert look(bug, (), SILENT).failures == []
