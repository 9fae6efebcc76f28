"""Replay strings that are whole and yet not of this engine: each is refused in one line, or said not to come again."""

import pytest
from msgspec import structs

from ptstress._explore import OUTCOMES as EXPLORED
from ptstress.bugs import find_bug
from ptstress.cli import main
from ptstress.errors import ExitCode
from ptstress.lab import KNOBS, Lab
from ptstress.program import parse
from ptstress.schedule import OUTCOMES, encode
from ptstress.units import parse_geometry

BUG = find_bug("P01")


@pytest.fixture(scope="module")
def record():
    lab = Lab(BUG.scheme, parse_geometry("2x2x2x4"), (BUG.id,), dict(KNOBS), 1)
    program = parse(BUG.program)
    lab.load(program)
    return lab.record(program, lab.explorer.explore(seed=1)["failure"])


def replayed(capsys, record, **changes):
    """Exit code and lines of replaying the record with other fields."""
    code = main(["replay", encode(structs.replace(record, **changes)), "--times", "2"])
    seen = capsys.readouterr()
    return code, (seen.err or seen.out).splitlines()


def test_outcomes_are_those_of_the_explorer():
    assert set(OUTCOMES) == set(EXPLORED) - {"cut"}


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"scheme": "linux-7.1"}, "scheme 'linux-7.1': expected one of"),
        ({"scheme": "plugin:gone"}, "scheme 'plugin:gone'"),
        ({"bugs": ("P99",)}, "bug 'P99': expected one of"),
        ({"knobs": {"patience": 3}}, "knob 'patience' is unknown"),
        ({"knobs": {"need_resched": "often"}}, "need_resched='often'"),
        ({"build": "quick"}, "build 'quick'"),
        ({"program": "t0: wrte(p0)"}, "<replay string>:1: operation 'wrte'"),
        ({"program": ""}, "<replay string>:1: no branch"),
        ({"program": "t0: write(p77)"}, "ends at p31"),
        ({"program": "t0: write(p0); suffix: read(p0)"}, "leave out the suffix"),
    ],
)
def test_what_is_not_known_here_is_named(capsys, record, changes, expected):
    code, lines = replayed(capsys, record, **changes)
    assert (code, len(lines)) == (ExitCode.USAGE, 1)
    assert expected in lines[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda r: {"choices": r.choices[:-9]}, lambda r: {"choices": r.choices + bytes(9)}, lambda r: {"choices": b""},
        lambda r: {"choices": bytes([63] * 20)}, lambda r: {"bugs": ()}, lambda r: {"program": "t0: read(p0) | t1: read(p0)"},
        lambda r: {"program": "t0: read(p0)"}, lambda r: {"outcome": "deadlock"},
    ],
)
def test_choices_that_lead_elsewhere_do_not_come_again(capsys, record, change):
    code, lines = replayed(capsys, record, **change(record))
    assert code == ExitCode.NOT_REPRODUCED
    assert lines[0].startswith("verdict: NOT REPRODUCED (exit 6)") and "fibres 0/2, threads 0/2" in lines[0]


def test_a_string_of_another_version_is_tried_and_said_to_be_one(capsys, record):
    code, lines = replayed(capsys, record, fingerprint="0123")
    assert code == ExitCode.VIOLATION
    assert "note: recorded by another version of the engine" in "\n".join(lines)
    code, lines = replayed(capsys, record)
    assert code == ExitCode.VIOLATION and "note:" not in "\n".join(lines)


@pytest.mark.parametrize("policy, limit", [("dfs", ["--executions", "50"]), ("dpor", ["--executions", "50"]),
                                           ("dfs", ["--preemptions", "9", "--seconds", "0.01"])])
def test_an_exploration_that_cannot_end_is_no_pass(capsys, policy, limit):
    code = main(["explore", "prefix: mmap(p0..p4); write(p0); t0: write(p0) | t1: dontneed(p0..p4)", "--policy", policy, *limit])
    lines = capsys.readouterr().out.splitlines()
    assert code == ExitCode.UNTRUSTWORTHY
    assert lines[0].startswith("verdict: UNKNOWN (exit 7)")
    assert "executions; --executions N goes on to more" in lines[2] and "of about" in lines[2]
