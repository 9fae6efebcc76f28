"""Arenas, frames and private tables, one call at a time: order of reuse, generations, poison, double frees."""

import pytest

from kit.build_kit import load_kit
from ptstress.vocabulary import Oracle


@pytest.fixture(scope="session")
def kit(pytestconfig):
    return load_kit("stress", pytestconfig.cache.mkdir("kit"))


@pytest.fixture
def bench(kit):
    return kit.MmBench(cpus=3)


@pytest.fixture
def fifo(kit):
    return kit.MmBench(cpus=3, fifo=True)


def what(bench):
    """(oracle, invariant) of each report."""
    return [report[:2] for report in bench.reports()]


def take_all(kit, bench, cpu=0):
    """Every item that the arena still has, in the order in which it gives them."""
    items = []
    while (item := bench.take(cpu)) != kit.NONE:
        items.append(item)
    return items


# -- order of reuse -----------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 13))
def test_lifo_gives_the_last_freed_first(bench, count):
    taken = [bench.take(0) for _ in range(count)]
    for item in taken:
        bench.give(0, item)
    assert bench.take(0) == taken[-1]


def test_lifo_gives_items_back_in_reverse(bench):
    taken = [bench.take(0) for _ in range(4)]
    for item in taken:
        bench.give(0, item)
    assert [bench.take(0) for _ in taken] == taken[::-1]


def test_fifo_gives_the_first_freed_first_after_all_that_were_never_used(kit, fifo):
    taken = [fifo.take(0) for _ in range(5)]
    for item in taken[::-1]:
        fifo.give(0, item)
    rest = take_all(kit, fifo)
    assert rest[-5:] == taken[::-1]
    assert sorted(rest) == list(range(1, 16))


def test_fifo_is_one_queue_for_all_cpus(kit, fifo):
    taken = take_all(kit, fifo)
    for cpu, item in zip((0, 1, 2), taken[:3], strict=True):
        fifo.give(cpu, item)
    assert [fifo.take(cpu) for cpu in (2, 0, 1)] == taken[:3]


@pytest.mark.parametrize("mode", ["bench", "fifo"])
def test_an_arena_gives_each_number_once_and_then_none(kit, mode, request):
    bench = request.getfixturevalue(mode)
    assert sorted(take_all(kit, bench)) == list(range(1, 16)), "0 is kept back: no entry ever holds it"
    assert bench.take(1) == kit.NONE
    assert bench.free_frames() == 0
    bench.give(1, 7)
    assert take_all(kit, bench, cpu=1) == [7]


@pytest.mark.parametrize("mode", ["bench", "fifo"])
def test_what_one_cpu_freed_another_can_take(kit, mode, request):
    bench = request.getfixturevalue(mode)
    for item in take_all(kit, bench):
        bench.give(0, item)
    assert bench.free_frames() == 15
    assert len(take_all(kit, bench, cpu=1)) >= 8, "a small arena is not left in one cpu's magazine"


def test_a_double_free_is_reported_and_harmless(kit, bench):
    item = bench.take(0)
    bench.give(0, item)
    bench.give(1, item)
    assert [(oracle, a) for oracle, _, _, a, _, _ in bench.reports()] == [(Oracle.CENSUS, item)]
    assert sorted(take_all(kit, bench)) == list(range(1, 16))


def test_the_generation_of_an_item_changes_with_each_use_past_its_wrap(bench):
    seen = []
    for _ in range(8):
        item = bench.take(0)
        seen.append(bench.generation(item))
        bench.give(0, item)
    assert len(set(seen)) == 8
    assert min(seen) < 8 < max(seen), "the test does not reach the wrap"


# -- frames and tables ---------------------------------------------------------------------------


def test_a_reused_frame_is_another_incarnation(bench):
    first = bench.frame_alloc(0)
    before = bench.incarnation(first)
    assert bench.stamp(first) == before
    bench.frame_free(0, first)
    assert bench.stamp(first) != before, "poison"
    assert bench.frame_alloc(1, page=3) != first or bench.incarnation(first) != before
    assert bench.frame_alloc(0, page=3) == first
    assert bench.stamp(first) == bench.incarnation(first) != before
    assert bench.reports() == []


def test_incarnations_differ_among_cpus(bench):
    seen = {bench.incarnation(bench.frame_alloc(cpu)) for cpu in (0, 1, 2) for _ in range(4)}
    assert len(seen) == 12
    assert all(stamp >> 63 for stamp in seen), "no written value looks like one"


def test_a_write_to_a_freed_frame_is_noticed_at_rest(bench):
    frame = bench.frame_alloc(0)
    bench.frame_free(0, frame)
    bench.rest()
    assert bench.reports() == []
    bench.scribble(frame)
    bench.rest()
    assert what(bench) == [(Oracle.UAF, 22)]


def test_a_write_to_a_freed_frame_is_noticed_when_it_is_used_again(bench):
    frame = bench.frame_alloc(0)
    bench.frame_free(0, frame)
    bench.scribble(frame)
    assert bench.reports() == []
    assert bench.frame_alloc(0) == frame
    assert what(bench) == [(Oracle.UAF, 22)]


def test_a_new_table_is_empty_and_a_freed_one_is_poison(bench):
    table = bench.table_alloc(0)
    assert set(bench.entries(table)) == {0}
    bench.table_free(0, table)
    assert 0 not in bench.entries(table)
    assert bench.table_alloc(0) == table
    assert set(bench.entries(table)) == {0}
    assert bench.reports() == []


def test_a_write_to_a_freed_table_is_noticed_when_it_is_used_again(bench):
    table = bench.table_alloc(0)
    bench.table_free(0, table)
    bench.scribble_table(table)
    assert bench.table_alloc(0) == table
    assert what(bench) == [(Oracle.UAF, 10)]
