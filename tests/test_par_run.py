"""Runs under real threads, end to end: pass, violation, stop, crash, and what each leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ptstress.bugs import BUGS, find_bug
from ptstress.bugs_sleep import SLEEP_BUGS
from ptstress.driver import Stopper, run_job
from ptstress.engine import load_engine
from ptstress.history import operation_starts
from ptstress.history_check import check_history
from ptstress.history_json import from_json, load_history, to_json
from ptstress.layout import HEADER_DTYPE, WORKER_DTYPE, shared_bytes
from ptstress.plan import Overrides, plan_run
from ptstress.report import MAX_SCREEN
from ptstress.results import Canaries
from ptstress.schemes import find_scheme
from ptstress.verdict import summarize_stage
from ptstress.vocabulary import EVENT_DTYPE, OP_DTYPE, REPORT_DTYPE
from ptstress.workload import load_workload
from schemes_under_test import NAMES

#: Far above what a loaded machine needs; a test that reaches it hangs.
LIMIT_S = 120


class Run:
    """``ptstress run`` in a process of its own, in an empty folder."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "ptstress", "run", *arguments, "--results", str(folder / "results")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)

    def end(self) -> int:
        """Wait; returns the exit code. ``out`` and ``err`` hold the text."""
        self.out, self.err = self.process.communicate(timeout=LIMIT_S)
        assert "Traceback" not in self.err
        return self.process.returncode

    def wait_for(self, event: str) -> dict:
        """Wait until the log has a line of this kind."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self.log():
                if line["event"] == event:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no {event} in the log")

    def log(self) -> Iterator[dict]:
        """Complete lines of the log."""
        for path in self.folder.glob("results/*/log.jsonl"):
            for line in path.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    yield json.loads(line)

    def child(self) -> int:
        """Process id of the child that runs the engine, once there is one."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            for pid in children.read_text().split():
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"ptstress.child" in command:
                    return int(pid)
            time.sleep(0.01)
        raise AssertionError("no child")

    def summary(self) -> dict:
        """``summary.json`` of the only run."""
        (path,) = self.folder.glob("results/*/summary.json")
        return json.loads(path.read_text())

    def failure_folders(self) -> list[Path]:
        """Folders of failures, in order of their names."""
        return sorted(self.folder.glob("results/*/failure-*"))


