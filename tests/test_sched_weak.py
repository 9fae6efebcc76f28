"""Weak memory under the explorer: litmus tests of the accesses, and orderings of the engine that are left out.

A litmus test asks one question; what is allowed must come, what is forbidden must not.
"""

import pytest

from kit.build_kit import load_kit
from kit.playing import explored, outcome

EXECUTIONS = 20_000
CPUS = {"IRIW": 4}
#: Outcomes that come as soon as an ordering is left out: scene, variant.
ALLOWED = [
    ("MP", "unordered_stores"), ("MP", "unordered_loads"),
    ("MP+fences", "unordered_stores"), ("MP+fences", "unordered_loads"),
    ("MP+acquire-behind", "unordered"),     # an acquire load does not hold back what stands before it
    ("MP+address", "unordered"),            # hardware orders it; here it counts as a missing acquire
    ("SB", "unordered"),
    ("SB+release+acquire", "unordered"),    # a release and an acquire are no full barrier
    ("2+2W", "unordered"),
    ("R", "unordered_stores"), ("R", "unordered_loads"),
    ("S", "unordered"),
    ("IRIW", "unordered"),
]
FORBIDDEN = [*dict.fromkeys(scene for scene, _ in ALLOWED), "MP+lock", "CoRR"]


@pytest.fixture(scope="session")
def kit(pytestconfig):
    return load_kit("sched", pytestconfig.cache.mkdir("kit"))


def play(kit, scene, busted="", **knobs):
    """The result of exploring a litmus test."""
    return explored(kit.Rig(scene, busted, cpus=CPUS.get(scene, 2)), executions=EXECUTIONS, **knobs)


@pytest.mark.parametrize("policy", ["random", "pos"])
@pytest.mark.parametrize("scene", FORBIDDEN)
def test_what_is_ordered_is_never_seen_the_other_way_round(kit, scene, policy):
    """Result: Never."""
    assert outcome(play(kit, scene, policy=policy)) == "pass"


@pytest.mark.parametrize(("scene", "busted"), ALLOWED)
def test_what_nothing_orders_is_seen_the_other_way_round(kit, scene, busted):
    """Result: Sometimes."""
    assert outcome(play(kit, scene, busted)) == "violation"


def test_a_load_is_never_later_than_a_store_behind_it(kit):
    """Result: Never. Hardware may do it; the explorer does not show it."""
    assert outcome(play(kit, "LB")) == "pass"


def test_every_litmus_test_is_tried(kit):
    here = {scene: {busted for name, busted in ALLOWED if name == scene} for scene in [*FORBIDDEN, "LB"]}
    assert here == {scene: set(kit.BUSTED[scene]) for scene in here}
