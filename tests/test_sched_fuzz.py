"""What steers a campaign: pairs of accesses, and overlaps that add up over the executions of a program."""

import pytest

from ptstress.engine import load_explorer
from ptstress.program import parse
from ptstress.trial import RARE, SmallMachine

BITS = (2, 1, 1, 1)
RACE = "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: write(p0); write(p2)"


@pytest.fixture
def explorer():
    """Gives machine and explorer of a program."""

    def load(text):
        program = parse(text)
        small = SmallMachine("sched", "linux-6.18", BITS, len(program.branches), RARE)
        small.machine.program(*program.arrays())
        return small.machine, load_explorer().Explorer(small.machine.explorable())

    return load


def test_pairs_are_what_two_fibres_do_to_one_word():
    pairs = load_explorer().SitePairs()
    load_explorer().Explorer(load_explorer().litmus("fetch_add_2x3")).explore(seed=1, executions=50, pairs=pairs)
    ((first, second),) = pairs.since(0)
    assert first == second and first[2] == "rmw"


def test_one_fibre_makes_no_pairs(explorer):
    pairs = load_explorer().SitePairs()
    explorer("prefix: mmap(p0..p4); t0: write(p0); dontneed(p0..p4)")[1].explore(seed=1, executions=50, pairs=pairs)
    assert len(pairs) == 0 and pairs.since(0) == []


def test_pairs_come_in_order_and_are_found_again(explorer):
    machine, run = explorer(RACE)
    pairs, counts = load_explorer().SitePairs(), []
    for seed in range(1, 7):
        run.explore(seed=seed, executions=60, pairs=pairs)
        counts.append(len(pairs))
    assert counts[0] > 20 and counts == sorted(counts) and counts[-1] - counts[-2] < counts[0]
    seen = pairs.since(0)
    assert len(seen) == counts[-1]
    assert pairs.since(counts[0]) == seen[counts[0] :]
    assert any(a[0] != b[0] for a, b in seen)
    again = load_explorer().SitePairs()
    for seed in range(1, 7):
        run.explore(seed=seed, executions=60, pairs=again)
    assert again.since(0) == seen
    with pytest.raises(ValueError, match="^first: expected"):
        pairs.since(counts[-1] + 1)


def test_entries_of_one_table_are_one_object(explorer):
    # Two pages of one table, then of two tables: the fibres touch different entries in both.
    near, far = load_explorer().SitePairs(), load_explorer().SitePairs()
    mapped = "prefix: mmap(p0..p8); write(p3); write(p7); "
    explorer(f"{mapped}t0: write(p0) | t1: write(p1)")[1].explore(seed=1, executions=400, pairs=near)
    explorer(f"{mapped}t0: write(p0) | t1: write(p4)")[1].explore(seed=1, executions=400, pairs=far)
    only_near = set(near.since(0)) - set(far.since(0))
    assert [pair for pair in only_near if {"rmw", "store"} & {place[2] for place in pair if place[0].endswith("fault.pxd")}]


def test_looking_at_pairs_changes_no_execution(explorer):
    _, run = explorer(RACE)
    without = run.explore(seed=3, executions=200)
    looked_at = run.explore(seed=3, executions=200, pairs=load_explorer().SitePairs())
    for key in ("executions", "points", "distinct", "outcomes", "switches"):
        assert without[key] == looked_at[key], key


def test_overlaps_add_up_over_the_executions_of_a_program(explorer):
    machine, run = explorer(RACE)
    run.explore(seed=1, executions=10)
    few = machine.overlaps().sum()
    run.explore(seed=2, executions=500)
    many = machine.overlaps().sum()
    assert 0 < few < many <= 510 * 2
    machine.program(*parse(RACE).arrays())
    assert machine.overlaps().sum() == 0
