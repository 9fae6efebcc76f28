"""Rows of the explorer: executions a second, what a schedule point costs, and how soon P01 is found."""

import time
from collections.abc import Iterator
from statistics import quantiles
from types import ModuleType

from ptstress.bench import Row, absent, measured
from ptstress.bugs import find_bug
from ptstress.engine import load_explorer
from ptstress.errors import PtstressError
from ptstress.explore_report import explore_lines
from ptstress.exploring import DEFAULT_GEOMETRY, ExploreRequest, explore, lab_for, search
from ptstress.lab import KNOBS, MAX_STEPS, Lab
from ptstress.program import parse
from ptstress.schedule import decode
from ptstress.shrinking import shrink
from ptstress.units import format_count, parse_geometry

PROGRAM = "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: write(p0)"
#: Two threads that fault three times, and discard three times.
CROSSED = "prefix: mmap(p0..p4); t0: write(p0); dontneed(p0..p2); write(p1) | t1: dontneed(p0..p4); write(p0); dontneed(p2..p4)"
#: Races of reclaim in DONTNEED that end: the smallest one, which a quick run has too, and those of three threads.
TO_THE_END = (
    ("a zap and a fault", "prefix: mmap(p0..p2); write(p0); t0: dontneed(p0..p2) | t1: write(p1)"),
    ("two zaps and a fault", "prefix: mmap(p0..p2); populate(p0); t0: dontneed(p0..p2) | t1: dontneed(p0) | t2: populate(p1)"),
    ("a zap and two faults", "prefix: mmap(p0..p2); write(p0); t0: dontneed(p0..p2) | t1: populate(p1) | t2: populate(p0)"),
)
TINY = "2x2x2"
EXECUTIONS, QUICK_EXECUTIONS = 60_000, 10_000
SMALL_EXECUTIONS, QUICK_SMALL_EXECUTIONS = 1_000_000, 100_000
LOOK_UPS, QUICK_LOOK_UPS = 5_000_000, 500_000
REPEATS, QUICK_REPEATS = 5, 3
BUG = "P01"
SEEDS, QUICK_SEEDS = 200, 20
COMMANDS = 5
SHRINK_SECONDS = 10.0
#: How many executions there are of two threads with three atomic additions, up to equivalence.
TRACES = (("fetch_add_2x3", "one counter", 20), ("fetch_add_apart_2x3", "a counter each", 1))


def explore_rows(quick: bool) -> Iterator[Row]:
    """The explorer alone, the engine under it, and the first bug that it has to find."""
    module = load_explorer()
    yield _small_row(module, quick)
    for system, what, traces in TRACES:
        found = module.Explorer(module.litmus(system)).explore("dpor", executions=None)["executions"]
        yield measured(f"dpor, 2 x 3 atomic additions, {what}", [found], "executions", at_least=traces, at_most=traces)
    try:
        yield from _engine_rows(quick)
        yield from (_states_row(what, text) for what, text in TO_THE_END[:1 if quick else None])
        yield from _bug_rows(quick)
    except PtstressError as error:
        yield absent("explore, 2 x 3 faults and discards", "k/s", str(error))


def _small_row(module: ModuleType, quick: bool) -> Row:
    explorer = module.Explorer(module.litmus("fetch_add_2x3"))
    executions = QUICK_SMALL_EXECUTIONS if quick else SMALL_EXECUTIONS
    turns = range(QUICK_REPEATS if quick else REPEATS)
    rates = [_timed(explorer, executions, turn + 1, stickiness=0.0)[0] / 1e3 for turn in turns]
    return measured("explore, 2 x 3 atomic additions", rates, "M/s", at_least=1, note="random walk, in a second of CPU time")


