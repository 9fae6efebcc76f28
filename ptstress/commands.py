"""The verbs ``run``, ``explore``, ``replay`` and ``doctor``: their flags, and what they call."""

import math
from functools import partial
from pathlib import Path

import click

from ptstress.bugs import find_bugs
from ptstress.doctor import doctor_lines, examine
from ptstress.errors import UsageError
from ptstress.options import (
    build_option, check_writable, json_option, reconstruct_option, results_option, screen, shared, show,
    status_lines, threads_option, trace_option, write_json)
from ptstress.plan import Overrides
from ptstress.units import parse_duration, parse_geometry
from ptstress.vocabulary import EXPLORED

DEFAULT_EXECUTIONS = 10000
MAX_TIMES = 10000
MAX_BURSTS = 1000


@click.command()
@click.argument("workload")
@shared("scheme")
@threads_option()
@click.option("--duration", metavar="TIME", help="Of each stage: 45s 5m 3h 2d (default: the workload's).")
@shared("seed", "bug")
@build_option()
@shared("geometry")
@results_option()
@click.option(
    "--history", metavar="FILE", callback=check_writable, help="Keep what the last bursts did in FILE, for 'ptstress check'."
)
@click.option(
    "--history-bursts", type=click.IntRange(1, MAX_BURSTS), default=4, metavar="N", help="How many bursts (default: 4)."
)
@reconstruct_option()
@shared("json", "quiet", "verbose")
def run(
    workload: str, scheme: str | None, threads: int | None, duration: str | None, seed: int, bugs: tuple[str, ...],
    build: str, geometry: str | None, results: str, history: str | None, history_bursts: int, reconstruct: str,
    no_reconstruct: bool, json_to: str | None, quiet: bool, verbose: bool,
) -> int:
    """Run WORKLOAD (a file, or a packaged name) under real threads."""
    from ptstress.running import RunRequest, run_workload

    if duration is not None:
        parse_duration(duration)
    if geometry is not None:
        parse_geometry(geometry)
    find_bugs(bugs)
    overrides = Overrides(scheme, geometry, threads, duration, seed, build, tuple(dict.fromkeys(bugs)))
    request = RunRequest(
        workload, overrides, Path(results), quiet, verbose, history or "", history_bursts if history else 0,
        0.0 if no_reconstruct else parse_duration(reconstruct),
    )
    summary = run_workload(request, partial(print, file=screen(json_to), flush=True))
    write_json(json_to, summary)
    return summary.exit_code


