"""Arenas, VMA lock, map primitives, TLBs and gathers on real threads, with wrong variants to be found.

Rounds are counted, never timed. A wrong variant gets far more rounds than it was ever seen to need.
"""

import pytest

from kit.build_kit import load_kit
from kit.playing import threads

BUSTED_ROUNDS = 3000

#: scene -> (rig, rounds)
SCENES = {
    "handout": ({"cpus": 4, "frames": 8, "repeats": 1000}, 20),
    "write_lock": ({"cpus": 3, "repeats": 500}, 20),
    "detach": ({"cpus": 3}, 2000),
    "bounds": ({}, 2000),
    "attached": ({"cpus": 3}, 2000),
    "publish": ({"cpus": 3}, 2000),
    "fill_flush": ({"repeats": 20}, 2000),
    "fill_full_flush": ({"repeats": 20}, 2000),
    "reuse": ({"frames": 2, "repeats": 20}, 2000),
    "two_gathers": ({"cpus": 3}, 2000),
}
#: Those that real threads find within a few rounds. The explorer finds all.
BUSTED = [
    ("handout", "unlocked"),
    ("write_lock", "no_seq_recheck"),
    ("write_lock", "no_drain"),
    ("attached", "no_pmd_recheck"),
    ("attached", "freed_at_once"),
    ("reuse", "freed_before_flush"),
    ("reuse", "no_flush"),
    ("reuse", "no_hw_period"),
    ("two_gathers", "no_pending_look"),
]


@pytest.fixture(scope="session")
def kit(pytestconfig):
    return load_kit("stress", pytestconfig.cache.mkdir("kit"))


@pytest.mark.parametrize("fifo", [False, True], ids=["lifo", "fifo"])
@pytest.mark.parametrize("scene", SCENES)
def test_nothing_goes_wrong_on_real_threads(kit, scene, fifo):
    """Result: Never. What each scene looks for stands above it in the kit."""
    config, rounds = SCENES[scene]
    rig = kit.Rig(scene, membarrier=True, delay_interval=5, fifo=fifo, **config)
    assert threads(rig, rounds) == 0, rig.reports()


@pytest.mark.parametrize(("scene", "busted"), BUSTED)
def test_a_wrong_variant_is_found_on_real_threads(kit, scene, busted):
    """Result: Sometimes."""
    config, _ = SCENES[scene]
    assert threads(kit.Rig(scene, busted, membarrier=True, delay_interval=5, **config), BUSTED_ROUNDS) > 0
