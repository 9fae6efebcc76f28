"""The files of a failure's folder, and the execution as a trace in the Trace Event Format, as its documentation has it."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from ptstress.cli import main
from ptstress.failure_folder import tell_again

PROGRAM = "prefix: mmap(p0..p4); write(p0); t0: dontneed(p0..p4) | t1: write(p0); write(p1)"
FILES = {
    "description.txt", "program.txt", "replay.txt", "schedule.txt", "history.ptsh", "trace.json",
}
#: What each phase has besides name and pid.
NEEDED = {"M": {"args"}, "X": {"ts", "dur", "tid", "cat"}, "i": {"ts", "tid", "s"}, "b": {"ts", "id", "cat"},
          "e": {"ts", "id", "cat"}, "s": {"ts", "tid", "id", "cat"}, "f": {"ts", "tid", "id", "cat", "bp"}}


def run(*args: str | Path) -> tuple[int, str]:
    """Exit code and screen of a command."""
    screen = StringIO()
    with redirect_stdout(screen):
        return main([str(a) for a in args]), screen.getvalue()


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory):
    """The results folder of an exploration that failed, and the trace that it wrote."""
    folder = tmp_path_factory.mktemp("story")
    trace = folder / "execution.json"
    code, screen = run("explore", PROGRAM, "--bug", "P01", "--results", folder, "--trace", trace, "--no-shrink")
    assert code == 2, screen
    (failure,) = folder.glob("2*/failure-*")
    return failure, trace


@pytest.fixture(scope="module")
def events(explored) -> list[dict]:
    return json.loads(explored[1].read_text())["traceEvents"]


def test_a_folder_has_all_that_is_known_of_a_failure(explored):
    failure, trace = explored
    assert {path.name for path in failure.iterdir()} == FILES
    assert (failure / "trace.json").read_bytes() == trace.read_bytes()
    assert (failure / "program.txt").read_text() == PROGRAM + "\n"
    lines = (failure / "description.txt").read_text().splitlines()
    assert lines[0] == "BUG: use-after-free of pte_table in pmd_clear_table_for / do_anonymous_page"
    assert lines[2].split() == ["CPU0", "CPU1"]
    assert [line for line in lines if line.startswith("expected (I04): ")]
    assert lines[-1] == "again: " + (failure / "replay.txt").read_text().strip()
    assert max(len(line) for line in lines[:-1]) <= 130


def test_the_schedule_says_who_ran_for_how_long(explored):
    turns = (explored[0] / "schedule.txt").read_text().splitlines()[3:]
    assert {turn.split()[0] for turn in turns} == {"CPU0", "CPU1"}
    assert all(before.split()[0] != after.split()[0] for before, after in zip(turns, turns[1:], strict=False))


def test_the_history_is_one_that_check_reads(explored):
    code, screen = run("check", explored[0] / "history.ptsh")
    assert code in (0, 2) and "operations: 5 " in screen


def test_replay_writes_the_same_trace(explored, tmp_path):
    failure, trace = explored
    string = (failure / "replay.txt").read_text().split("'")[1]
    path = tmp_path / "again.json"
    assert run("replay", string, "--times", "1", "--trace", path)[0] == 2
    assert path.read_bytes() == trace.read_bytes()


def test_every_event_has_what_its_phase_needs(events):
    assert {e["ph"] for e in events} == set(NEEDED)
    for event in events:
        assert {"name", "pid"} | NEEDED[event["ph"]] <= set(event), event
        assert all(isinstance(event[key], int) and event[key] >= 0 for key in ("ts", "dur", "tid") if key in event)


def test_slices_of_a_track_lie_in_each_other_or_apart(events):
    for cpu in (0, 1):
        ends: list[int] = []
        for event in sorted((e for e in events if e["ph"] == "X" and e["tid"] == cpu), key=lambda e: (e["ts"], -e["dur"])):
            while ends and ends[-1] <= event["ts"]:
                ends.pop()
            assert not ends or event["ts"] + event["dur"] <= ends[-1]
            ends.append(event["ts"] + event["dur"])


def test_locks_and_arrows_begin_and_end(events):
    for begin, end in (("b", "e"), ("s", "f")):
        opened = {e["id"]: e["ts"] for e in events if e["ph"] == begin}
        closed = {e["id"]: e["ts"] for e in events if e["ph"] == end}
        assert opened.keys() == closed.keys() and opened
        assert all(closed[key] >= at for key, at in opened.items())


def test_tracks_hold_operations_functions_and_stores(events):
    names = {(e["cat"], e["name"]) for e in events if "cat" in e}
    assert {("operation", "dontneed(p0..p4)"), ("function", "do_anonymous_page")} <= names
    assert ("rmw", "pmd_table 2[0]: table 3 -> none") in names
    assert any(kind == "lock" and name.endswith("spin_lock(ptl of pte_table 3)") for kind, name in names)


def test_without_a_failure_there_is_no_execution_to_write(tmp_path):
    code, screen = run("explore", PROGRAM, "--executions", "2", "--results", tmp_path, "--trace", tmp_path / "t.json")
    assert code == 0 and "note: nothing failed" in screen


def test_what_a_string_tells_does_not_change(explored):
    string = (explored[0] / "replay.txt").read_text().split("'")[1]
    assert tell_again(string)[1:] == tell_again(string)[1:]
