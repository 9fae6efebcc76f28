"""The controlled scheduler on tiny systems whose schedules can be counted by hand."""

import os
import subprocess
import sys
import threading
from math import comb

import pytest

from ptstress._explore import LITMUS, Explorer, litmus, source_name


def explorer(name):
    return Explorer(litmus(name))


def all_schedules(name, bound=None, **knobs):
    """Result of the exhaustive search."""
    found = explorer(name).explore(
        "dfs", executions=None, preemption_bound=bound, stop_on_failure=False, **knobs)
    assert found["stop_reason"] == "exhausted" and found["exhausted"]
    return found


def in_a_new_process(code):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p or os.curdir for p in sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# -- exhaustive search ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, schedules",
    [("fetch_add_2x3", comb(6, 3)), ("fetch_add_3x2", 90), ("fetch_add_2x10", comb(20, 10)), ("split_increment", 6)],
)
def test_dfs_makes_every_interleaving_exactly_once(name, schedules):
    found = all_schedules(name)
    assert found["executions"] == found["distinct"] == schedules
    assert not found["distinct_saturated"]


# Two fibres of 2 accesses: AABB BBAA cost nothing; ABBA BAAB preempt once; ABAB BABA twice.
@pytest.mark.parametrize("bound, passed, lost", [(0, 2, 0), (1, 2, 2), (2, 2, 4), (3, 2, 4)])
def test_dfs_keeps_to_the_preemption_bound(bound, passed, lost):
    found = all_schedules("split_increment", bound)
    assert found["outcomes"]["pass"] == passed
    assert found["outcomes"]["violation"] == lost


# a1 a2: take both locks; a3 a4: release them; b the same in the other order.
# Both first locks taken (2 orders), then both fail at the second (2 orders): 4 deadlocks.
# a1 a2 first, then b1 fails before a3: 4 more orders, b1 between a3 and a4: 2, b1 after a4: 1.
# The same with b first: 14 that pass.
def test_dfs_counts_waits_as_blocked_not_as_spins():
    found = all_schedules("deadlock")
    assert found["outcomes"] == {"pass": 14, "violation": 0, "deadlock": 4, "livelock": 0, "diverged": 0, "cut": 0, "race": 0}


def test_a_wait_that_only_one_fibre_can_end_leaves_one_order_of_steps():
    found = all_schedules("handover")
    assert found["distinct"] == 1
    assert found["outcomes"]["pass"] == found["executions"]


def test_dfs_stops_at_the_limit_of_executions_and_says_that_it_is_not_exhausted():
    found = explorer("fetch_add_2x3").explore("dfs", executions=19, preemption_bound=None)
    assert (found["executions"], found["stop_reason"], found["exhausted"]) == (19, "executions", False)


def test_what_is_done_of_a_tree_estimates_its_size():
    found = explorer("fetch_add_2x10").explore("dfs", executions=20_000, preemption_bound=None)
    assert comb(20, 10) / 4 < found["executions"] / found["done"] < comb(20, 10) * 4
    assert all_schedules("fetch_add_2x3")["done"] == 1


