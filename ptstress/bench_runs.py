"""Rows of whole runs: recording, racing and checking together, in child processes as `ptstress run` starts them."""

import resource
import time
from collections.abc import Iterator

from ptstress.bench import Row, absent, measured
from ptstress.driver import Stopper, overlap_matrix, run_job
from ptstress.errors import PtstressError
from ptstress.lab import KNOBS, MAX_STEPS, Lab
from ptstress.plan import Overrides, plan_run
from ptstress.program import parse
from ptstress.units import parse_geometry
from ptstress.workload import load_workload

SECONDS, QUICK_SECONDS = "4s", "1s"
REPEATS, QUICK_REPEATS = 5, 3
MIX = "bench/mix"
CROWD, FEW = 8, 2

PROGRAM = "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: write(p0)"
GEOMETRY = "2x2x2x4"
EXECUTIONS, QUICK_EXECUTIONS = 60_000, 10_000


def run_rows(quick: bool) -> Iterator[Row]:
    """Checked operations a second of the stress build, end to end; beside the fast build, and in a crowd."""
    stress, fast, crowd, meetings, cpu_ns = [], [], [], [], []
    with Stopper() as stopper:
        for turn in range(QUICK_REPEATS if quick else REPEATS):
            seed = turn + 1
            checked, _, cost_ns = _run(MIX, "stress", FEW, seed, quick, stopper)
            stress.append(checked)
            cpu_ns.append(cost_ns)
            fast.append(_run(MIX, "fast", FEW, seed, quick, stopper)[0])
            crowd.append(_run(MIX, "stress", CROWD, seed, quick, stopper)[0])
            meetings.append(_run("fault_vs_dontneed", "stress", FEW, seed, quick, stopper)[1])
            if stopper.requests:
                break
    yield measured("stress, checked operations", stress, "M/s", references=fast, at_least=2, ratio_at_least=0.25,
                   note=f"{FEW} threads, racing and checking, workload {MIX}; reference: the same in build fast")
    yield measured("stress, CPU time of a checked operation", cpu_ns, "ns",
                   note="start of the process included; what other load leaves alone")
    yield measured("fault_vs_dontneed, overlaps", meetings, "M/s", at_least=0.5,
                   note=f"{FEW} threads, end to end; klitmus7: 5 to 11 M trials/s of a few instructions each")
    yield measured(f"{CROWD} threads", crowd, "M/s", references=stress, ratio_at_least=0.8,
                   note=f"checked operations; reference: {FEW} threads on the same work")


def _run(
    workload: str, build: str, threads: int, seed: int, quick: bool, stopper: Stopper
) -> tuple[float, float, float]:
    """Of one run: millions of checked operations a second, of overlaps a second, CPU nanoseconds of a checked operation.

    Raises if it did not pass.
    """
    overrides = Overrides(threads=threads, duration=QUICK_SECONDS if quick else SECONDS, seed=seed, build=build)
    before = _children_cpu_s()
    outcome = run_job(plan_run(load_workload(workload), overrides)[0].job, stopper)
    cpu_s = _children_cpu_s() - before
    result = outcome.result
    if result is None or outcome.reports or not result.checked:
        raise PtstressError(f"bench: {workload} under build {build} did not pass: {outcome.kind} {outcome.message}")
    elapsed_s = (result.race_ns + result.check_ns) / 1e9
    overlaps = int(overlap_matrix(result).sum())
    return result.checked / elapsed_s / 1e6, overlaps / elapsed_s / 1e6, cpu_s * 1e9 / result.checked


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def explore_rows(quick: bool) -> Iterator[Row]:
    """Executions a second of the explorer, and what one schedule point costs."""
    try:
        lab = Lab("linux-6.18", parse_geometry(GEOMETRY), (), dict(KNOBS), 1)
    except PtstressError as error:
        yield absent("explore, executions", "k/s", str(error))
        return
    lab.load(parse(PROGRAM))
    executions = QUICK_EXECUTIONS if quick else EXECUTIONS
    rates, points = [], []
    for turn in range(QUICK_REPEATS if quick else REPEATS):
        begin = time.thread_time_ns()
        result = lab.explorer.explore(policy="random", seed=turn + 1, max_steps=MAX_STEPS, executions=executions)
        spent_ns = time.thread_time_ns() - begin
        rates.append(result["executions"] / spent_ns * 1e6)
        points.append(spent_ns / result["points"])
    yield measured("explore, executions", rates, "k/s", note="in a second of CPU time of one thread; two threads, two operations")
    yield measured("explore, schedule point", points, "ns", note="everything included: reset, operations, checks")
