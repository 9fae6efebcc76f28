"""Policies that know which accesses depend on each other, or rank fibres, on systems whose traces can be counted by hand."""

import re
from math import comb

import pytest

from ptstress import exploring
from ptstress._explore import POLICIES, Explorer, litmus
from ptstress.cli import main
from ptstress.driver import Stopper
from ptstress.errors import ExitCode


def test_the_command_line_knows_the_policies():
    assert exploring.POLICIES == POLICIES


def explorer(name):
    return Explorer(litmus(name))


def all_traces(name):
    """Result of the exhaustive search up to equivalence."""
    found = explorer(name).explore("dpor", executions=None, stop_on_failure=False)
    assert found["exhausted"] and found["done"] == 1
    assert found["distinct"] == found["executions"] - found["outcomes"]["cut"]
    return found


# half_update: the reader sees both, or neither: its second read is bare and makes no point, so the first access is the one that
# counts.
# split_increment: each load before or behind the other's store, but not both behind.
@pytest.mark.parametrize("name, traces", [
    ("fetch_add_2x3", comb(6, 3)), ("fetch_add_3x2", 90), ("fetch_add_2x10", comb(20, 10)), ("fetch_add_apart_2x3", 1),
    ("fetch_add_apart_3x2", 1), ("readers", 4), ("half_update", 2), ("split_increment", 4),
    ("blind_add_2x3", 1), ("test_same", 1), ("test_other", 3),
])
def test_dpor_makes_every_trace_exactly_once(name, traces):
    found = all_traces(name)
    assert (found["distinct"], found["outcomes"]["cut"]) == (traces, 0)


# The deadlock is one trace; so is each of the eight ways in which both get through: who has both locks first, and whether the
# other one had to wait for its first lock, and for its second one. Where among other steps a wait ends is no difference.
def test_dpor_sees_what_waits_end():
    assert all_traces("deadlock")["outcomes"] == {
        "pass": 8, "violation": 0, "deadlock": 1, "livelock": 0, "diverged": 0, "cut": 0, "race": 0}


@pytest.mark.parametrize("name", ["split_increment", "deadlock", "abandon"])
def test_dpor_finds_what_dfs_finds_and_its_choices_replay(name):
    found = explorer(name).explore("dpor", executions=None)["failure"]
    again = explorer(name)
    for run in (again.replay, again.replay_threads):
        assert run(found["choices"], found["seed"])["outcome"] == found["outcome"]


def test_dpor_tells_a_system_that_does_not_repeat_itself():
    assert explorer("unsteady").explore("dpor", executions=None)["failure"]["outcome"] == "diverged"


@pytest.mark.parametrize("policy", ["pct", "pos"])
def test_priorities_find_the_failure_and_it_replays(policy):
    for name, outcome in [("split_increment", "violation"), ("deadlock", "deadlock")]:
        found = explorer(name).explore(policy, executions=1000)["failure"]
        assert found["outcome"] == outcome
        assert explorer(name).replay(found["choices"], found["seed"])["outcome"] == outcome


# 20 interleavings of two fibres with 3 steps: those with up to d - 1 preemptions and their mirror images.
def test_pct_preempts_less_often_than_its_depth():
    found = explorer("split_increment").explore("pct", executions=2000, depth=1, stop_on_failure=False)
    assert found["outcomes"]["violation"] == 0 and found["distinct"] == 2
    assert explorer("split_increment").explore("pct", executions=2000, depth=2)["failure"]


def test_pos_reaches_every_order_of_dependent_accesses():
    assert explorer("fetch_add_2x3").explore("pos", executions=5000)["distinct"] == comb(6, 3)


# Two threads that only read share nothing that is written but what grace periods look at.
def test_explore_says_how_many_traces_there_are(capsys):
    program = "prefix: mmap(p0..p2); write(p0); t0: read(p0) | t1: dontneed(p0..p2)"
    arguments = ["explore", program, "--geometry", "2x2x2", "--policy", "dpor", "--quiet"]
    assert main(arguments) == 0
    traces = int(re.search(r"ended by: exhausted: all ([\d,]+) Mazurkiewicz traces", capsys.readouterr().out)[1].replace(",", ""))
    assert main([*arguments, "--executions", str(traces // 2)]) == ExitCode.UNTRUSTWORTHY
    about = re.search(r"verdict: UNKNOWN .*\n.*\nended by: executions, of about ([\d.,]+)( k)? ", capsys.readouterr().out)
    assert traces / 4 < float(about[1].replace(",", "")) * (1000 if about[2] else 1) < traces * 4


@pytest.mark.parametrize(("policy", "code"), [("dpor", ExitCode.UNTRUSTWORTHY), ("dfs", ExitCode.UNTRUSTWORTHY), ("random", 0)])
def test_who_is_stopped_has_not_seen_all(policy, code, monkeypatch, capsys):
    class Requested(Stopper):
        def __enter__(self):
            self.requests = 1
            return super().__enter__()

    monkeypatch.setattr(exploring, "Stopper", Requested)
    assert main(["explore", "prefix: mmap(p0..p2); t0: read(p0) | t1: write(p0)", "--policy", policy, "--quiet"]) == code
    assert "ended by: stopped" in capsys.readouterr().out


@pytest.mark.parametrize("bug", ["P07", "M07-table", "M10-frame"])
def test_dpor_finds_bugs_of_the_engine(bug, tmp_path, capsys):
    program = "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: write(p0)"
    arguments = ["--policy", "dpor", "--executions", "100000", "--bug", bug, "--results", str(tmp_path), "--quiet"]
    assert main(["explore", program, *arguments]) == ExitCode.VIOLATION
    replay = re.search(r"ptstress replay '([^']+)'", capsys.readouterr().out)[1]
    assert main(["replay", replay]) == ExitCode.VIOLATION
    assert "fibres 10/10, threads 10/10" in capsys.readouterr().out
