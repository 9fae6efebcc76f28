"""Every state once: the same ends as where every interleaving is run, and as where one of each trace is."""

import re

import pytest

from ptstress._explore import Explorer, litmus
from ptstress.bench_explore import TO_THE_END
from ptstress.bugs import find_bug
from ptstress.cli import main
from ptstress.errors import ExitCode
from ptstress.lab import MAX_STEPS, Lab
from ptstress.program import parse
from ptstress.scopes import load_scopes
from ptstress.units import parse_geometry

#: Systems that look at no word but the one that they touch.
LITMUS = ("fetch_add_2x3", "fetch_add_3x2", "fetch_add_apart_3x2", "readers", "blind_add_2x3", "test_same", "test_other",
          "split_increment", "deadlock", "handover", "between_holds")


def explored(explorer, policy, bound=None):
    found = explorer.explore(policy, seed=1, executions=None, preemption_bound=bound, steps_only=True, max_steps=MAX_STEPS,
                             stop_on_failure=False, ends=True)
    assert found["exhausted"], policy
    return found


def outcomes(found):
    return {outcome for outcome, count in found["outcomes"].items() if count and outcome != "cut"}


@pytest.mark.parametrize("name", LITMUS)
def test_states_and_dpor_end_where_all_interleavings_end(name):
    all_of_them = explored(Explorer(litmus(name)), "dfs")
    for policy in ("states", "dpor"):
        found = explored(Explorer(litmus(name)), policy)
        assert found["ends"] == all_of_them["ends"] and outcomes(found) == outcomes(all_of_them), policy


# Two fibres that add n times to one counter: a state for each pair of how many each has added, less those where one is done.
def test_a_state_is_told_apart_once():
    for name, added in (("fetch_add_2x3", 3), ("fetch_add_2x10", 10)):
        assert explored(Explorer(litmus(name)), "states")["states"] == added * added


# Where stores reach memory at once there is nothing left to do behind the last access: no step, at which the stack of a fibre
# that has returned would be part of the state.
@pytest.mark.parametrize("policy", ["states", "dpor"])
def test_a_fibre_whose_last_access_is_a_store_makes_no_further_step(policy):
    found = Explorer(litmus("half_update")).explore(policy, seed=1, executions=10, steps_only=True, stop_on_failure=False)
    assert found["points"] == 3 * found["executions"]       # two stores and a load


# The operation of one thread may end, and what it freed still wait for a grace period, before the other thread's begins.
@pytest.mark.parametrize("program", [
    "prefix: mmap(p0..p2); write(p0); t0: dontneed(p0..p2) | t1: walk(p0..p2)",
    "prefix: mmap(p0..p2); write(p0); t0: read(p0) | t1: dontneed(p0..p2)",
    "prefix: mmap(p0..p2); t0: read(p0) | t1: read(p0)",
    # A table that is allocated and not needed goes back: what it has of an earlier life is no part of the state.
    "prefix: mmap(p0..p2); t0: guard_install(p0) | t1: dontneed(p0..p2)",
])
def test_on_the_engine_states_and_dpor_end_in_the_same_and_in_all_that_a_bounded_search_ends_in(program):
    lab = Lab("linux-6.18", parse_geometry("2x2x2"), (), {}, 1)
    lab.load(parse(program))
    states, dpor, dfs = (explored(lab.explorer, policy, 2) for policy in ("states", "dpor", "dfs"))
    assert states["ends"] == dpor["ends"] >= dfs["ends"]
    assert len(states["ends"]) > 1


# A scan beside the end of its mm, by a scheme that frees later. Nor does it matter what the machine has run before: cut
# executions leave grace periods that nobody waits for any more.
def test_a_scan_beside_an_exit_ends_alike_by_every_policy_and_whatever_ran_before():
    lab = Lab("seed-async", parse_geometry("2x2x2"), (), {}, 1)
    lab.load(parse(load_scopes(["scan_vs_exit"])["scan_vs_exit"].program))
    first, states, dpor, dfs = (explored(lab.explorer, policy, 2)["ends"] for policy in ("dfs", "states", "dpor", "dfs"))
    assert first == dfs
    assert states == dpor >= dfs


