"""Choices that are followed as far as they go, and executions that go on alone from there."""

import pytest

from ptstress._explore import Explorer, litmus


def explorer(name):
    return Explorer(litmus(name))


# Each fibre loads, then stores. Who makes the second step decides: if it is the same fibre, nothing is lost.
@pytest.mark.parametrize("prefix, failing", [([], 1 / 2), ([0], 1 / 2), ([0, 0], 0), ([0, 1], 1), ([0, 1, 0], 1)])
def test_walks_behind_a_prefix_fail_as_often_as_counting_says(prefix, failing):
    found = explorer("split_increment").follow(prefix, seed=3, executions=4000, walk=True, stickiness=0.0)
    assert found["executions"] == 4000
    assert abs(found["outcomes"]["violation"] / 4000 - failing) < 0.05      # six standard deviations


def test_a_walk_behind_a_prefix_is_another_one_each_time_and_the_same_with_the_same_seed():
    one, again = (explorer("fetch_add_2x10").follow([0, 1], seed=9, executions=500, walk=True) for _ in range(2))
    assert one["distinct"] > 100
    assert (one["distinct"], one["points"], one["switches"]) == (again["distinct"], again["points"], again["switches"])


# Without choices: A A B B, nothing is lost. A choice that cannot be made is passed over.
@pytest.mark.parametrize(
    "choices, made, preemptions", [([0, 1, 0], [0, 1, 0], 2), ([0, 1, 1], [0, 1, 1], 1), ([7, 0, 9, 1], [0, 1, 1], 1)])
def test_followed_choices_are_made_where_they_can_be_and_preemptions_are_counted(choices, made, preemptions):
    system = explorer("split_increment")
    found = system.follow(choices, seed=0)
    assert found["failure"]["choices"] == bytes(made)
    assert found["preemptions"] == preemptions
    assert system.replay(made, seed=0)["outcome"] == "violation"
    assert system.follow([], seed=0)["outcomes"]["pass"] == 1


def test_a_trace_says_how_many_choices_led_to_each_step():
    trace = explorer("split_increment").replay([0, 1, 1], seed=0)["trace"]
    assert [(step["fibre"], step["choices"]) for step in trace] == [(0, 1), (1, 2), (1, 3), (0, 3)]


@pytest.mark.parametrize("policy", ["random", "pct", "pos"])
def test_a_policy_that_draws_from_the_seed_refuses_one_seed_for_all_executions(policy):
    with pytest.raises(ValueError, match="all executions would be the same"):
        explorer("fetch_add_2x3").explore(policy, exact_seed=True)


def test_an_unwanted_failure_is_passed_over():
    seen = []
    found = explorer("split_increment").explore(
        "dfs", executions=None, preemption_bound=None, wanted=lambda outcome: seen.append(outcome))
    assert seen == ["violation"] * 4
    assert (found["stop_reason"], found["failure"]) == ("exhausted", None)
    seen.clear()
    found = explorer("split_increment").explore(
        "dfs", executions=None, wanted=lambda outcome: seen.append(outcome) or len(seen) == 3)
    assert found["outcomes"]["violation"] == 3 and found["failure"]["index"] == found["executions"] - 1
    timed = explorer("abandon").explore(executions=None, seconds=0.02, wanted=lambda outcome: False)
    assert (timed["stop_reason"], timed["failure"]) == ("seconds", None)
