"""What ``explore`` says of a failure: as small as it gets, how often it fails on threads, when it became inevitable."""

import json

import pytest
from msgspec import structs

from ptstress.cli import main
from ptstress.errors import ExitCode
from ptstress.fuzz_containment import Executor
from ptstress.fuzz_example import FuzzExample
from ptstress.program import parse
from ptstress.vocabulary import Verb

PROGRAM = "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4); read(p2) | t1: write(p0); read(p0)"
EXAMPLE = FuzzExample(
    parse("prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: read(p1)"), "linux-6.18", (2, 1, 1, 1), {}, 1, 0)


def explored(tmp_path, capsys, *words):
    """Exit code, JSON and screen of one exploration."""
    code = main(["explore", *words, "--results", str(tmp_path), "--json", str(tmp_path / "out.json")])
    return code, json.loads((tmp_path / "out.json").read_text()), capsys.readouterr().out.splitlines()


def test_a_failure_is_shrunk_counted_and_explained(tmp_path, capsys):
    code, summary, lines = explored(tmp_path, capsys, PROGRAM, "--bug", "P01", "--shrink", "60s")
    assert code == ExitCode.VIOLATION
    (failure,) = summary["failures"]
    size, was = failure["shrunk"]["size"], failure["shrunk"]["was"]
    assert (was["threads"], was["operations"]) == (2, 6)
    assert (size["threads"], size["operations"], size["preemptions"]) == (2, 3, 1)
    assert failure["program"] == "prefix: mmap(p0..p4); t0: dontneed(p0..p4) | t1: write(p0)"
    odds = failure["odds"]
    assert odds["schedule"] == {"fibres": 10, "threads": 10} and 0 < odds["races"] <= 1000
    assert failure["causality"]["points"][-1][1] == 1.0
    text = "\n".join(lines)
    assert "shrunk: from 2 threads, 6 operations" in text and "odds: fails 100 % on this schedule; " in text
    assert "became inevitable at step " in text
    (description,) = tmp_path.glob("*/failure-*/description.txt")
    assert "became inevitable at step " in description.read_text()
    assert main(["replay", failure["replay"], "--times", "2"]) == ExitCode.VIOLATION
    assert main(["replay", failure["shrunk"]["replay"], "--times", "2"]) == ExitCode.VIOLATION


def test_a_failure_is_shown_as_it_was_found_if_that_is_wanted(tmp_path, capsys):
    code, summary, lines = explored(tmp_path, capsys, PROGRAM, "--bug", "P01", "--no-shrink")
    (failure,) = summary["failures"]
    assert code == ExitCode.VIOLATION and failure["program"] == PROGRAM
    assert failure["shrunk"] is failure["odds"] is failure["causality"] is None
    assert not any(line.startswith(("shrunk:", "odds:", "likely")) for line in lines)


def test_a_race_that_would_never_end_is_not_run(tmp_path, capsys):
    program = "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: walk(p0..p4)"
    code, summary, lines = explored(tmp_path, capsys, program, "--bug", "P20", "--shrink", "5s")
    assert code == ExitCode.VIOLATION and summary["failures"][0]["odds"]["races"] == 0
    assert any("not raced on threads: a race that fails never ends" in line for line in lines)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--shrink", "61s"], "--shrink '61s': expected more than nothing and at most 60s"),
        (["--shrink", "soon"], "duration 'soon'"),
        (["--shrink", "5s", "--no-shrink"], "--no-shrink with --shrink: expected one of them"),
    ],
)
def test_a_bad_time_for_shrinking_is_refused(capsys, words, message):
    assert main(["explore", "t0: write(p0)", *words]) == ExitCode.USAGE
    assert message in capsys.readouterr().err


def test_races_are_counted_in_a_process_that_may_die():
    with Executor(hang_s=2.0) as executor:
        executor.start()
        right = executor.race(EXAMPLE, 30, 20.0)
        assert (right.races, right.failed) == (30, 0)
        always = executor.race(structs.replace(EXAMPLE, bugs=("M10-frame",)), 30, 20.0)
        assert (always.races, always.failed) == (30, 30)
        assert executor.race(structs.replace(EXAMPLE, knobs={"crash_plant": Verb.DONTNEED}), 30, 20.0) is None
        assert executor.race(EXAMPLE, 5, 20.0).races == 5