# Operations that wait before they end, give back what they did not need, or free later.
@pytest.mark.long
@pytest.mark.parametrize("scheme", ["linux-6.18", "seed-async", "seed-srcu", "rcu-upper"])
@pytest.mark.parametrize("threads", [
    "exit(m0) | t1: walk(p0..p2)", "guard_install(p0) | t1: guard_remove(p0..p2)", "free(p0) | t1: discard(p0)",
    "age(p0) | t1: dontneed(p0..p2)", "mprotect(p0..p2, ro) | t1: walk(p0..p2)", "gup_fast(p0) | t1: discard(p0)",
])
def test_under_every_kind_of_freeing_states_and_dpor_end_in_the_same(scheme, threads):
    lab = Lab(scheme, parse_geometry("2x2x2"), (), {}, 1)
    lab.load(parse(f"prefix: mmap(p0..p2); write(p0); t0: {threads}"))
    states, dpor, dfs = (explored(lab.explorer, policy, 2) for policy in ("states", "dpor", "dfs"))
    assert states["ends"] == dpor["ends"] >= dfs["ends"]


def test_explore_says_how_many_states_there_are(capsys):
    program = load_scopes(["zap_vs_fault"])["zap_vs_fault"].program
    arguments = ["explore", program, "--geometry", "2x2x2", "--policy", "states", "--quiet"]
    assert main([*arguments, "--executions", "1000000"]) == 0
    states = int(re.search(r"exhausted: all ([\d,]+) states", capsys.readouterr().out)[1].replace(",", ""))
    assert states > 1000
    assert main([*arguments, "--executions", "500"]) == ExitCode.UNTRUSTWORTHY


@pytest.mark.parametrize(("name", "bug"), [("broken_zap_vs_fault", "P01"), ("zap_vs_fault", "M15-lock-order"),
                                           ("fault_vs_fault_apart", "P23"), ("zap_vs_walk", "P20")])
def test_states_find_the_bugs_of_scopes_and_what_they_find_comes_again(name, bug):
    scope = load_scopes([name])[name]
    knobs = dict(scope.knobs)
    lab = Lab("linux-6.18", parse_geometry(scope.geometry), (bug,), knobs, 1)
    lab.load(parse(scope.program))
    found = lab.explorer.explore("states", seed=1, executions=None, max_steps=MAX_STEPS)["failure"]
    assert lab.signature(found["outcome"])[0] in find_bug(bug).oracles
    again = lab.explorer.replay(found["choices"], found["seed"], max_steps=MAX_STEPS, steps_only=True)
    assert (again["outcome"], again["hash"]) == (found["outcome"], found["hash"])


# Up to the order of steps that do not depend on each other, all that three threads can do.
@pytest.mark.long
@pytest.mark.parametrize("program", [text for _, text in TO_THE_END[1:]])
def test_reclaim_beside_two_others_holds_in_every_state(program):
    lab = Lab("linux-6.18", parse_geometry("2x2x2"), (), {}, 1)
    lab.load(parse(program), judged=True)
    found = explored(lab.explorer, "states")
    assert found["failure"] is None and found["states"] > 100_000


@pytest.mark.long
@pytest.mark.parametrize("others", ["t1: write(p0) | t2: write(p1)", "t1: dontneed(p0..p2) | t2: write(p1)"])
def test_reclaim_beside_two_others_holds_in_every_interleaving_with_two_preemptions(others):
    """With the accesses that fault their states are too many. Three kinds of stores."""
    for seed in range(1, 4):
        lab = Lab("linux-6.18", parse_geometry("2x2x2"), (), {}, 1)
        lab.load(parse(f"prefix: mmap(p0..p2); write(p0); t0: dontneed(p0..p2) | {others}"), judged=True)
        found = lab.explorer.explore("dfs", seed=seed, executions=None, preemption_bound=2, max_steps=MAX_STEPS)
        assert found["exhausted"] and found["failure"] is None


def test_who_cannot_know_the_states_says_so():
    with pytest.raises(ValueError, match="takes up to 8 fibres"):
        lab = Lab("linux-6.18", parse_geometry("2x2x2"), (), {}, 1)
        lab.load(parse("t0: read(p0) | t1: read(p0) | t2: read(p0) | t3: read(p0) | t4: read(p0) | t5: read(p0) | "
                       "t6: read(p0) | t7: read(p0) | t8: read(p0)"))
        lab.explorer.explore("states", executions=None)
