"""From a violation that threads show to a schedule of it, end to end."""

import json
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from ptstress.bugs import BUGS, find_bug
from ptstress.driver import Outcome, Stopper, run_job
from ptstress.flight import Flight
from ptstress.fuzz_example import Failure, FuzzExample, Signature
from ptstress.fuzz_executor import ON_THREADS, Trier
from ptstress.plan import Overrides, StagePlan, plan_run
from ptstress.program import parse
from ptstress.reconstruct import reconstruct
from ptstress.reconstructing import look_for_schedule, request_of
from ptstress.replaying import replay
from ptstress.workload import load_workload

THREADS = 4
#: Found or not: the searches of these tests are bounded by what they try, not by time.
EXECUTIONS = 200_000
#: Of the bugs that threads show, so many are to be reconstructed.
SHARE = 0.9


def violation(bug_id: str) -> tuple[StagePlan, Outcome]:
    """What threads show of a bug, which ends the run."""
    bug = find_bug(bug_id)
    overrides = Overrides(scheme=bug.scheme, threads=THREADS, duration="100s", bugs=(bug_id,))
    plan = plan_run(load_workload(bug.workload), overrides)[0]
    outcome = run_job(structs.replace(plan.job, burst_ms=20), Stopper())
    assert outcome.reports or outcome.kind == "hung"
    return plan, outcome


@pytest.mark.parametrize("bug_id", ["M10-frame", "M07-table"])
def test_a_violation_on_threads_becomes_a_schedule_that_repeats_it(bug_id):
    plan, outcome = violation(bug_id)
    answer = look_for_schedule(request_of(plan, outcome, None, EXECUTIONS), lambda: False)
    found = answer.found
    assert found.replay and not found.note, found
    assert found.oracle == outcome.reports[0]["oracle"] and found.executions <= EXECUTIONS
    assert "t0: " in found.program and found.story
    again = replay(found.replay, "both", 2)
    assert again.verdict == "violation" and again.reproduced == {"fibres": 2, "threads": 2}
    assert again.oracle == found.oracle
    assert answer.files["replay.txt"] == f"ptstress replay '{found.replay}'\n".encode()
    assert set(answer.files) == {"replay.txt", "program.txt", "story.txt", "schedule.txt", "trace.json"}


def test_a_run_puts_the_schedule_beside_what_threads_left(tmp_path):
    command = [sys.executable, "-m", "ptstress", "run", "canaries/P01", "--bug", "P01", "--results", str(tmp_path), "-q"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "\nreconstructed: at execution " in done.stdout
    (path,) = tmp_path.glob("*/summary.json")
    failure = json.loads(path.read_text())["failure"]
    names = {p.name for p in Path(failure["path"]).iterdir()}
    assert {"replay.txt", "story.txt", "program.txt", "history.ptsh", "job.json", "description.txt", "flight.txt"} <= names
    flight = msgspec.json.decode((Path(failure["path"]) / "flight.json").read_bytes(), type=Flight)
    assert len({e.worker for e in flight.entries}) >= 2 and {"lock", "recheck"} <= {e.kind for e in flight.entries}
    assert (Path(failure["path"]) / "replay.txt").read_text() == f"ptstress replay '{failure['schedule']['replay']}'\n"
    assert failure["replay"].startswith("ptstress run canaries/P01 ")


def test_nothing_is_reconstructed_of_an_engine_that_is_not_broken():
    plan, outcome = violation("M10-frame")
    request = request_of(plan, outcome, None, executions=2000)
    sound = structs.replace(request, job=structs.replace(request.job, config={**request.job.config, "bugs": []}))
    found = reconstruct(sound)
    assert not found.replay and found.programs > 0 and found.executions >= 2000


def test_a_search_is_given_up_when_somebody_asks_to_stop():
    plan, outcome = violation("M10-frame")
    request = request_of(plan, outcome, None)
    sound = structs.replace(request, job=structs.replace(request.job, config={**request.job.config, "bugs": []}))
    ticks = iter(range(1000))
    found = look_for_schedule(sound, lambda: next(ticks) > 2).found
    assert found.note == "stopped" and not found.replay


@pytest.mark.long
def test_most_bugs_that_threads_show_are_reconstructed():
    """Prints a table: what threads saw, and at which execution of how many programs the same oracle objected again."""
    bugs = [bug for bug in BUGS if bug.workload]
    missed = []
    for bug in bugs:
        plan, outcome = violation(bug.id)
        begin = time.monotonic()
        found = look_for_schedule(request_of(plan, outcome, None, EXECUTIONS), lambda: False).found
        what = outcome.reports[0]["what"] if outcome.reports else outcome.message
        how = f"execution {found.executions:,} of {found.programs} programs" if found.replay else f"NOT FOUND {found.note}"
        print(f"{bug.id:16} {how:40} {time.monotonic() - begin:5.1f} s  {what}")
        missed += [] if found.replay else [bug.id]
    assert len(missed) <= (1 - SHARE) * len(bugs), f"{missed} of {len(bugs)}"


def test_a_request_survives_its_way_to_another_process():
    plan, outcome = violation("M10-frame")
    request = request_of(plan, outcome, 3.0)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=type(request)) == request


def test_a_violation_that_a_campaign_met_on_threads_gets_a_schedule():
    example = FuzzExample(
        parse("prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: write(p0)"), "linux-6.18", (2, 1, 1, 1),
        {"reuse": "lifo"}, 1, 1, rounds=1, bugs=("M15-lock-order",),
    )
    met = Failure(Signature("lock-order", 0, ON_THREADS, "waits"), "lock-order: waits", example)
    polished = Trier().polish(met)
    assert polished.replay and "reconstructed at execution" in polished.repeats and polished.detail.startswith("lock-order: ")
    assert replay(polished.replay, "fibres", 1).verdict == "violation"