@click.command()
@click.argument("program", required=False)
@shared("bug", "scheme", "geometry")
@click.option(
    "--executions", type=click.IntRange(1, 10**12), metavar="N", help=f"At most N (default: {DEFAULT_EXECUTIONS})."
)
@shared("seed")
@click.option("--duration", metavar="D", help="At most so long, such as 45s or 5m.")
@click.option("--seconds", type=click.FloatRange(0.001, 1e9), metavar="S", help="The same in seconds.")
@results_option()
@click.option(
    "--policy", default="random", metavar="NAME",
    help="random, pct or pos; dfs, dpor or states, which end (default: random).",
)
@click.option(
    "--preemptions", type=click.IntRange(0, 64), default=2, metavar="N", help="dfs: in one execution at most (default: 2)."
)
@click.option(
    "--weaken", is_flag=False, flag_value="all", metavar="LABELS",
    help="Leave out one ordering of these labels (PT-004,... or all) after the other, and show what catches it.",
)
@build_option("sched")
@trace_option()
@click.option("--shrink", metavar="TIME", help="Make a failure simpler for at most so long (default: 10s, at most 60s).")
@click.option("--no-shrink", is_flag=True, help="Show a failure as it was found.")
@shared("json", "quiet", "verbose")
def explore(
    program: str | None, bugs: tuple[str, ...], scheme: str | None, geometry: str | None, executions: int | None,
    seed: int, duration: str | None, seconds: float | None, results: str, policy: str, preemptions: int, weaken: str | None,
    build: str, shrink: str | None, no_shrink: bool, trace_to: str | None, json_to: str | None, quiet: bool, verbose: bool,
) -> int:
    """Explore schedules of PROGRAM (a file, or text such as 'prefix: mmap(p0..p4); t0: write(p0) | t1: dontneed(p0..p4)').

    Without PROGRAM, of generated programs.
    """
    from ptstress import examining, exploring
    from ptstress.explore_report import explore_lines
    from ptstress.failure_folder import write_trace

    if policy not in exploring.POLICIES:
        raise UsageError(f"policy {policy!r}: expected one of {', '.join(exploring.POLICIES)}")
    if build not in EXPLORED:
        raise UsageError(f"build {build!r} has no schedule points: expected {' or '.join(EXPLORED)}")
    if shrink is not None and no_shrink:
        raise UsageError("--no-shrink with --shrink: expected one of them")
    shrink_s = examining.shrink_seconds(shrink or examining.SHRINK)
    find_bugs(bugs)
    if weaken is not None:
        if build != "sched":
            raise UsageError(f"--weaken: build {build!r} takes memory as it is: expected sched")
        if bugs or duration is not None or seconds is not None:
            raise UsageError("--weaken: expected no --bug, and --executions for each ordering in place of a time")
        return _weaken(weaken, program, scheme, geometry, executions, seed, json_to, quiet)
    if duration is not None:
        seconds = min(parse_duration(duration), seconds or math.inf)
    if executions is None and seconds is None:
        executions = DEFAULT_EXECUTIONS
    request = exploring.ExploreRequest(
        program, scheme or "linux-6.18", parse_geometry(geometry or exploring.DEFAULT_GEOMETRY), tuple(dict.fromkeys(bugs)),
        executions, seconds, seed, policy, preemptions, build=build,
    )
    progress = status_lines(quiet)
    summary = exploring.explore(request, progress)
    if not no_shrink:
        summary.failures = [examining.examine(failure, policy, shrink_s) for failure in summary.failures]
    lines = explore_lines(summary)
    if summary.failures:
        lines.append(f"results: {exploring.keep_failure(summary, Path(results))}")
        write_trace(trace_to, summary.failures[0].replay)
    elif trace_to:
        lines.append(f"note: nothing failed, so there is no execution to write to {trace_to}")
    return show(summary, lines, json_to)


def _weaken(
    labels: str, program: str | None, scheme: str | None, geometry: str | None, executions: int | None, seed: int,
    json_to: str | None, quiet: bool,
) -> int:
    from ptstress import exploring, weakening

    request = weakening.WeakenRequest(
        tuple(label.strip() for label in labels.split(",")) if labels != "all" else (),
        exploring.read_program(program) if program is not None else None, scheme,
        parse_geometry(geometry or exploring.DEFAULT_GEOMETRY), executions or DEFAULT_EXECUTIONS, seed,
    )
    tell = status_lines(quiet)
    summary = weakening.weaken(request, tell)
    return show(summary, weakening.weaken_lines(summary), json_to)


@click.command()
@click.argument("string")
@click.option("--on", "carriers", default="both", metavar="WHERE", help="fibres, threads or both (default: both).")
@click.option("--times", type=click.IntRange(1, MAX_TIMES), default=10, metavar="N", help="On each (default: 10).")
@trace_option()
@shared("json", "quiet")
def replay(string: str, carriers: str, times: int, trace_to: str | None, json_to: str | None, quiet: bool) -> int:
    """Repeat the execution that the replay STRING describes, on fibres and on OS threads."""
    from ptstress import replaying
    from ptstress.explore_report import replay_lines
    from ptstress.failure_folder import write_trace

    if carriers not in replaying.WHERE:
        raise UsageError(f"--on {carriers!r}: expected one of {', '.join(replaying.WHERE)}")
    summary = replaying.replay(string, carriers, times)
    write_trace(trace_to, string)
    return show(summary, replay_lines(summary)[: 1 if quiet else None], json_to)


@click.command()
@json_option()
def doctor(json_to: str | None) -> int:
    """Check what this machine and this installation can do."""
    report = examine()
    return show(report, doctor_lines(report), json_to)
