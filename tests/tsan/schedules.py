"""The schedules half of the ThreadSanitizer lane: generated programs under explored schedules, in the build tsan_sched.

There the sanitizer knows of fibres, so what it says depends on the schedule alone, and comes again. First races that must be
reported: the planted one, and one that Linux had. Then every scheme, which must not be.
Run as ``schedules.py PART`` in a process that has the sanitizer; exit status 0 as expected, 2 not.
"""

import sys

from ptstress.explore_report import explore_lines
from ptstress.exploring import DEFAULT_GEOMETRY, ExploreRequest, ExploreSummary, explore
from ptstress.lab import KNOBS
from ptstress.replaying import replay
from ptstress.schemes import SCHEMES
from ptstress.units import format_count, parse_geometry

SECONDS_PER_SCHEME = 10
MOST_EXECUTIONS = 20_000
PLANTED = "planted race"
#: What must be found in so many executions: the bug, and the function that one of the two accesses is in.
EXECUTIONS_TO_FIND = 64
TIMES = 5
FOUND = {PLANTED: (None, "execute"), "P16": ("P16", "arena_alloc")}
PARTS = (*FOUND, *(scheme.name for scheme in SCHEMES))


def look(scheme: str, bug: str | None, plant: bool, executions: int, seconds: float | None) -> ExploreSummary:
    """Explore generated programs."""
    bugs = (bug,) if bug else ()
    knobs = (*KNOBS, ("tsan_plant", int(plant)))
    geometry = parse_geometry(DEFAULT_GEOMETRY)
    request = ExploreRequest(
        None, scheme, geometry, bugs, executions, seconds, 1, "random", knobs=knobs, build="tsan_sched")
    return explore(request, lambda line: None)


def run_part(part: str) -> int:
    """One part; prints one line, or all that was found."""
    if part not in FOUND:
        summary = look(part, None, False, MOST_EXECUTIONS, SECONDS_PER_SCHEME)
        if summary.failures:
            print(*explore_lines(summary), sep="\n")
            return 2
        print(f"tsan: {part}: {format_count(summary.executions)} schedules of {format_count(summary.programs)} programs "
              f"({format_count(summary.executions_per_second)}/s), no race", flush=True)
        return 0
    bug, function = FOUND[part]
    failures = look("linux-6.18", bug, part == PLANTED, EXECUTIONS_TO_FIND, None).failures
    if not failures or failures[0].oracle != "race" or f" in {function} " not in failures[0].what:
        print(f"tsan: {part}: expected a race in {function} on a schedule, found {[f.what for f in failures] or 'nothing'}")
        return 2
    again = replay(failures[0].replay, "fibres", TIMES)
    if again.reproduced != {"fibres": TIMES} or not again.same_trace:
        print(f"tsan: {part}: the race came again in {again.reproduced} of {TIMES} replays")
        return 2
    print(f"tsan: {part}: reported at execution {failures[0].executions_to_first}, and in {TIMES} of {TIMES} replays: "
          f"{failures[0].what}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_part(sys.argv[1]))