def test_what_is_done_of_a_tree_knows_how_many_preemptions_are_left():
    """Result: Never. A branch that has used them up has little below it."""
    whole = explorer("fetch_add_2x10").explore("dfs", executions=None, preemption_bound=3)["executions"]
    for part in (10, 100, whole // 2):
        found = explorer("fetch_add_2x10").explore("dfs", executions=part, preemption_bound=3)
        assert whole / 4 < found["executions"] / found["done"] < whole * 4


def test_nothing_is_known_to_be_done_of_a_walk():
    assert explorer("fetch_add_2x3").explore("random", executions=10)["done"] == 0


# -- random walk ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stickiness", [None, 0.0, 0.5, 0.7])
def test_random_walk_reaches_every_interleaving(stickiness):
    found = explorer("fetch_add_2x3").explore(executions=20_000, stickiness=stickiness)
    assert found["outcomes"]["pass"] == 20_000
    assert found["distinct"] == 20


def test_a_sticky_walk_switches_less():
    rare, often = (
        explorer("fetch_add_2x10").explore(executions=1000, stickiness=s)["switches"] for s in (0.9, 0.0))
    assert rare < often / 2


@pytest.mark.parametrize(
    "name, outcome",
    [
        ("split_increment", "violation"), ("deadlock", "deadlock"), ("livelock", "livelock"),
        ("store_buffer", "violation"), ("half_update", "violation"), ("abandon", "violation"),
    ],
)
def test_random_walk_finds_the_failure_and_it_replays_on_fibres_and_threads(name, outcome):
    system = explorer(name)
    found = system.explore(seed=7, executions=10_000, max_steps=100)
    failure = found["failure"]
    assert found["stop_reason"] == "failure"
    assert failure["outcome"] == outcome
    assert failure["index"] == found["executions"] - 1
    what = (failure["choices"], failure["seed"])
    expected = {"outcome": outcome, "hash": failure["hash"], "points": failure["points"]}
    for _ in range(10):
        assert system.replay(*what, trace=False, max_steps=100) == expected
        assert system.replay_threads(*what, max_steps=100) == expected
    other = explorer(name)
    assert other.replay(list(failure["choices"]), failure["seed"], trace=False, max_steps=100) == expected


def test_exploration_goes_on_after_a_failure_if_told_to():
    found = explorer("split_increment").explore(executions=1000, stop_on_failure=False)
    assert found["executions"] == sum(found["outcomes"].values()) == 1000
    assert found["outcomes"]["violation"] > 1
    assert found["failure"]["index"] < 999


def test_the_same_seed_explores_the_same():
    def run(seed):
        found = explorer("fetch_add_2x10").explore(seed=seed, executions=500)
        return found["switches"], found["distinct"]

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_hashes_do_not_depend_on_the_process():
    code = (
        "from ptstress._explore import *;"
        "f = Explorer(litmus('store_buffer')).explore(seed=5, executions=10_000)['failure'];"
        "print(f['index'], f['seed'], f['hash'], f['choices'].hex())")
    assert in_a_new_process(code) == in_a_new_process(code)


# -- store buffers -------------------------------------------------------------------------------


def outcomes_over_seeds(name):
    """The kinds of result that exhaustive searches under several store-buffer modes see."""
    return {
        tuple(sorted(o for o, n in all_schedules(name, seed=seed)["outcomes"].items() if n)) for seed in range(24)}


def test_late_stores_let_both_fibres_read_the_old_value_and_early_ones_do_not():
    """Result: Sometimes. Two stores, each followed by a load of the other's variable."""
    assert outcomes_over_seeds("store_buffer") == {("pass",), ("pass", "violation")}


def test_early_stores_show_a_half_done_update_and_late_ones_do_not():
    """Result: Sometimes. Two buffered stores of one fibre, both read in one step of the other."""
    assert outcomes_over_seeds("half_update") == {("pass",), ("pass", "violation")}


def late_seed():
    """An execution's seed under which stores are late."""
    return explorer("store_buffer").explore(executions=10_000)["failure"]["seed"]


# -- replay --------------------------------------------------------------------------------------


def test_trace_tells_each_step_in_order():
    # A loads, B loads, B stores, A stores: B's increment is lost.
    found = explorer("split_increment").replay([0, 1, 1], seed=0)
    assert found["outcome"] == "violation"
    assert [(s["fibre"], s["kind"], s["before"], s["after"]) for s in found["trace"]] == [
        (0, "load", 0, 0), (1, "load", 0, 0), (1, "store", 0, 1), (0, "store", 1, 1)]
    for time, step in enumerate(found["trace"], start=1):
        assert (step["file"], step["func"]) == ("cy/explore/litmus.pxd", "split_increment")
        assert (step["offset"], step["time"]) == (0, time)
        assert step["line"] > 0


def test_trace_tells_what_a_buffered_store_left_for_its_own_cpu():
    steps = explorer("store_buffer").replay([0, 0, 1, 1], seed=late_seed())["trace"]
    stores = [s for s in steps if s["kind"] == "plain_store"]
    assert [(s["before"], s["after"]) for s in stores] == [(0, 1), (0, 1)]
    assert [(s["before"], s["after"]) for s in steps if s["kind"] == "load"] == [(0, 0), (0, 0)]


def test_trace_shows_when_the_last_buffered_stores_drain():
    steps = explorer("store_buffer").replay([0, 0, 0], seed=late_seed())["trace"]
    assert [(s["fibre"], s["kind"], s["offset"]) for s in steps] == [
        (0, "plain_store", 0), (0, "load", 8), (0, "end", None),
        (1, "plain_store", 8), (1, "load", 0), (1, "end", None)]


@pytest.mark.parametrize(
    "choices",
    [
        pytest.param([0, 1], id="too few"),
        pytest.param([0, 1, 1, 0], id="too many"),
        pytest.param([0, 2, 1], id="no such fibre"),
        pytest.param([0, 200, 1], id="absurd fibre"),
        pytest.param([], id="none"),
    ],
)
def test_choices_that_do_not_fit_diverge(choices):
    system = explorer("split_increment")
    assert system.replay(choices, seed=0)["outcome"] == "diverged"
    assert system.replay_threads(choices, seed=0)["outcome"] == "diverged"
    assert system.replay([0, 1, 1], seed=0)["outcome"] == "violation"


def test_choices_of_another_system_diverge():
    failure = explorer("split_increment").explore(executions=1000)["failure"]
    assert explorer("fetch_add_2x10").replay(failure["choices"], failure["seed"])["outcome"] == "diverged"


def test_a_system_that_does_not_repeat_itself_is_told_apart():
    found = explorer("unsteady").explore("dfs", executions=None, preemption_bound=None)
    assert found["failure"]["outcome"] == "diverged"
    # Five choices fit the short execution; the traced second run is the long one.
    system = explorer("unsteady")
    assert system.replay([0, 1, 0, 1, 0], seed=0, trace=False)["outcome"] == "pass"
    assert system.replay_threads([0, 1, 0, 1, 0], seed=0)["outcome"] == "diverged"
    assert system.replay([0, 1, 0, 1, 0], seed=0, trace=True)["outcome"] == "diverged"


def test_threads_in_the_middle_of_a_body_end_when_an_execution_is_given_up():
    system = explorer("abandon")
    before = threading.active_count(), len(os.listdir("/proc/self/task"))
    for _ in range(50):
        assert system.replay_threads([0, 0, 0], seed=1)["outcome"] == "violation"
    assert before == (threading.active_count(), len(os.listdir("/proc/self/task")))


# -- living with Python --------------------------------------------------------------------------


def test_two_explorers_live_side_by_side():
    one, two = explorer("split_increment"), explorer("deadlock")
    for _ in range(3):
        assert one.explore(executions=1000)["failure"]["outcome"] == "violation"
        assert two.explore(executions=1000)["failure"]["outcome"] == "deadlock"


def test_explorers_run_in_parallel_threads():
    results = {}

    def run(key):
        results[key] = explorer("fetch_add_2x10").explore(seed=1, executions=200_000)

    threads = [threading.Thread(target=run, args=(key,)) for key in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(r["switches"], r["distinct"], r["points"]) for r in results.values()}) == 1


