"""Small scopes: every interleaving within their bound, silent under every scheme, and not silent with a bug in it."""

import pytest

from ptstress.cli import main
from ptstress.errors import ExitCode
from ptstress.exploring import ExploreRequest, explore, seed_for_stores
from ptstress.replaying import replay
from ptstress.schemes import SCHEMES
from ptstress.scopes import explore_scopes, load_scopes, scope_lines
from ptstress.units import parse_geometry

SMALLEST = ("exit_vs_fault", "scan_vs_exit", "zap_vs_walk")


def explored(tmp_path, names=(), preemptions=None, traces=0):
    """All of it must be exhaustive and silent, and find its bugs by the right oracles."""
    summary = explore_scopes(load_scopes(names), SCHEMES, preemptions, traces, tmp_path, lambda line: None)
    assert (summary.verdict, summary.exit_code, summary.notes) == ("pass", ExitCode.PASS, [])
    assert all(cell.exhausted and min(cell.executions.values()) > 50 for cell in summary.cells if not cell.note)
    assert all(bug.found and bug.invariants for bug in summary.bugs)
    assert summary.executions == sum(sum(cell.executions.values()) for cell in summary.cells)
    return summary


def test_the_smallest_scopes_hold_under_every_scheme(tmp_path):
    summary = explored(tmp_path, SMALLEST, preemptions=2, traces=1000)
    assert len(summary.cells) == len(SMALLEST) * len(SCHEMES)
    assert {cell.scheme for cell in summary.cells if cell.note} == {scheme.name for scheme in SCHEMES if not scheme.scans}
    lines = scope_lines(summary)
    whole = sum(cell.all_traces for cell in summary.cells)
    assert all(cell.all_traces and 100 < cell.traces < 1000 for cell in summary.cells if cell.scope == "exit_vs_fault")
    assert f"without a bound, all traces where they came to an end ({whole} of 30):" in lines
    assert lines[0] == "verdict: PASS (exit 0)  3 scopes, 30 scopes x schemes"
    rows = [line.split() for line in lines if line.startswith(SMALLEST)]
    assert [row[:2] for row in rows[: len(SMALLEST)]] == [[name, "2"] for name in SMALLEST]
    assert [row[0] for row in rows[len(SMALLEST) :]] == list(SMALLEST)
    assert [line.split()[0] for line in lines[-len(summary.bugs) :]] == [bug.bug for bug in summary.bugs]


@pytest.mark.long
def test_all_scopes_hold_under_every_scheme_and_find_a_bug_of_each(tmp_path):
    summary = explored(tmp_path)
    assert {bug.scheme for bug in summary.bugs} == {scheme.name for scheme in SCHEMES}
    for bug in summary.bugs:
        again = replay(bug.replay, "both", 3)
        assert again.reproduced == {"fibres": 3, "threads": 3} and again.same_trace, bug


def test_more_preemptions_are_more_interleavings_and_none_is_run_twice():
    program = load_scopes(["zap_vs_walk"])["zap_vs_walk"].program
    counts = []
    seed = seed_for_stores("late")
    for preemptions in (0, 1, 2):
        request = ExploreRequest(program, "rcu", parse_geometry("2x2x2"), (), None, None, seed, "dfs", preemptions, ())
        summary = explore(request, lambda line: None)
        assert (summary.exhausted, summary.preemptions, summary.stores) == (True, preemptions, "late")
        assert summary.distinct == summary.executions
        counts.append(summary.executions)
    assert counts[0] < counts[1] < counts[2]


def test_a_violation_and_a_bug_that_is_not_found_are_no_pass(tmp_path):
    scope = tmp_path / "mine.toml"
    # P01 needs that the zap pauses; M10-frame needs nothing.
    scope.write_text(
        'summary = "s"\nprogram = "prefix: mmap(p0..p2); write(p0); t0: dontneed(p0..p2) | t1: walk(p0..p2)"\n'
        'preemptions = 0\n[bugs]\n"linux-6.18" = ["P01", "M10-frame"]\n')
    summary = explore_scopes(load_scopes([str(scope)]), SCHEMES[2:3], None, 0, tmp_path, lambda line: None)
    assert [(bug.bug, bug.found) for bug in summary.bugs] == [("P01", False), ("M10-frame", True)]
    assert (summary.exit_code, summary.notes) == (ExitCode.UNTRUSTWORTHY, ["P01 was not found in mine under linux-6.18"])
    assert any(line.startswith("P01") and "NOT FOUND" in line for line in scope_lines(summary))


def test_explore_says_that_it_has_seen_all(capsys):
    program = load_scopes(["zap_vs_walk"])["zap_vs_walk"].program
    assert main(["explore", program, "--geometry", "2x2x2", "--policy", "dfs", "--preemptions", "1", "--seconds", "60"]) == 0
    out = capsys.readouterr().out
    assert "ended by: exhausted: all " in out and "interleavings with at most 1 preemptions" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["zap_vs_wal"], "did you mean 'zap_vs_walk'?"), (["nothing"], "expected a TOML file, or one of broken_zap_vs_fault"),
        (["--scheme", "linux-9"], "scheme 'linux-9': expected one of"), (["--preemptions", "99"], "99"),
    ],
)
def test_wrong_words_are_one_line(arguments, expected, capsys):
    assert main(["scopes", *arguments]) == ExitCode.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
