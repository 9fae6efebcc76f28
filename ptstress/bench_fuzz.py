"""Rows of fuzz campaigns: how many operations and programs a worker gets done, drawing and watching included."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ptstress.bench import Row, measured
from ptstress.errors import PtstressError
from ptstress.generator import generate
from ptstress.lab import KNOBS, MAX_STEPS, Lab
from ptstress.units import parse_geometry

if TYPE_CHECKING:
    from ptstress.fuzz_summary import FuzzSummary

SECONDS, QUICK_SECONDS = 12.0, 4.0
REPEATS, QUICK_REPEATS = 5, 3
GEOMETRY = "2x2x2x4"
PROGRAMS, EXECUTIONS = 40, 100
#: Few for each program: what is counted is programs.
SCHEDULES = 16


def fuzz_rows(quick: bool) -> Iterator[Row]:
    """One worker alone, two beside each other, and what looking at pairs of accesses costs the explorer."""
    alone, both, operations = [], [], []
    for turn in range(QUICK_REPEATS if quick else REPEATS):
        one, two = (_campaign(workers, turn + 1, QUICK_SECONDS if quick else SECONDS) for workers in (1, 2))
        operations.append(one.operations_per_second / 1e3)
        alone.append(one.distinct / one.duration_s)
        both.append(two.distinct / two.duration_s)
    yield measured("fuzz, operations", operations, "k/s", at_least=50, note="one worker, from its start to its end")
    yield measured("fuzz, distinct programs", both, "/s", references=alone, ratio_at_least=1.8,
                   note="two workers, in union; reference: one worker")
    watched, unwatched = zip(*(_points(turn + 1) for turn in range(QUICK_REPEATS if quick else REPEATS)), strict=True)
    yield measured("explore, watching pairs", watched, "M points/s", references=unwatched, ratio_at_least=0.9,
                   note="reference: without")


def _campaign(workers: int, seed: int, seconds: float) -> "FuzzSummary":
    # Hypothesis takes a while to import: only who fuzzes waits for it.
    from ptstress.fuzz_profiles import find_profile
    from ptstress.fuzzing import FuzzRequest, fuzz

    profile = replace(find_profile("dev"), schedules=SCHEDULES, race_every=0)
    with tempfile.TemporaryDirectory() as folder:
        request = FuzzRequest(workers=workers, seconds=seconds, seed=seed, profile=profile, results=Path(folder))
        summary = fuzz(request, lambda line: None)
    if summary.failures:
        raise PtstressError(f"bench: a campaign found {summary.failures[0].signature}")
    return summary


def _points(seed: int) -> tuple[float, float]:
    """Millions of schedule points for a second of processor time, with and without looking at pairs."""
    geometry = parse_geometry(GEOMETRY)
    lab = Lab("linux-6.18", geometry, (), dict(KNOBS), seed)
    pairs = lab.explorer_module.SitePairs()
    points, seconds = [0, 0], [0.0, 0.0]
    for number in range(PROGRAMS):
        lab.load(generate(seed * PROGRAMS + number, geometry))
        for which, watch in enumerate((pairs, None)):
            begin = time.process_time()
            result = lab.explorer.explore(seed=seed, executions=EXECUTIONS, max_steps=MAX_STEPS, pairs=watch)
            seconds[which] += time.process_time() - begin
            points[which] += result["points"]
    return points[0] / seconds[0] / 1e6, points[1] / seconds[1] / 1e6
