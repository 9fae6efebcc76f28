"""Arenas, VMA lock, map primitives, TLBs and gathers under the explorer, each with wrong variants to be found."""

import pytest

from kit.build_kit import load_kit
from kit.playing import every_schedule, explored, outcome
from ptstress.layout import Counter
from ptstress.vocabulary import Oracle

SEEDS = range(6)    # of exhaustive searches: the seed decides when buffered stores reach memory
BUDGET = 50_000     # of executions, for a wrong variant; most need fewer than 100


@pytest.fixture(scope="session")
def kit(pytestconfig):
    return load_kit("sched", pytestconfig.cache.mkdir("kit"))


#: scene -> rig; small enough for every schedule with three preemptions
SMALL = {
    "handout": {"frames": 3, "repeats": 2, "fifo": True},
    "write_lock": {},
    "detach": {},
    "bounds": {},
    "attached": {"cpus": 3},
    "publish": {"cpus": 3},
    "fill_flush": {"repeats": 2},
    "fill_full_flush": {"repeats": 2},
    "reuse": {"frames": 2},
    "two_gathers": {"cpus": 3},
}
#: the same with more cpus and more turns, for the random walk
LARGE = {
    "handout": {"cpus": 4, "frames": 4, "repeats": 4},
    "write_lock": {"cpus": 4, "repeats": 4},
    "detach": {"cpus": 4},
    "bounds": {},
    "attached": {"cpus": 4},
    "publish": {"cpus": 5},
    "fill_flush": {"repeats": 6},
    "fill_full_flush": {"repeats": 6},
    "reuse": {"frames": 2, "repeats": 5},
    "two_gathers": {"cpus": 3},
}
BUSTED = [
    ("handout", "unlocked"),
    ("write_lock", "no_seq_recheck"),
    ("write_lock", "no_drain"),
    ("detach", "unlocked_detach"),
    ("bounds", "no_bounds_recheck"),
    ("attached", "no_pmd_recheck"),
    ("attached", "freed_at_once"),      # M07-table
    ("publish", "unordered_install"),   # [PT-004]: the entry overtakes the zeroes
    ("fill_flush", "no_gen_recheck"),
    ("fill_flush", "late_gen"),
    ("fill_full_flush", "no_gen_recheck"),
    ("fill_full_flush", "late_gen"),
    ("reuse", "freed_before_flush"),    # M10-frame
    ("reuse", "no_flush"),
    ("reuse", "no_hw_period"),
    ("two_gathers", "no_pending_look"),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scene", SMALL)
def test_no_schedule_with_few_preemptions_goes_wrong(kit, scene, seed):
    """Result: Never. What each scene looks for stands above it in the kit."""
    rig = kit.Rig(scene, **SMALL[scene])
    result = every_schedule(rig, preemptions=3, seed=seed)
    assert outcome(result) == "pass", (result["failure"], rig.reports())


@pytest.mark.parametrize("scene", LARGE)
def test_no_random_schedule_goes_wrong(kit, scene):
    """Result: Never."""
    rig = kit.Rig(scene, **LARGE[scene])
    result = explored(rig, executions=20_000)
    assert outcome(result) == "pass", (result["failure"], rig.reports())


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("scene", "busted"), BUSTED)
def test_a_wrong_variant_is_found(kit, scene, busted, seed):
    """Result: Sometimes."""
    result = explored(kit.Rig(scene, busted, **SMALL[scene]), executions=BUDGET, seed=seed)
    assert outcome(result) == "violation"


def test_every_wrong_variant_is_tried(kit):
    here = {scene: {busted for name, busted in BUSTED if name == scene} for scene in SMALL}
    assert here == {scene: set(kit.BUSTED[scene]) for scene in SMALL}


# -- who finds them ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scene", "busted", "expected"),
    [
        ("attached", "freed_at_once", (Oracle.UAF, 11)),
        ("reuse", "freed_before_flush", (Oracle.STALE_TLB, 22)),
        ("reuse", "no_flush", (Oracle.STALE_TLB, 22)),
    ],
)
def test_the_engine_itself_reports_it(kit, scene, busted, expected):
    """Result: Sometimes. The oracles of the engine, without help from the scene."""
    rig = kit.Rig(scene, busted, **SMALL[scene])
    assert outcome(explored(rig, executions=BUDGET)) == "violation"
    assert expected in [report[:2] for report in rig.reports()]


def test_near_misses_are_counted(kit):
    """Result: Sometimes. A fill meets a flush and is dropped; a table is detached before its lock was taken."""
    wanted = {"fill_flush": (1, Counter.FILL_DROPPED), "attached": (0, Counter.RECHECK_LOST)}
    for scene, (cpu, counter) in wanted.items():
        rig = kit.Rig(scene, **SMALL[scene])
        assert any(explored(rig, executions=1, seed=seed) and rig.counter(cpu, counter) for seed in range(2000)), scene
