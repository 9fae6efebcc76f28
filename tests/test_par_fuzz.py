"""Campaigns as processes: planted crashes and hangs shrink, bugs are found, and whatever is killed, nothing stays behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from ptstress.fuzz_containment import Executor, cpu_waits, starved_s
from ptstress.fuzz_example import FuzzExample
from ptstress.fuzz_profiles import find_profile
from ptstress.fuzz_property import FuzzFailed, check, shrink
from ptstress.fuzz_summary import Tally
from ptstress.fuzz_wire import Done, FromWorker
from ptstress.fuzzing import FuzzRequest, fuzz
from ptstress.program import parse
from ptstress.replaying import replay
from ptstress.vocabulary import Verb

BITS = (2, 1, 1, 1)
#: Far above what a loaded machine needs; a test that reaches it hangs.
LIMIT_S = 120
EXAMPLE = FuzzExample(
    parse("prefix: mmap(p0..p4); write(p1); t0: write(p0); dontneed(p0..p4); read(p1) | t1: write(p2); read(p2)"),
    "linux-6.18", BITS, {"need_resched": 2}, 1, 20,
)


def planted(**knobs: int) -> FuzzExample:
    return structs.replace(EXAMPLE, knobs={**EXAMPLE.knobs, **knobs})


# ---- containment -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("knob", "oracle", "what"),
    [("crash_plant", "crash", "SIGSEGV"), ("hang_plant", "progress", "an operation never ends")],
)
def test_a_crash_and_a_hang_are_failures_of_their_example(knob, oracle, what):
    bad = planted(**{knob: Verb.DONTNEED})
    with Executor(hang_s=2.0) as executor:
        trials = list(executor.run([EXAMPLE, bad, EXAMPLE]))
        assert [trial.failure is None for trial in trials] == [True, False, True]
        signature = trials[1].failure.signature
        assert (signature.oracle, signature.what) == (oracle, what)
        assert executor.restarts == 1


def test_who_waits_for_a_cpu_is_seen_to_wait():
    """Two that spin on one cpu. An executor that gets no cpu does not hang."""
    cpu = min(os.sched_getaffinity(0))
    spin = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{cpu}])\nwhile True: pass"]
    pair = [subprocess.Popen(spin), subprocess.Popen(spin)]
    try:
        before = cpu_waits(pair[0].pid)
        while starved_s(before, cpu_waits(pair[0].pid)) < 0.05:
            assert pair[0].poll() is None
            time.sleep(0.01)
        assert starved_s({}, {}) == 0
        assert starved_s({"1": 5_000_000_000}, {"1": 6_000_000_000, "2": 3_000_000_000}) == 3
    finally:
        for process in pair:
            process.kill()
            process.wait()


def test_a_crash_shrinks_to_the_operation_that_crashes():
    with Executor() as executor:
        small = parse("prefix: mmap(p0..p4); t0: dontneed(p0..p4); read(p1) | t1: read(p2)")
        with pytest.raises(FuzzFailed) as caught:
            check(executor, structs.replace(planted(crash_plant=Verb.DONTNEED), program=small))
        simple = shrink(executor, caught.value.failure, 20.0)
    before, after = (list(f.example.program.operations()) for f in (caught.value.failure, simple))
    assert len(after) < len(before)
    assert Verb.DONTNEED in {op.verb for op in after}


def test_a_bug_shrinks_and_its_replay_finds_it_again():
    buggy = structs.replace(EXAMPLE, bugs=("P01",), executions=2000)
    with Executor() as executor:
        with pytest.raises(FuzzFailed) as caught:
            check(executor, buggy)
        simple = executor.polish(shrink(executor, caught.value.failure, 60.0))
    assert len(list(simple.example.program.operations())) <= 4
    assert simple.repeats == "fibres 10/10, threads 10/10"
    assert simple.story[0].startswith("CPU0")
    again = replay(simple.replay, "both", 10)
    assert again.reproduced == {"fibres": 10, "threads": 10}


def test_what_cannot_run_is_refused_and_the_executor_lives_on():
    with Executor() as executor:
        with pytest.raises(Exception, match="ends at p31"):
            list(executor.run([structs.replace(EXAMPLE, program=parse("t0: write(p40)"))]))
        assert check(executor, EXAMPLE) > 0
        assert executor.restarts == 0


# ---- campaigns -------------------------------------------------------------------------------------


def request(tmp_path: Path, **fields: object) -> FuzzRequest:
    profile = replace(find_profile("dev"), shrink_s=2.0)
    given = {"workers": 2, "seconds": LIMIT_S, "seed": 1, "profile": profile, "results": tmp_path / "results"}
    return FuzzRequest(**{**given, **fields})


def shrunk(tally: Tally) -> bool:
    """Somebody found a failure and shrunk it."""
    return any(kept.final for kept in tally.failures.values())


def busy(tally: Tally) -> bool:
    """Everybody has done something."""
    return all(worker.programs > 20 for worker in tally.workers) and len(tally.pairs) > 100


def test_workers_run_programs_of_their_own_and_find_nothing(tmp_path):
    summary = fuzz(request(tmp_path, until=busy), lambda line: None)
    assert summary.stop_reason == "enough"
    assert (summary.exit_code, summary.failures) == (0, [])
    assert all(worker.programs for worker in summary.workers)
    assert sum(s.executions for s in summary.by_scheme) == summary.executions
    assert sum(s.programs for s in summary.by_scheme) == summary.programs
    assert summary.distinct > 0.9 * sum(worker.distinct for worker in summary.workers)
    assert summary.coverage.pairs == summary.coverage.growth[-1] > 100
    assert summary.coverage.growth == sorted(summary.coverage.growth)
    assert summary.overlaps.total == sum(summary.overlaps.by_pair.values()) > 0
    written = json.loads((Path(summary.results) / "summary.json").read_text())
    assert written["schema"] == "ptstress.fuzz/1"


def test_a_bug_is_found_without_a_hint_shrunk_kept_and_found_at_once_the_next_time(tmp_path):
    first = fuzz(request(tmp_path, bugs=("M07-table",), until=shrunk), lambda line: None)
    assert first.exit_code == 2
    found = next(f for f in first.failures if f.replay.startswith("ptstress replay"))
    assert replay(found.replay.split("'")[1], "both", 10).reproduced == {"fibres": 10, "threads": 10}
    folder = Path(found.path)
    assert {p.name for p in folder.iterdir()} == {
        "description.txt", "example.json", "program.txt", "replay.txt", "schedule.txt", "history.ptsh", "trace.json",
    }
    assert found.replay in (folder / "replay.txt").read_text()
    # What is in the database comes before anything else: it is found although there is no time to draw.
    second = fuzz(request(tmp_path, bugs=("M07-table",), seconds=0.001, workers=1), lambda line: None)
    assert second.exit_code == 2


def test_a_crash_in_a_campaign_is_a_failure_that_again_repeats(tmp_path):
    plant = {"crash_plant": int(Verb.MUNMAP)}
    summary = fuzz(request(tmp_path, knobs=plant, workers=1, until=shrunk), lambda line: None)
    assert summary.exit_code == 2
    (failure,) = [f for f in summary.failures if f.oracle == "crash"]
    assert failure.replay == f"ptstress again {failure.path}"
    assert "munmap" in failure.program
    done = subprocess.run(
        [sys.executable, "-m", "ptstress", "again", failure.path], capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 2 and "found: crash: the process was killed by SIGSEGV" in done.stdout


# ---- signals and kills -----------------------------------------------------------------------------


class Running:
    """``ptstress fuzz`` in a process of its own."""

    def __init__(self, tmp_path: Path) -> None:
        flags = ["--duration", "1h", "-n", "2", "--profile", "dev", "--results", str(tmp_path), "--json", "-", "-q"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ptstress", "fuzz", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for(lambda: len(self.family()) >= 5, "two workers and their executors")

    def family(self) -> list[int]:
        """The process and what it started, and what that started."""
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    stat = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if stat[0] != "Z":
                    parents[int(entry.name)] = int(stat[1])
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def end(self) -> dict:
        out, err = self.process.communicate(timeout=LIMIT_S)
        assert "Traceback" not in err, err
        return json.loads(out)


def wait_for(done: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text() for pid in pids)


def test_ctrl_c_ends_everything_and_the_campaign_still_reports(tmp_path):
    running = Running(tmp_path)
    family = running.family()
    running.process.send_signal(signal.SIGINT)
    summary = running.end()
    assert (summary["schema"], summary["stop_reason"]) == ("ptstress.fuzz/1", "stopped")
    assert running.process.returncode == summary["exit_code"]
    assert gone(family)


@pytest.mark.parametrize("who", ["coordinator", "worker"])
def test_nothing_outlives_who_started_it(tmp_path, who):
    running = Running(tmp_path)
    family = running.family()
    os.kill(family[0 if who == "coordinator" else 1], signal.SIGKILL)
    if who == "worker":
        wait_for(lambda: len(set(running.family()) - set(family)) >= 2, "another worker and its executor")
        running.process.send_signal(signal.SIGINT)
        assert sum(worker["lost"] for worker in running.end()["workers"]) == 1
    else:
        running.process.communicate(timeout=LIMIT_S)
    wait_for(lambda: gone(family), "processes that outlive their parent")


def test_what_a_worker_prints_is_no_message():
    """Hypothesis printed a line when the time for shrinking was over; the coordinator took it for the head of a frame."""
    code = "from ptstress.fuzz_wire import *; fd = take_stdout(); print('noise', flush=True); send(fd, Done('all'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=LIMIT_S, check=True)
    assert b"noise" in done.stderr
    assert msgspec.msgpack.decode(done.stdout[4:], type=FromWorker) == Done("all")
