"""The schedules half of the ThreadSanitizer lane: generated programs under explored schedules, in the build tsan_sched.

There the sanitizer knows of fibres, so what it says depends on the schedule alone, and comes again. First races that must be
reported: the planted one, and those of bugs. Then every scheme, which must not be.
Run as ``schedules.py PART`` in a process that has the sanitizer; exit status 0 as expected, 2 not.
"""

import sys

from ptstress.bugs import find_bugs
from ptstress.explore_report import explore_lines
from ptstress.exploring import DEFAULT_GEOMETRY, ExploreRequest, ExploreSummary, explore
from ptstress.lab import KNOBS
from ptstress.replaying import replay
from ptstress.schemes import SCHEMES
from ptstress.units import format_count, parse_geometry

SECONDS_PER_SCHEME = 10
MOST_EXECUTIONS = 20_000
PLANTED = "planted race"
#: What must be found in so many executions, and a function that one of the two accesses is in. Of bugs: the initialisation of a
#: table that is reachable by then, a counter that is not atomic, a table that is freed under whoever walks it.
FOUND = {PLANTED: "execute", "P16": "arena_alloc", "P23": "_pgtables_add", "M07-table": "_table_release"}
EXECUTIONS_TO_FIND = 64
TIMES = 5
PARTS = (*FOUND, *(scheme.name for scheme in SCHEMES))


def look(
    scheme: str, executions: int, seconds: float | None = None, program: str | None = None, bugs: tuple[str, ...] = (),
    plant: bool = False,
) -> ExploreSummary:
    """Explore ``program``, or generated ones, under the policy "random"."""
    geometry, knobs = parse_geometry(DEFAULT_GEOMETRY), (*KNOBS, ("tsan_plant", int(plant)))
    request = ExploreRequest(
        program, scheme, geometry, bugs, executions, seconds, 1, "random", knobs=knobs, build="tsan_sched")
    return explore(request, lambda line: None)


def must_be_silent(scheme: str) -> int:
    """Explore a scheme; prints one line, or all that was found."""
    summary = look(scheme, MOST_EXECUTIONS, SECONDS_PER_SCHEME)
    if summary.failures:
        print(*explore_lines(summary), sep="\n")
        return 2
    print(f"tsan: {scheme}: {format_count(summary.executions)} schedules of {format_count(summary.programs)} programs "
          f"({format_count(summary.executions_per_second)}/s), no race")
    return 0


def must_be_found(part: str, function: str) -> int:
    """Look for a race, and repeat it; prints one line."""
    if part == PLANTED:
        failures = look("linux-6.18", EXECUTIONS_TO_FIND, plant=True).failures
    else:
        (bug,) = find_bugs((part,))
        failures = look(bug.scheme, EXECUTIONS_TO_FIND, program=bug.program, bugs=(bug.id,)).failures
    if not failures or failures[0].oracle != "race" or f" in {function} " not in failures[0].what:
        print(f"tsan: {part}: expected a race in {function} on a schedule, found {[f.what for f in failures] or 'nothing'}")
        return 2
    again = replay(failures[0].replay, "fibres", TIMES)
    if again.reproduced != {"fibres": TIMES} or not again.same_trace:
        print(f"tsan: {part}: {again.reproduced['fibres']} of {TIMES} replays have the race again")
        return 2
    print(f"tsan: {part}: reported at execution {failures[0].executions_to_first}, and again in each of {TIMES} replays: "
          f"{failures[0].what}")
    return 0


if __name__ == "__main__":
    sys.exit(must_be_found(sys.argv[1], FOUND[sys.argv[1]]) if sys.argv[1] in FOUND else must_be_silent(sys.argv[1]))
