"""``ptstress bugs``: it counts what ``explore`` finds, what is not found or repeated is no pass, and it survives its workers."""

import json
import os
import signal
import subprocess
import sys

import pytest

from ptstress import hunt_worker, hunting
from ptstress.bugs import BUGS, find_bug, find_bugs
from ptstress.cli import main
from ptstress.errors import ExitCode, PtstressError
from ptstress.exploring import DEFAULT_GEOMETRY, ExploreRequest, explore
from ptstress.hunt_report import hunt_lines
from ptstress.hunt_summary import HuntSummary
from ptstress.hunt_wire import DIRECTED, UNDIRECTED, Clean, Repeated, Scenario
from ptstress.hunting import HuntRequest, hunt
from ptstress.replaying import replay
from ptstress.results import ResultsFolder
from ptstress.units import parse_geometry

#: A worker that does something else at seed 2, where a bug is planted.
WORKER = """
import os, signal, sys, time
from ptstress import hunt_worker
real = hunt_worker.search
def search(lab, request, stopped):
    if request.seed == 2 and request.bugs:
        {what}
    return real(lab, request, stopped)
hunt_worker.search = search
sys.exit(hunt_worker.main())
"""


def hunted(tmp_path, bugs, policies=("random",), modes=(DIRECTED,), seeds=3, seconds=60.0, executions=None) -> HuntSummary:
    """A hunt by one worker."""
    request = HuntRequest(find_bugs(bugs), policies, modes, seeds, 1, executions, seconds, 1, tmp_path)
    return hunt(request, lambda line: None)


def played(monkeypatch, program):
    """Workers that run this instead."""
    start = subprocess.Popen
    monkeypatch.setattr(hunting.subprocess, "Popen", lambda command, **options: start(
        [sys.executable, "-P", "-c", program, str(os.getpid())], **options))


def test_a_hunt_counts_what_explore_finds(tmp_path):
    summary = hunted(tmp_path, ["M10-frame", "P16"], ("random", "pos"), (DIRECTED, UNDIRECTED), seeds=2)
    assert (summary.verdict, summary.exit_code, summary.reasons) == ("pass", ExitCode.PASS, [])
    assert len(summary.rows) == 8 and all(row.every and row.repeated.always for row in summary.rows)
    for row in summary.rows:
        bug = find_bug(row.bug)
        for attempt in row.attempts:
            (failure,) = explore(ExploreRequest(
                row.scenario.program or None, bug.scheme, parse_geometry(DEFAULT_GEOMETRY), (bug.id,), None, 60.0, attempt.seed,
                row.scenario.policy), lambda line: None).failures
            assert (attempt.executions, attempt.oracle, attempt.invariant) == (
                failure.executions_to_first, failure.oracle, failure.invariants[0])
        assert replay(row.repeated.replay, "both", 1).same_trace
    silent = {s.scenario: s for s in summary.clean}
    assert all(s.silent and s.executions >= 1000 for s in summary.clean)
    # Generated programs know of no bug: both bugs of a scheme share them.
    assert len(silent) == 6
    assert all(silent[row.scenario].executions >= 100 * row.median for row in summary.rows)
    written = json.loads(next(tmp_path.glob("*/summary.json")).read_bytes())
    assert (written["schema"], written["verdict"]) == ("ptstress.bugs/1", "pass")
    assert next(tmp_path.glob("*/bugs.txt")).read_text().startswith(hunt_lines(summary)[0])


def test_a_bug_that_is_not_found_is_no_pass(tmp_path, capsys):
    code = main(["bugs", "M08-srcu-scan", "M10-frame", "--directed", "--policies", "random", "--seeds", "2", "--executions", "12",
                 "-q", "-n", "1", "--results", str(tmp_path), "--json", "-"])
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert code == summary["exit_code"] == ExitCode.UNTRUSTWORTHY
    assert "not found from every seed, directed under random: M08-srcu-scan 0 of 2" in shown.err
    assert "missed directed by random: M08-srcu-scan" in shown.err
    assert summary["totals"][0]["every"] == 1 and summary["rows"][0]["executions"] is None