def test_a_signal_interrupts_a_long_exploration_and_the_explorer_stays_usable():
    code = """
import signal
from ptstress._explore import Explorer, litmus
system = Explorer(litmus("fetch_add_2x3"))
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    system.explore(executions=None, seconds=3600)
except KeyboardInterrupt:
    print("interrupted", system.explore(executions=10)["executions"])
"""
    assert in_a_new_process(code) == "interrupted 10"


def test_progress_shows_results_so_far_and_may_end_the_exploration():
    seen = []

    def progress(result):
        seen.append(result["executions"])
        return len(seen) == 2

    found = explorer("fetch_add_2x3").explore(executions=None, seconds=3600, progress=progress)
    assert found["stop_reason"] == "stopped"
    assert 0 < seen[0] < seen[1] == found["executions"]


def test_an_explorer_refuses_a_second_user():
    system = explorer("fetch_add_2x3")

    def progress(result):
        with pytest.raises(RuntimeError, match="in use"):
            system.explore()
        return True

    assert system.explore(executions=None, seconds=3600, progress=progress)["stop_reason"] == "stopped"


def test_exploration_ends_when_its_time_is_up():
    found = explorer("fetch_add_2x3").explore(executions=None, seconds=0.05)
    assert found["stop_reason"] == "seconds"
    assert found["executions"] > 0


@pytest.mark.parametrize("name", LITMUS)
def test_an_explorer_keeps_its_system_alive(name):
    system = Explorer(litmus(name))
    assert system.explore(executions=3, max_steps=50)["executions"] >= 1


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({"policy": "best"}, "unknown policy 'best': expected one of random, pct, pos, dfs, dpor"),
        ({"seed": -1}, "seed: expected a whole number from 0"),
        ({"seed": 1 << 64}, "seed: expected a whole number from 0"),
        ({"executions": 0}, "executions: expected a whole number from 1"),
        ({"executions": None}, "give executions or seconds"),
        ({"seconds": -1}, "seconds: expected a number from 0"),
        ({"max_steps": 0}, "max_steps: expected a whole number from 1"),
        ({"stickiness": 1.0}, r"stickiness: expected a number in \[0, 1\)"),
        ({"preemption_bound": -1}, "preemption_bound: expected a whole number from 0"),
        ({"policy": "pct", "depth": 0}, "depth: expected a whole number from 1 to 8"),
    ],
)
def test_bad_knobs_are_refused_in_one_line(knobs, message):
    system = explorer("fetch_add_2x3")
    with pytest.raises(ValueError, match=message):
        system.explore(**knobs)
    assert system.explore(executions=5)["executions"] == 5


def test_bad_systems_and_choices_are_refused():
    with pytest.raises(TypeError, match="ptstress.explorable"):
        Explorer(object())
    with pytest.raises(ValueError, match="unknown litmus system"):
        litmus("none")
    with pytest.raises(ValueError, match="choices: expected fibre numbers"):
        explorer("fetch_add_2x3").replay([256], seed=0)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("__pyx_f_2cy_4core_3zap_zap_pte_range", ("cy/core/zap", "zap_pte_range")),
        ("__pyx_f_8ptstress_13_engine_sched_run", ("ptstress/_engine_sched", "run")),
        ("__pyx_f_2cy_4core_3zap___zap", ("cy/core/zap", "__zap")),
        ("end", ("", "end")),
    ],
)
def test_names_of_c_functions_are_read_back(name, expected):
    assert source_name(name) == expected
