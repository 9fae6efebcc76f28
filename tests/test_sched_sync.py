"""RCU, SRCU, locks and sequence counters under the explorer. Every detector finds a deliberately wrong variant, too.

RCU readers of half of the weak executions leave their barrier to who waits for them, as membarrier() allows.
"""

import pytest

from kit.build_kit import load_kit
from kit.playing import every_schedule, explored, outcome
from ptstress.engine import load_explorer
from ptstress.vocabulary import Oracle

SEEDS = range(6)    # of exhaustive searches: the seed decides when buffered stores reach memory
BUDGET = 50_000     # of executions, for a wrong variant; most need fewer than 100


@pytest.fixture(scope="session")
def kit(pytestconfig):
    return load_kit("sched", pytestconfig.cache.mkdir("kit"))


#: scene -> rig; small enough for every schedule with three preemptions
SMALL = {
    "unlink": {"cpus": 3},
    "sync": {},
    "backlog": {"repeats": 6},
    "srcu_unlink": {"cpus": 3, "repeats": 2},
    "srcu_sync": {},
    "mutex": {"cpus": 3},
    "two_locks": {},
    "rwsem": {"cpus": 3},
    "downgrade": {},
    "stream": {"cpus": 3},
    "twins": {"repeats": 2},
}
#: the same with more cpus and more turns, for the random walk
LARGE = {
    "unlink": {"cpus": 5, "repeats": 3},
    "sync": {},
    "backlog": {"repeats": 12},
    "srcu_unlink": {"cpus": 5, "repeats": 3},
    "srcu_sync": {},
    "mutex": {"cpus": 5, "repeats": 3},
    "two_locks": {},
    "rwsem": {"cpus": 4, "repeats": 3},
    "downgrade": {"cpus": 3, "repeats": 3},
    "stream": {"cpus": 4, "repeats": 4},
    "twins": {"cpus": 3, "repeats": 4},
}
BUSTED = [
    ("unlink", "no_grace_period"),
    ("unlink", "running_period"),       # the target is s instead of s + 2 while s runs
    ("unlink", "silent_reader"),
    ("unlink", "unordered_reader"),     # [PT-010]: its slot waits in the store buffer
    ("sync", "no_grace_period"),
    ("backlog", "no_backpressure"),
    ("srcu_unlink", "no_grace_period"),
    ("srcu_unlink", "silent_reader"),
    ("srcu_unlink", "unordered_reader"),    # [PT-030]: the section that it has begun waits in the store buffer
    ("srcu_unlink", "other_half"),
    ("srcu_unlink", "no_first_scan"),       # it read the index before a flip, and counted itself afterwards
    ("srcu_sync", "no_grace_period"),
    ("mutex", "test_then_set"),
    ("mutex", "unordered_unlock"),      # [PT-001]: the unlock overtakes the stores before it
    ("two_locks", "opposite_order"),
    ("rwsem", "blind_writer"),
    ("downgrade", "up_then_down"),
    ("stream", "rude_reader"),
    ("twins", "no_retry"),
    ("twins", "no_odd"),
]


#: Three cpus, twice: by far the most schedules.
MANY = [("srcu_unlink", seed) for seed in SEEDS[1:]]


@pytest.mark.parametrize("scene, seed", [
    pytest.param(scene, seed, marks=pytest.mark.long if (scene, seed) in MANY else ()) for scene in SMALL for seed in SEEDS
])
def test_no_schedule_with_few_preemptions_goes_wrong(kit, scene, seed):
    """Result: Never. What each scene looks for stands above it in the kit."""
    result = every_schedule(kit.Rig(scene, **SMALL[scene]), preemptions=3, seed=seed)
    assert outcome(result) == "pass", result["failure"]


@pytest.mark.parametrize("scene", LARGE)
def test_no_random_schedule_goes_wrong(kit, scene):
    """Result: Never."""
    result = explored(kit.Rig(scene, **LARGE[scene]), executions=20_000)
    assert outcome(result) == "pass", result["failure"]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("scene", "busted"), BUSTED)
def test_a_wrong_variant_is_found(kit, scene, busted, seed):
    """Result: Sometimes."""
    result = explored(kit.Rig(scene, busted, **SMALL[scene]), executions=BUDGET, seed=seed)
    assert outcome(result) == "violation"


def test_every_wrong_variant_is_tried(kit):
    here = {scene: {busted for name, busted in BUSTED if name == scene} for scene in SMALL}
    assert here == {scene: set(kit.BUSTED[scene]) for scene in SMALL}


# -- what may happen -----------------------------------------------------------------------------


def test_two_readers_meet_inside_a_semaphore(kit):
    """Result: Sometimes."""
    assert outcome(explored(kit.Rig("together"))) == "violation"


def test_a_reader_meets_a_writer_that_downgraded(kit):
    """Result: Sometimes."""
    assert outcome(explored(kit.Rig("downgrade_lets_in"))) == "violation"


# -- deadlock ------------------------------------------------------------------------------------


def test_opposite_lock_order_is_reported_in_the_first_execution(kit):
    """Result: Always. Whether or not the two cpus meet."""
    rig = kit.Rig("two_locks", "opposite_order")
    assert outcome(explored(rig, executions=1)) == "violation"
    assert [report[:2] for report in rig.reports()] == [(Oracle.LOCK_ORDER, 7)]


def test_opposite_lock_order_deadlocks_at_once(kit):
    """Result: Sometimes. The waiters are blocked, so the execution ends there and not at the step bound."""
    result = every_schedule(kit.Rig("two_locks", "opposite_order", deaf=True), preemptions=1)
    assert outcome(result) == "deadlock"
    assert result["failure"]["points"] < 20


# -- replay --------------------------------------------------------------------------------------


def test_a_failure_of_a_system_from_outside_replays_on_fibres_and_on_threads(kit):
    explorer = load_explorer().Explorer(kit.Rig("unlink", "no_grace_period", cpus=3).explorable())
    failure = explorer.explore(executions=BUDGET)["failure"]
    expected = {"outcome": "violation", "hash": failure["hash"], "points": failure["points"]}
    for _ in range(20):
        assert explorer.replay(failure["choices"], failure["seed"], trace=False) == expected
        assert explorer.replay_threads(failure["choices"], failure["seed"]) == expected