def test_a_clean_engine_that_is_not_silent_is_the_finding(tmp_path, monkeypatch):
    real = hunt_worker._request
    monkeypatch.setattr(hunt_worker, "_request", lambda scenario, bugs, *limits: real(scenario, ("M10-frame",), *limits))
    said = []
    scenario = Scenario(find_bug("M10-frame").program, "linux-6.18", "random")
    hunt_worker.Hunter(said.append).do(Clean(scenario, [1, 2], 1000, 10.0))
    (silence,) = said
    assert silence.failure.oracle == "stale-tlb" and silence.failure.story
    folder = ResultsFolder(tmp_path)
    hunting.keep_clean_failure(folder, scenario, silence.failure)
    description = (folder.path / "failure-stale-tlb" / "description.txt").read_text()
    assert "found directed by bugs, policy random, without a bug, at execution 1" in description.splitlines()


def test_a_worker_that_dies_costs_the_seed_that_it_was_at(tmp_path, monkeypatch):
    played(monkeypatch, WORKER.format(what="os.kill(os.getpid(), signal.SIGKILL)"))
    (row,) = hunted(tmp_path, ["M10-frame"]).rows
    assert [(a.seed, a.found, a.oracle) for a in row.attempts] == [
        (1, True, "stale-tlb"), (2, False, "crash by SIGKILL"), (3, True, "stale-tlb")]
    assert row.repeated.always


def test_a_worker_that_hangs_costs_the_seed_that_it_was_at(tmp_path, monkeypatch):
    played(monkeypatch, WORKER.format(what="time.sleep(600)"))
    take = hunting._Campaign._take

    def take_and_lose_patience(campaign, hand, answer):
        take(campaign, hand, answer)
        if isinstance(answer, Repeated):
            hand.deadline = 0.0

    monkeypatch.setattr(hunting._Campaign, "_take", take_and_lose_patience)
    summary = hunted(tmp_path, ["M10-frame"])
    assert [(a.seed, a.oracle) for a in summary.rows[0].attempts if not a.found] == [(2, "hang")]
    assert summary.exit_code == ExitCode.UNTRUSTWORTHY


def test_a_worker_that_fails_ends_the_hunt_in_one_line(tmp_path, monkeypatch, capfd):
    played(monkeypatch, WORKER.format(what="sys.exit('no')"))
    assert main(["bugs", "M10-frame", "--directed", "-n", "1", "--results", str(tmp_path), "-q"]) == ExitCode.USAGE
    assert capfd.readouterr().err == "ptstress: a worker failed: no\n"


def test_workers_that_only_die_end_the_hunt(tmp_path, monkeypatch):
    played(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(PtstressError, match="12 workers died before they said anything, the last one: crash by SIGKILL"):
        hunted(tmp_path, ["M10-frame"], seeds=30)


def test_a_stopped_hunt_reports_what_it_has(tmp_path):
    command = [sys.executable, "-P", "-m", "ptstress", "bugs", "M10-frame", "M08-srcu-scan", "--directed", "--policies", "dpor",
               "--seeds", "1", "-n", "1", "--results", str(tmp_path), "--json", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "begun" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    summary = json.loads(out)
    assert process.returncode == summary["exit_code"] == ExitCode.UNTRUSTWORTHY
    assert summary["stop_reason"] == "stopped" and "not trusted: stopped before the end" in err.splitlines()


@pytest.mark.parametrize(("arguments", "error"), [
    (["bugs", "P99"], "bug 'P99': expected one of P01, "),
    (["bugs", "--policies", "random,best"], "--policies 'best': expected some of random,pct,pos,dfs,dpor"),
    (["bugs", "--duration", "long"], "duration 'long': expected a number and a unit"),
    (["bugs", "-n", "no"], "-n 'no': expected auto, or a number of workers from 1 to 256"),
])
def test_what_cannot_be_hunted_is_refused_in_one_line(arguments, error, capsys):
    assert main(arguments) == ExitCode.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ptstress: {error}")


@pytest.mark.long
def test_every_bug_is_found_directed_from_every_seed_and_the_clean_engine_is_silent(tmp_path):
    summary = hunted(tmp_path, [bug.id for bug in BUGS], seeds=10, seconds=300.0)
    assert (summary.verdict, summary.reasons) == ("pass", [])
    assert all(row.every and row.repeated.always for row in summary.rows)
