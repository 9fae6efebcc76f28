"""Weak memory under the explorer: litmus tests of the accesses, and orderings of the engine that are left out.

A litmus test asks one question; what is allowed must come, what is forbidden must not.
"""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from kit.build_kit import load_kit
from kit.playing import explored, outcome
from ptstress.bugs import find_bug
from ptstress.errors import ExitCode, UsageError
from ptstress.lab import KNOBS, Lab
from ptstress.orderings import find_places, name_of
from ptstress.program import parse
from ptstress.replaying import replay
from ptstress.units import parse_geometry
from ptstress.weaken_aims import AIMS
from ptstress.weaken_reasons import REASONS
from ptstress.weakening import CRASH, WeakenRequest, _Bench, weaken

EXECUTIONS = 20_000
CPUS = {"IRIW": 4}
#: Outcomes that come as soon as an ordering is left out: scene, variant.
ALLOWED = [
    ("MP", "unordered_stores"), ("MP", "unordered_loads"),
    ("MP+fences", "unordered_stores"), ("MP+fences", "unordered_loads"),
    ("MP+acquire-behind", "unordered"),     # an acquire load does not hold back what stands before it
    ("MP+acquire-between", "unordered"),    # nor does it come behind that: it may be made before, and what is behind it too
    ("MP+address", "unordered"),            # hardware orders it; here it counts as a missing acquire
    ("SB", "unordered"),
    ("SB+membarrier", "unordered"), ("SB+membarrier", "no_membarrier"),
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


# -- orderings of the engine ---------------------------------------------------------------------


GEOMETRY = parse_geometry("2x2x2x4")
LOCKING = Path(__file__).parent.parent / "cy" / "LOCKING.md"
#: What goes wrong without them is found in every run of the long test.
CAUGHT = {"PT-001", "PT-002", "PT-004", "PT-005", "PT-007", "PT-010", "PT-011", "PT-020", "PT-041", "PT-062", "PT-150"}


def without(labels, program=None, scheme=None, executions=5000):
    """What ``explore --weaken`` says."""
    request = WeakenRequest(tuple(labels), program and parse(program), scheme, GEOMETRY, executions, 1)
    return weaken(request, lambda line: None)


def test_a_table_that_is_published_unordered_is_found_and_comes_again():
    """Result: Sometimes. P16 with its stores in program order: only the release is left out."""
    bug = find_bug("P16")
    (row,) = without(["PT-004"], bug.program, "linux-6.18").orderings
    assert row.caught and row.oracle in bug.oracles
    again = replay(row.replay, "both", 3)
    assert again.reproduced == {"fibres": 3, "threads": 3} and again.same_trace


def test_a_vma_that_is_unlocked_before_its_flags_is_found():
    """Result: Sometimes. P17 with its stores in program order, by mmap: only the release of the sequence is left out."""
    lab = Lab("rcu", GEOMETRY, (), dict(KNOBS), 1)
    lab.load(parse("prefix: mmap(p0..p4); t0: mmap(p0..p4) | t1: write(p0)"))
    lab.explorer.memory.weaken([(p.module, p.line) for p in find_places(["PT-003"]) if p.function == "seq_write_end"])
    failure = lab.explorer.explore(seed=2, executions=20_000)["failure"]
    assert failure is not None
    assert lab.signature(failure["outcome"])[0] in (*find_bug("P17").oracles, "progress")


def test_a_program_that_does_not_make_an_access_says_so():
    (row,) = without(["PT-004"], "prefix: mmap(p0..p4); t0: age(p0) | t1: age(p1)", "linux-6.18").orderings
    assert (row.caught, row.programs, row.executions) == (False, 0, 0)


def test_every_label_of_the_table_stands_at_an_access():
    """PT-120 orders the threads of a replay, not the engine."""
    listed = set(re.findall(r"^\|\s*\[(PT-\d{3})\]", LOCKING.read_text(), re.M))
    assert {place.label for place in find_places()} == listed - {"PT-120"}


def test_reasons_are_of_accesses_that_there_are():
    assert set(REASONS) <= {(place.label, name_of(place)) for place in find_places()}


def test_aims_are_at_accesses_that_there_are():
    assert {(aim.label, aim.function) for aim in AIMS} <= {(place.label, name_of(place)) for place in find_places()}


def test_a_crash_is_caught_and_the_other_orderings_are_still_looked_at(monkeypatch):
    """An engine without one of its orderings may follow any pointer."""
    look = _Bench.look

    def crash_once(bench, places, targets):
        if places[0].function == "entry_offset":
            os.abort()
        return look(bench, places, targets)

    monkeypatch.setattr(_Bench, "look", crash_once)
    s = without(["PT-005"], "prefix: mmap(p0..p8); t0: write(p0) | t1: read(p1)", "linux-6.18", 100)
    assert [(row.oracle, row.replay) for row in s.orderings if "entry_offset:" in row.where] == [(CRASH, "")]
    assert len(s.orderings) == len(find_places(["PT-005"]))


def test_a_stop_keeps_what_was_looked_at(monkeypatch):
    """The ordering that is being looked at then takes minutes."""
    look = _Bench.look

    def long_look(bench, places, targets):
        if places[0].function != "pte_alloc":
            time.sleep(600)
        return look(bench, places, targets)

    monkeypatch.setattr(_Bench, "look", long_look)
    program = parse("prefix: mmap(p0..p8); t0: write(p0) | t1: read(p1)")
    request = WeakenRequest(("PT-005",), program, "linux-6.18", GEOMETRY, 100, 1)
    s = weaken(request, lambda line: os.kill(os.getpid(), signal.SIGINT))
    assert (s.verdict, s.exit_code, len(s.orderings)) == ("unknown", ExitCode.UNTRUSTWORTHY, 1)
    assert s.notes[0] == "stopped before the end"


def test_an_unknown_label_is_refused_in_one_line():
    with pytest.raises(UsageError, match="ordering 'PT-999': expected one of PT-001, "):
        find_places(["PT-999"])


@pytest.mark.long
def test_what_each_ordering_is_for():
    """Minutes. No reason is wrong, and what nothing catches has one."""
    s = without([], executions=50_000)
    assert (s.notes, s.exit_code) == ([], ExitCode.PASS)
    assert {row.label for row in s.orderings if row.caught} >= CAUGHT
