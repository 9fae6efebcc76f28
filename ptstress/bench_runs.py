"""Rows of whole runs: recording, racing and checking together, in child processes as `ptstress run` starts them."""

import resource
import time
from collections.abc import Iterator

from ptstress.bench import Row, measured
from ptstress.driver import Stopper, overlap_matrix, run_job
from ptstress.errors import PtstressError
from ptstress.plan import Overrides, plan_run
from ptstress.workload import load_workload

SECONDS, QUICK_SECONDS = "4s", "1s"
REPEATS, QUICK_REPEATS = 5, 3
MIX = "bench/mix"
CROWD, FEW = 8, 2


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
