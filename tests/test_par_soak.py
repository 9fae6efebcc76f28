"""Soaks in processes of their own: kills, stops, resumes, a full disk, and what each leaves behind."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ptstress.cli import main
from ptstress.report import MAX_SCREEN
from ptstress.soak_checkpoint import decode_checkpoint

#: Far above what a loaded machine needs; a test that reaches it hangs.
LIMIT_S = 120
QUICK = ("fault_vs_dontneed", "--scheme", "linux-6.12", "--slice", "500ms", "--threads", "2")
#: One slice of each combination is enough for that.
ENOUGH = ("--until", "confidence=50%@1e-3")
#: Found in every slice, by the same oracle or by one of a few.
BUG = ("--bug", "M10-frame")


class Soak:
    """``ptstress soak`` or ``resume`` in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        verb = [] if arguments[0] in ("resume", "again") else ["soak"]
        where = ["--results", str(folder / "results")] if verb else []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ptstress", *verb, *arguments, *where], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd=folder,
        )

    def end(self) -> int:
        """Wait; returns the exit code. ``out`` and ``err`` hold the text."""
        self.out, self.err = self.process.communicate(timeout=LIMIT_S)
        assert "Traceback" not in self.err, self.err
        assert len(self.out.partition("\n\n")[0].splitlines()) <= MAX_SCREEN
        return self.process.returncode

    @property
    def results(self) -> Path:
        (path,) = self.folder.glob("results/*")
        return path

    def log(self) -> Iterator[dict]:
        for path in self.folder.glob("results/*/log.jsonl"):
            for line in path.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n") and line.strip():
                    yield json.loads(line)

    def wait_for(self, wanted: Callable[[list[dict]], object]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not wanted(list(self.log())):
            assert self.process.poll() is None and time.monotonic() < deadline, self.process.communicate()[1]
            time.sleep(0.02)

    def count(self, event: str) -> int:
        return sum(line["event"] == event for line in self.log())

    def child(self) -> int:
        """Process id of the child that runs the slice, once there is one."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            for pid in children_of(self.process.pid):
                if b"ptstress.child" in command_of(pid):
                    return pid
            time.sleep(0.01)
        raise AssertionError("no child")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=LIMIT_S)

    def summary(self) -> dict:
        return json.loads((self.results / "summary.json").read_text())


def children_of(pid: int) -> list[int]:
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def command_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while b"ptstress.child" in command_of(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill_child(soak: Soak) -> None:
    """Kill the executor of a slice that races."""
    seen = soak.count("status")
    soak.wait_for(lambda log: sum(line["event"] == "status" for line in log) > seen)
    pid = soak.child()
    os.kill(pid, signal.SIGKILL)
    ended = soak.count("slice-end")
    soak.wait_for(lambda log: sum(line["event"] == "slice-end" for line in log) > ended)


def test_a_soak_passes_and_says_what_its_silence_is_worth(tmp_path):
    soak = Soak(tmp_path, *QUICK, "--scheme", "linux-6.18", *ENOUGH, "--json", "-", "--junit", "out.xml", "-q")
    assert soak.end() == 0, soak.out + soak.err
    summary = json.loads(soak.out)
    assert summary == soak.summary() and summary["schema"] == "ptstress.soak/1"
    assert summary["slices"] >= 2 and summary["ended"] == "until"
    assert summary["checked"]["ops"] == summary["checked"]["of"] > 0
    assert summary["canaries"]["found"] == summary["canaries"]["planted"] >= 4
    assert {s["scheme"] for s in summary["stages"]} == {"linux-6.12", "linux-6.18"}
    assert soak.err.startswith("verdict: PASS") and "rate <" in soak.err
    assert len(ElementTree.parse(tmp_path / "out.xml").getroot().findall("testcase")) == 2
    assert soak.count("canaries") == 2, "once for each combination, not for each slice"


def test_a_planted_bug_is_kept_once_and_the_soak_goes_on(tmp_path):
    soak = Soak(tmp_path, "canaries/M10-frame", "--scheme", "linux-6.18", "--slice", "2s", *BUG, "--junit", "out.xml")
    soak.wait_for(lambda log: sum(line["event"] == "slice-end" for line in log) > 2)
    soak.process.send_signal(signal.SIGINT)
    assert soak.end() == 2, soak.out + soak.err
    summary = soak.summary()
    assert summary["slices"] > 1 and sum(f["count"] for f in summary["failures"]) > len(summary["failures"])
    first = Path(summary["failures"][0]["path"])
    expected = {"description.txt", "job.json", "history.ptsh", "failure.json", "replay.txt"}
    assert {p.name for p in (tmp_path / first).iterdir()} >= expected
    assert len(list(soak.results.glob("failure-*"))) == len(summary["failures"])
    assert "ended by itself" in (tmp_path / first / "description.txt").read_text()
    suite = ElementTree.parse(tmp_path / "out.xml").getroot()
    assert int(suite.get("failures")) == len(summary["failures"])
    again = Soak(tmp_path, "again", str(tmp_path / first))
    assert again.end() == 2, again.out + again.err
    assert again.out.startswith("verdict: VIOLATION (exit 2)  came again")


def test_a_soak_ends_when_its_evidence_is_enough_and_says_when_it_cannot_be(tmp_path):
    soak = Soak(tmp_path, *QUICK, *ENOUGH)
    assert soak.end() == 0, soak.out + soak.err
    assert soak.summary()["ended"] == "until" and "confidence=50%@1e-3 reached" in soak.out
    later = Soak(tmp_path, "resume", str(soak.results), "--duration", f"{soak.summary()['duration_s'] + 1:.0f}s")
    assert later.end() == 0 and later.summary()["ended"] == "duration", later.out + later.err
    more = Soak(tmp_path / "more", *QUICK, "--until", "confidence=99%@1e-12", "--duration", "1s")
    assert more.end() == 7, more.out + more.err
    assert "--duration ends before that" in more.err and "needs 4.6 T overlaps" in more.out


def test_a_soak_of_all_combinations_runs_each_once_and_shows_the_matrix(tmp_path):
    schemes = ("--scheme", "linux-6.12", "--scheme", "rcu-upper")
    soak = Soak(tmp_path, "hot_page", "canaries/M10-frame", *schemes, *BUG, "--slice", "1s", "--threads", "2",
                "--until", "combinations")
    assert soak.end() == 2, soak.out + soak.err
    assert soak.err.startswith("soak  one turn: 4 workloads x schemes, about ")
    summary = soak.summary()
    assert summary["ended"] == "until" and summary["until"] == "combinations: 4 of 4 ran"
    assert [(c["workload"], c["scheme"], c["slices"]) for c in summary["matrix"]] == [
        (workload, scheme, 1) for workload in ("hot_page", "M10-frame") for scheme in ("linux-6.12", "rcu-upper")]
    assert "violation" in {c["verdict"] for c in summary["matrix"]} and all(c["checked"] for c in summary["matrix"])
    table = (soak.results / "matrix.txt").read_text()
    assert soak.out.endswith("\n\n" + table) and " ! " in table


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_soak_with_a_report_and_resume_goes_on(tmp_path, number):
    soak = Soak(tmp_path, *QUICK)
    soak.wait_for(lambda log: sum(line["event"] == "slice-end" for line in log) >= 2)
    soak.process.send_signal(number)
    assert soak.end() == 0, soak.out + soak.err
    before = soak.summary()
    assert before["ended"] == "stopped" and f"next: ptstress resume {before['results']}" in soak.out
    resumed = Soak(tmp_path, "resume", str(soak.results), "--duration", "1ms")
    assert resumed.end() == 1 and "this soak is finished" in resumed.err
    more = Soak(tmp_path, "resume", str(soak.results), "--duration", f"{before['elapsed_s'] + 1:.1f}s")
    assert more.end() == 0, more.out + more.err
    after = more.summary()
    assert after["slices"] > before["slices"] and after["ops"]["total"] > before["ops"]["total"]
    assert after["overlaps"]["total"] > before["overlaps"]["total"]
    numbers = [line["n"] for line in more.log()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_killed_child_is_no_pass_and_a_killed_parent_loses_nothing(tmp_path):
    soak = Soak(tmp_path, *QUICK, "--slice", "3s")
    for _ in range(2):
        kill_child(soak)
    seen = soak.count("status")
    soak.wait_for(lambda log: sum(line["event"] == "status" for line in log) > seen)
    kill_parent(soak)
    left = list(soak.log())
    more = Soak(tmp_path, "resume", str(soak.results), "--duration", f"{left[-1]['at_s'] + 1:.1f}s")
    assert more.end() == 5, more.out + more.err
    summary = more.summary()
    assert summary["killed"] == 2 and summary["verdict"] == "killed"
    assert [(f["oracle"], f["count"], f["exit_code"]) for f in summary["failures"]] == [("crash", 2, 5)]
    assert "SIGKILL" in (Path(tmp_path / summary["failures"][0]["path"]) / "description.txt").read_text()
    assert summary["checked"]["ops"] < summary["checked"]["of"]


def test_two_processes_do_not_work_on_one_soak(tmp_path):
    soak = Soak(tmp_path, *QUICK)
    soak.wait_for(lambda log: log)
    second = Soak(tmp_path, "resume", str(soak.results))
    assert second.end() == 1 and f"process {soak.process.pid} works on it" in second.err
    soak.process.send_signal(signal.SIGINT)
    soak.end()


def test_a_soak_survives_a_full_disk_and_writes_what_it_kept(tmp_path):
    soak = Soak(tmp_path, *QUICK)
    soak.wait_for(lambda log: any(line["event"] == "slice-end" for line in log))
    soak.kill()
    # The log is at the limit, everything else is far below it: as a disk that has room for small files only.
    limit = 64 << 20
    with open(soak.results / "log.jsonl", "ab") as log:
        log.write(b" " * (limit - log.tell() - 1) + b"\n")
    soak = Soak(tmp_path, "resume", str(soak.results))
    resource.prlimit(soak.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for line in soak.process.stderr:
        if "!!! disk full" in line:
            break
    resource.prlimit(soak.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for line in soak.process.stderr:
        if "what was kept in memory is written" in line:
            break
    soak.process.send_signal(signal.SIGINT)
    assert soak.end() == 0, soak.out + soak.err
    assert decode_checkpoint((soak.results / "checkpoint.json").read_bytes()).ended == "stopped"
    events = [line["event"] for line in soak.log()]
    assert events.count("resume") == 1 and events[-1] == "end"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["soak", "fault_vs_dontnee"], "did you mean 'fault_vs_dontneed'?"),
        (["soak", ""], "workload '': expected a file or a name"),
        (["soak", "--scheme", "linux-9"], "scheme 'linux-9': expected one of"),
        (["soak", "--slice", "0s"], "more than zero"),
        (["soak", "--until", "confidence=1"], "expected confidence=99%@1e-8"),
        (["soak", "--build", "sched"], "build sched runs one worker at a time"),
        (["soak", "hot_page", "--bug", "P99"], "bug 'P99': expected one of"),
        (["soak", "hot_page", "--results", "/proc/nowhere"], "results cannot be written"),
        (["soak", "hot_page", "--junit", "/proc/nowhere"], "--junit /proc/nowhere: cannot be written"),
        (["resume", "nothing"], "no soak: expected a results folder of 'ptstress soak'"),
        (["again", "nothing"], "expected a results folder with testid.txt, or a failure folder with job.json"),
    ],
)
def test_bad_input_is_one_line(capsys, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) in (1, 4)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and expected in lines[0], lines


def test_again_repeats_a_run_and_refuses_another_version(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "fault_vs_dontneed", "--duration", "500ms", "--threads", "2", "--seed", "9", "-q"]) == 0
    (first,) = Path("results").iterdir()
    testid = first / "testid.txt"
    command = "command: ptstress run fault_vs_dontneed --seed 9 --threads 2 --duration 500ms\n"
    assert command in testid.read_text()
    capsys.readouterr()
    assert main(["again", str(first), "-q", "--into", "second", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 9
    (second,) = Path("second").iterdir()
    assert command in (second / "testid.txt").read_text()
    text = testid.read_text()
    for there, here in (("ptstress: ", "ptstress: 0.0.9 of "), ("delay=True", "delay=False")):
        testid.write_text(text.replace(there, here))
        assert main(["again", str(first)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith("--force runs it") and ("0.0.9" in line or "delay=False" in line)


@pytest.mark.long
def test_twenty_kills_of_each_lose_nothing(tmp_path):
    soak = Soak(tmp_path, "fault_vs_dontneed", "munmap_vs_fault", "--slice", "2s", "--threads", "3")
    for turn in range(20):
        kill_child(soak)
        time.sleep(0.1 * (turn % 7))
        kill_parent(soak)
        soak = Soak(tmp_path, "resume", str(soak.results))
    soak.wait_for(lambda log: sum(line["event"] == "resume" for line in log) == 20)
    seen = soak.count("slice-end")
    soak.wait_for(lambda log: sum(line["event"] == "slice-end" for line in log) > seen)
    soak.process.send_signal(signal.SIGINT)
    assert soak.end() == 5, soak.out + soak.err
    summary = soak.summary()
    assert summary["killed"] == sum(f["count"] for f in summary["failures"]) >= 20
    assert not any(b"ptstress.child" in command_of(int(p.name)) and str(tmp_path) in os.readlink(p / "cwd")
                   for p in Path("/proc").iterdir() if p.name.isdecimal())


@pytest.mark.long
def test_no_failure_is_lost_by_twenty_kills_of_the_parent(tmp_path):
    soak = Soak(tmp_path, *QUICK, *BUG, "--threads", "4")
    kept: dict[str, bytes] = {}
    for turn in range(20):
        seen = soak.count("failure")
        soak.wait_for(lambda log: sum(line["event"] == "failure" for line in log) > seen)
        time.sleep(0.037 * turn)
        kill_parent(soak)
        kept |= {p.name: (p / "failure.json").read_bytes() for p in soak.results.glob("failure-*")}
        soak = Soak(tmp_path, "resume", str(soak.results))
    soak.wait_for(lambda log: sum(line["event"] == "resume" for line in log) == 20)
    soak.process.send_signal(signal.SIGINT)
    assert soak.end() == 2, soak.out + soak.err
    summary = soak.summary()
    assert kept and {Path(f["path"]).name for f in summary["failures"]} >= set(kept)
    assert all((soak.results / name / "failure.json").read_bytes() == data for name, data in kept.items())
    assert sum(f["count"] for f in summary["failures"]) == soak.count("failure")


def kill_parent(soak: Soak) -> None:
    """Kill the parent: what the log held is still there, the child is gone."""
    children, lines = children_of(soak.process.pid), list(soak.log())
    soak.kill()
    for child in children:
        wait_until_gone(child)
    assert list(soak.log())[: len(lines)] == lines