def _engine_rows(quick: bool) -> Iterator[Row]:
    labs = []
    for text, geometry in ((PROGRAM, DEFAULT_GEOMETRY), (CROSSED, TINY)):
        lab = Lab("linux-6.18", parse_geometry(geometry), (), dict(KNOBS), 1)
        lab.load(parse(text), judged=True)
        labs.append(lab)
    executions = QUICK_EXECUTIONS if quick else EXECUTIONS
    turns = [[_timed(lab.explorer, executions, turn + 1) for lab in labs] for turn in range(QUICK_REPEATS if quick else REPEATS)]
    one, crossed = zip(*turns, strict=True)
    points = f"{crossed[0][2]:.0f} schedule points each, geometry {TINY}"
    yield measured("explore, 2 x 3 faults and discards", [rate for rate, _, _ in crossed], "k/s", at_least=50,
                   note=f"CPU time; {points}")
    yield measured("explore, 2 x 3 faults and discards, schedule point", [cost for _, cost, _ in crossed], "ns", at_most=40,
                   note="everything included: reset, operations, checks, its outcome looked up")
    yield measured("explore, a fault and a discard", [rate for rate, _, _ in one], "k/s",
                   note=f"CPU time; {one[0][2]:.0f} schedule points each, geometry {DEFAULT_GEOMETRY}")
    yield measured("explore, a fault and a discard, schedule point", [cost for _, cost, _ in one], "ns",
                   note="reset and checks are a greater part of these shorter executions")
    looked_up = [_look_ups(lab, QUICK_LOOK_UPS if quick else LOOK_UPS) for lab in labs[1:] for _ in turns]
    yield measured("explore, look-ups of an outcome", looked_up, "M/s", at_least=1,
                   note=f"CPU time; reading it included, one of {len(labs[1].table.rows)} that the model allows")


def _look_ups(lab: Lab, times: int) -> float:
    """Millions of outcomes of the last execution read and looked up, in a second of CPU time. Raises ``PtstressError``."""
    begin = time.thread_time_ns()
    found = lab.machine.look_up(times)
    spent_ns = time.thread_time_ns() - begin
    if found != times:
        raise PtstressError("bench: the outcome of an execution that passed is not in the table")
    return times / spent_ns * 1e3


def _states_row(what: str, text: str) -> Row:
    lab = Lab("linux-6.18", parse_geometry(TINY), (), {}, 1)
    lab.load(parse(text))
    found = lab.explorer.explore("states", seed=1, executions=None, max_steps=MAX_STEPS)
    if not found["exhausted"]:
        raise PtstressError(f"bench: the states of {text!r} did not come to an end: {found['stop_reason']}")
    return measured(f"states of {what}, to the end", [found["seconds"]], "s", at_most=60,
                    note=f"{found['states']:,} states in {found['executions']:,} executions, no rare paths, geometry {TINY}")


def _timed(explorer: object, executions: int, seed: int, **knobs: float) -> tuple[float, float, float]:
    """Thousands of executions in a second of CPU time, nanoseconds of a schedule point, points of an execution."""
    begin = time.thread_time_ns()
    result = explorer.explore(policy="random", seed=seed, max_steps=MAX_STEPS, executions=executions, **knobs)
    spent_ns = time.thread_time_ns() - begin
    return result["executions"] / spent_ns * 1e6, spent_ns / result["points"], result["points_mean"]


def _bug_rows(quick: bool) -> Iterator[Row]:
    bug = find_bug(BUG)

    def request(seed: int) -> ExploreRequest:
        geometry = parse_geometry(DEFAULT_GEOMETRY)
        return ExploreRequest(bug.program, bug.scheme, geometry, (bug.id,), 100_000, None, seed, "random")

    lab = lab_for(request(1))
    firsts = []
    for seed in range(1, (QUICK_SEEDS if quick else SEEDS) + 1):
        total, found = search(lab, request(seed), lambda: False)
        if found is None:
            raise PtstressError(f"bench: {BUG} was not found from seed {seed}")
        firsts.append(float(total.executions))
    low, _, high = quantiles(firsts, n=4)
    row = measured(f"explore --bug {BUG}, executions to the first failure", firsts, "executions", at_most=5,
                   note=f"directed, knobs as shipped; {len(firsts)} seeds, the middle half from {low:g} to {high:g}, "
                        f"worst {format_count(int(max(firsts)))}")
    row.spread = None           # it is of the seeds, not of the measurement
    yield row
    seconds = []
    for seed in range(1, COMMANDS + 1):
        begin = time.monotonic()
        summary = explore(request(seed), lambda line: None)
        shrink(decode(summary.failures[0].replay), summary.policy, SHRINK_SECONDS)
        explore_lines(summary)
        seconds.append(time.monotonic() - begin)
    yield measured(f"explore --bug {BUG}, the whole command", seconds, "s", at_most=1,
                   note="shrinking and report included, without the start of the interpreter")
