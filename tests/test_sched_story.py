"""What is planted is called by its name: by explore, with the functions that met, and by run where threads find it."""

import pytest

from ptstress.bugs import find_bug
from ptstress.exploring import DEFAULT_GEOMETRY, ExploreRequest, explore
from ptstress.lab import KNOBS, Lab
from ptstress.orderings import find_places
from ptstress.program import parse
from ptstress.replaying import replay
from ptstress.units import parse_geometry
from ptstress.weakening import WeakenRequest, weaken

#: Bug, how its headline begins, what its line of what was found has in it.
NAMED = (
    ("M15-trylock", "BUG: deadlock on pml and ptl in dontneed / dontneed", "waits for pml of pmd_table"),
    ("P20", "BUG: livelock in walk", "repeats 4 steps in walk"),
    ("M15-sleep", "BUG: sleep inside RCU in ", "may sleep inside a read section"),
    ("M15-lock-order", "BUG: wrong lock order in ", "waits for the lock of a pmd_table"),
    ("MX-freed-twice", "BUG: double free of frame in ", "double free of frame"),
    ("MX-queued-twice", "BUG: double free of frame in _zap_entries", "is unlinked twice"),
    ("MX-install-leak", "BUG: leak of ", "is in use, and no entry refers to it"),
    ("MX-frame-leak", "BUG: leak of frame", "frames are allocated"),
    ("MX-ref-leak", "BUG: leak of table", "nobody frees them"),
    ("P01", "BUG: use-after-free of pte_table in pmd_clear_table_for / do_anonymous_page", "was detached and holds an entry"),
    ("P24", "BUG: stale translation of pte_table in ", "paging-structure cache of cpu"),
    ("P18", "BUG: use-after-free of VMA in vma_start_read / vma_set_bounds", "that it does not cover"),
)


@pytest.mark.parametrize(("name", "line", "what"), NAMED, ids=[name for name, _, _ in NAMED])
def test_a_planted_bug_is_called_by_its_name(name: str, line: str, what: str):
    bug = find_bug(name)
    request = ExploreRequest(
        bug.program, bug.scheme, parse_geometry(DEFAULT_GEOMETRY), (name,), 20_000, None, 1, "random"
    )
    (failure,) = explore(request, lambda line: None).failures
    assert failure.headline.startswith(line)
    assert what in failure.what
    assert failure.expected[0].startswith("expected (I")
    # Two cpus fit on a screen, and a story on a page; a livelock adds one round of what repeats.
    assert len(failure.story) <= 45 and max(map(len, failure.story)) <= 112


def test_a_lock_that_is_dropped_by_a_store_that_waits_is_dropped():
    # Half of a word, in the store buffer of its cpu.
    bug = find_bug("P01")
    lab = Lab(bug.scheme, parse_geometry(DEFAULT_GEOMETRY), (bug.id,), dict(KNOBS), 1)
    lab.load(parse(bug.program))
    for seed in range(12):
        found = lab.explorer.explore(seed=seed)["failure"]
        trace = lab.explorer.replay(found["choices"], found["seed"])["trace"]
        unlocks = [s for s in trace if s["func"] == "spin_unlock" and s["before"] & 0xFFFFFFFF]
        assert unlocks and all(s["after"] & 0xFFFFFFFF == 0 for s in unlocks)


def test_a_deadlock_names_holders_and_waiters():
    bug = find_bug("M15-trylock")
    request = ExploreRequest(bug.program, bug.scheme, parse_geometry(DEFAULT_GEOMETRY), (bug.id,), 20_000, None, 1, "random")
    (failure,) = explore(request, lambda line: None).failures
    first, second = failure.what.removeprefix("deadlock: ").split("; ")
    assert {first.partition(" ")[0], second.partition(" ")[0]} == {"CPU0", "CPU1"}
    for text, other in ((first, "CPU1"), (second, "CPU0")):
        assert " holds " in text and ", waits for p" in text and text.endswith(f", which {other} holds")


def test_a_load_that_is_early_is_told_and_so_is_what_orders_nothing():
    """The walk reads the entry of a table, and has read what the table holds before."""
    places = find_places(["PT-005"])
    program = parse("prefix: mmap(p0..p8); t0: write(p0) | t1: read(p1)")
    request = WeakenRequest(("PT-005",), program, "linux-6.18", parse_geometry(DEFAULT_GEOMETRY), 2000, 1)
    row = next(row for row in weaken(request, lambda line: None).orderings if "entry_offset" in row.where and row.caught)
    told = replay(row.replay, "fibres", 1)
    line = next(place.line for place in places if place.where == row.where)
    assert told.notes == [f"mm/map.pxd:{line} orders nothing here"]
    assert any("poison (loaded early)" in line for line in told.story)