def is_running(pid: int) -> bool:
    """Whether a process is there and not just a name that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def screens(text: str) -> list[list[str]]:
    """The screens in an output."""
    return [block.splitlines() for block in text.rstrip("\n").split("\n\n")]


@pytest.mark.parametrize("build", ["fast", "stress"])
def test_layout_of_the_shared_region_is_the_engines(build):
    engine = load_engine(build)
    layout = engine.layout()
    assert engine.shared_bytes(3, 100) == shared_bytes(3, 100)
    assert (layout["header_bytes"], layout["worker_bytes"]) == (HEADER_DTYPE.itemsize, WORKER_DTYPE.itemsize)
    assert (layout["event_bytes"], layout["report_bytes"]) == (EVENT_DTYPE.itemsize, REPORT_DTYPE.itemsize)
    assert layout["op_bytes"] == OP_DTYPE.itemsize


@pytest.mark.parametrize("name", NAMES)
def test_a_short_run_passes_under_every_scheme(tmp_path, name):
    scheme = find_scheme(name)
    run = Run(tmp_path, "fault_vs_dontneed", "--scheme", scheme.name, "--duration", "2s", "--threads", "4")
    assert run.end() == 0, run.out + run.err
    (screen,) = screens(run.out)
    assert len(screen) <= MAX_SCREEN and screen[0].startswith("verdict: PASS")
    summary = run.summary()
    assert summary["checked"]["ops"] == summary["checked"]["of"] > 0
    assert summary["overlaps"]["named"]["write/dontneed"] > 0
    assert summary["canaries"]["found"] == summary["canaries"]["planted"] == len(scheme.canaries) >= 2
    # Upper tables stay, unless a policy frees them too.
    assert summary["tables"]["end_bytes"] <= summary["tables"]["peak_bytes"]
    assert summary["tables"]["end_bytes"] > 0 or "upper" in scheme.policies
    assert run.failure_folders() == []
    (testid,) = tmp_path.glob("results/*/testid.txt")
    keys = [line.partition(":")[0] for line in testid.read_text().splitlines()]
    assert keys == ["ptstress", "build", "command", "seed", "kernel", "cpu", "python"]


def test_reclaim_leaves_fewer_tables(tmp_path):
    ends = {}
    for scheme in ("linux-6.12", "linux-6.18"):
        folder = tmp_path / scheme
        folder.mkdir()
        run = Run(folder, "fault_vs_dontneed", "--scheme", scheme, "--duration", "1s")
        assert run.end() == 0, run.out + run.err
        ends[scheme] = run.summary()["tables"]["end_bytes"]
    # pmd_table and pud_table stay; before reclaim the eight pte_tables stay too.
    assert ends == {"linux-6.12": 10 * 4096, "linux-6.18": 2 * 4096}


@pytest.mark.parametrize("workload", ["walk_vs_dontneed", "munmap_vs_fault"])
def test_the_other_workloads_pass(tmp_path, workload):
    run = Run(tmp_path, workload, "--duration", "1s")
    assert run.end() == 0, run.out + run.err


def test_a_stalled_reader_makes_others_wait_and_tables_do_not_pile_up(tmp_path):
    """One walker stays in an RCU section for a second; threads that free tables stop when their queues are full."""
    threads, backlog_max = 4, 64
    run = Run(tmp_path, "stalled_walk_vs_dontneed", "--duration", "2s", "--threads", str(threads))
    assert run.end() == 0, run.out + run.err
    summary = run.summary()
    debt = summary["debt"]
    assert debt["unlinked"] > debt["max_tables"] > backlog_max
    # A thread looks before each operation, which unlinks one table at most: two queues, those of walkers and of hardware.
    assert debt["max_tables"] <= threads * (2 * backlog_max + 1)
    assert debt["waits"] > 0 and debt["left"] == 0
    assert debt["max_age_ms"] >= debt["max_gp_ms"] >= 1000 and debt["table_ms"] >= 1000 * backlog_max
    assert all(summary["ops"]["by_kind"][verb] for verb in ("walk", "dontneed", "write"))


def test_the_headline_shows_three_stages_and_what_reclaim_gives_back(tmp_path):
    run = Run(tmp_path, "headline", "--duration", "1s", "-q")
    assert run.end() == 0, run.out + run.err
    assert run.err == ""
    blocks = screens(run.out)
    assert len(blocks) == 4 and all(len(block) <= MAX_SCREEN for block in blocks)
    before, after, trace = run.summary()["stages"]
    assert after["tables"]["end_bytes"] < before["tables"]["end_bytes"]
    assert trace["replays"] >= 1 and trace["overlaps"]["named"]["walk/dontneed"] > 0


ROOT = Path(__file__).parent.parent
#: What operations report of data while they run.
SEEN_AT_ONCE = [
    text for floor in ("core", "ops") for path in (ROOT / "cy" / floor).glob("*.pxd")
    for text in re.findall(r'ORACLE_DATA, \d+, b"([^"]+)', path.read_text())
]


#: Threads meet it in a window of two instructions only. The explorer's tests find it within the default suite.
SELDOM = ("M11-mprotect",)


@pytest.mark.parametrize("bug", [
    pytest.param(bug, id=bug.id, marks=pytest.mark.long if bug.id in SELDOM else ()) for bug in BUGS if bug.workload
])
def test_a_planted_bug_is_found_by_the_right_oracle(tmp_path, bug):
    assert find_scheme(bug.scheme).runs(bug.id)
    # A run ends when the bug is found: the duration is only what a machine that is busy with other things may take.
    run = Run(tmp_path, bug.workload, "--bug", bug.id, "--scheme", bug.scheme, "--duration", "100s", "--threads", "4",
              "--no-reconstruct")
    assert run.end() == 2, run.out + run.err
    summary = run.summary()
    assert summary["failure"]["oracle"] in bug.oracles
    assert summary["canaries"]["found"] == summary["canaries"]["planted"] == 1
    folder = Path(summary["failure"]["path"])
    assert folder in run.failure_folders()
    names = {path.name for path in folder.iterdir()}
    assert {"description.txt", "workload.toml", "seed.txt", "replay.txt", "history.ptsh"} <= names
    description = (folder / "description.txt").read_text()
    assert f"oracle: {summary['failure']['oracle']}" in description
    assert "worker 3:" in description
    history = load_history(folder)
    assert sum(map(len, history.rings)) > 0 and history.known and history.final is not None
    # What is found in tables, locks or TLBs need not have shown in the data, nor what an operation saw go wrong in its own;
    # what the data oracle found when the burst had ended shows again.
    found = [(path / "description.txt").read_text() for path in run.failure_folders()]
    judged = [text for text in found if "oracle: data" in text and not any(at_once in text for at_once in SEEN_AT_ONCE)]
    assert check_history(history).verdict == "violation" or not judged
    assert f"--bug {bug.id}" in (folder / "replay.txt").read_text()


#: Bugs of walks that sleep, under schemes other than the one that they are found under above.
SLEEPING = [
    (bug, scheme) for scheme in ("seed-srcu", "seed-refcount") for bug in find_scheme(scheme).canaries
    if bug not in find_scheme("seed-zero").canaries + find_scheme("rcu").canaries and find_bug(bug).scheme != scheme
]


@pytest.mark.parametrize(("bug", "scheme"), SLEEPING)
def test_bugs_of_walks_that_sleep_are_found_under_each_scheme_that_has_them(tmp_path, bug, scheme):
    workload = find_bug(bug).workload
    run = Run(tmp_path, workload, "--bug", bug, "--scheme", scheme, "--duration", "100s", "--threads", "4", "--no-reconstruct")
    assert run.end() == 2, run.out + run.err
    assert run.summary()["failure"]["oracle"] in find_bug(bug).oracles


@pytest.mark.parametrize("scheme", ["seed-srcu", "seed-refcount"])
def test_a_scheme_whose_walks_keep_tables_plants_two_bugs_of_that(scheme):
    assert len({bug.id for bug in SLEEP_BUGS if bug.id != "M03-notifier"} & {*find_scheme(scheme).canaries}) >= 2


def test_a_run_keeps_the_history_of_its_last_bursts(tmp_path):
    path = tmp_path / "h.ptsh"
    run = Run(tmp_path, "fault_vs_dontneed", "--duration", "1s", "--threads", "3", "--history", str(path),
              "--history-bursts", "2")
    assert run.end() == 0, run.out + run.err
    history = load_history(path)
    first, last = map(int, re.search(r"bursts (\d+) to (\d+)", history.made_by).groups())
    assert first <= last <= first + 1 and len(history.maps) > 0 and history.task_pages == 1 << 36
    found = check_history(history)
    assert (found.verdict, found.checked) == ("ok", found.operations)
    again = from_json(to_json(history), "here")
    for a, b in zip(history.rings, again.rings, strict=True):
        assert (a[operation_starts(a)]["t0"] == b[operation_starts(b)]["t0"]).all()


# Its canaries survive, one after the other, each for as long as it has.
@pytest.mark.long
def test_one_thread_races_with_nobody(tmp_path):
    run = Run(tmp_path, "fault_vs_dontneed", "--threads", "1", "--duration", "1s")
    assert run.end() == 7
    assert "no write/dontneed ever met" in run.out


def test_the_fast_build_takes_its_canaries_from_a_companion(tmp_path):
    run = Run(tmp_path, "fault_vs_dontneed", "--build", "fast", "--duration", "1s")
    assert run.end() == 0, run.out + run.err
    assert "stress companion" in run.out
    summary = run.summary()
    assert summary["build"] == "fast" and summary["checked"]["ops"] == summary["checked"]["of"] > 0


def test_json_on_stdout_and_the_screen_beside_it(tmp_path):
    run = Run(tmp_path, "walk_vs_dontneed", "--duration", "1s", "--json", "-", "-q")
    assert run.end() == 0, run.out + run.err
    printed = json.loads(run.out)
    assert printed == run.summary() and printed["schema"] == "ptstress.run/1"
    assert run.err.startswith("verdict: PASS")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_a_report(tmp_path, number):
    run = Run(tmp_path, "fault_vs_dontneed", "--duration", "1h")
    run.wait_for("status")
    run.process.send_signal(number)
    assert run.end() == 0, run.out + run.err
    assert "stopped early" in run.out.splitlines()[0]
    assert run.summary()["ops"]["total"] > 0


def test_a_signal_before_the_race_ends_it_too(tmp_path):
    run = Run(tmp_path, "fault_vs_dontneed", "--duration", "1h")
    run.wait_for("start")
    run.child()
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 7
    assert run.out.startswith("verdict: UNKNOWN")


def test_a_crash_of_the_child_shows_the_last_operations_of_each_worker(tmp_path):
    run = Run(tmp_path, "fault_vs_dontneed", "--duration", "1h", "--threads", "3", "--reconstruct", "1s")
    run.wait_for("status")
    os.kill(run.child(), signal.SIGSEGV)
    assert run.end() == 5, run.out + run.err
    assert "killed by SIGSEGV" in run.out
    # Nothing is broken, so there is no schedule of it.
    assert re.search(r"^not reconstructed in \d.*: [\d,. kM]+ executions of \d+ programs", run.out, re.M), run.out
    (folder,) = run.failure_folders()
    text = (folder / "description.txt").read_text()
    for worker in range(3):
        block = re.search(rf"  worker {worker}:\n((?:    .*\n)+)", text)
        assert block and re.search(r"(read|write|dontneed)\(p\d+", block[1])


def test_the_peak_is_that_of_the_race(tmp_path):
    """Eight tables in the setup. In the race one, with two above it, and one that was unlinked and is still counted."""
    workload = tmp_path / "peak.toml"
    touch = 'tables = [0, 1]\nstride = "pte_table"\nstrides = 8\n'
    workload.write_text(
        'name = "peak"\nsummary = "s"\npairs = ["write/dontneed"]\nthreads = 2\n'
        + "".join(f'[[setup]]\nverb = "{verb}"\n{touch}' for verb in ("mmap", "write", "dontneed"))
        + '[[workers]]\nmix = { write = 1, dontneed = 1 }\nunit = { dontneed = "1 table" }\ntables = [0, 1]\n')
    source = load_workload(str(workload))
    (plan,) = plan_run(source, Overrides(scheme="linux-6.18", duration="1s", build="fast"))
    tables = summarize_stage(plan, run_job(plan.job, Stopper()), Canaries()).tables
    assert tables.start_bytes == 2 * 4096 and tables.peak_bytes in (3 * 4096, 4 * 4096)


def test_the_child_dies_with_its_parent(tmp_path):
    run = Run(tmp_path, "fault_vs_dontneed", "--duration", "1h")
    run.wait_for("stage")
    child = run.child()
    run.process.kill()
    run.process.communicate(timeout=LIMIT_S)
    deadline = time.monotonic() + LIMIT_S
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)
