"""What is taken of a history to look for a schedule: the window, the state before it, and pages renumbered."""

import numpy as np
import pytest

from ptstress.history import History
from ptstress.pages import global_page
from ptstress.program import parse
from ptstress.renumber import Layout, small_program
from ptstress.units import pages_of
from ptstress.vocabulary import EVENT_DTYPE, Verb
from ptstress.window import Recorded, Window, page_before, windows

BITS = (9, 9, 9, 9)
TABLE = 1 << BITS[0]
WRITABLE_MAP = (0, 4 * TABLE, 4)


def recorded(*branches: list[tuple], maps=(WRITABLE_MAP,), pages=()) -> Recorded:
    """Of each worker (verb, start, end, t0, t1), and ``aux`` if it matters."""
    rings = []
    for branch in branches:
        ring = np.zeros(len(branch), EVENT_DTYPE)
        for n, (verb, start, end, t0, t1, *aux) in enumerate(branch):
            ring[n]["verb"], ring[n]["start"], ring[n]["end"], ring[n]["t0"], ring[n]["t1"] = verb, start, end, t0, t1
            ring[n]["seq"], ring[n]["aux"] = n, aux[0] if aux else 0
        rings.append(ring)
    return Recorded(History(
        tuple(rings), np.array(maps, np.uint64).reshape(-1, 3), np.array(pages, np.uint64).reshape(-1, 3), geometry=BITS))


def report(**fields: int | str) -> dict[str, int | str]:
    return {"oracle": "use-after-free", "cpu": 0, "verb": "dontneed", "addr": 0, "a": 0, "b": 0, "stamp": 50, **fields}


def nothing() -> np.ndarray:
    return np.array([], dtype=np.int64)


def test_pages_that_are_treated_alike_are_one_and_ends_of_tables_stay_ends():
    # p77 is written, the whole table is discarded: before it, it, and behind it.
    layout = Layout(BITS, {77}, {(0, TABLE - 1)})
    assert layout.geometry == (2, 1, 1, 1)
    assert (layout.first(0), layout.first(77), layout.first(78)) == (0, 1, 2)
    assert layout.end(TABLE - 1) == 4


def test_tables_that_nobody_touches_go_and_order_and_sharing_stay():
    far = 5 * (1 << 18) + 3 * TABLE         # another pmd_table
    layout = Layout(BITS, {3, TABLE + 9, 40 * TABLE, far}, ())
    small = [layout.first(page) for page in (3, TABLE + 9, 40 * TABLE, far)]
    assert small == sorted(small)
    width, pmd = layout.geometry[:2]
    tables = [page >> width for page in small]
    assert len(set(tables)) == 4 and tables[:3] == [0, 1, 2]
    assert tables[0] >> pmd == tables[2] >> pmd != tables[3] >> pmd
    assert max(small) < pages_of(layout.geometry)


def test_many_pages_of_a_table_leave_no_room_for_what_lies_between():
    layout = Layout(BITS, set(range(0, 40, 4)), {(0, TABLE - 1)})
    assert layout.geometry[0] == 4
    assert [layout.first(page) for page in range(0, 40, 4)] == list(range(10))
    assert layout.end(TABLE - 1) == 16


def test_mms_keep_apart():
    layout = Layout(BITS, {5, global_page(3, 5)}, ())
    assert layout.mm(5) == 0 and layout.mm(global_page(3, 5)) == 1
    assert layout.first(global_page(3, 5)) == global_page(1, layout.first(5))


@pytest.mark.parametrize(("done", "content"), [
    ([], "none"),
    ([(Verb.READ,)], "zero"),
    ([(Verb.READ,), (Verb.WRITE,)], "written"),
    ([(Verb.WRITE,), (Verb.DONTNEED,)], "dropped"),
    ([(Verb.WRITE,), (Verb.FREE,)], "free"),
    ([(Verb.WRITE,), (Verb.FREE,), (Verb.WRITE,)], "written"),
    ([(Verb.WRITE,), (Verb.FREE,), (Verb.DISCARD,)], "dropped"),
    ([(Verb.WRITE,), (Verb.DISCARD,)], "written"),
    ([(Verb.WRITE,), (Verb.MMAP, 1)], "none"),
    ([(Verb.POPULATE, 1)], "written"),
    ([(Verb.POPULATE, 0)], "zero"),
    ([(Verb.GUARD_INSTALL,), (Verb.DONTNEED,)], "guard"),
    ([(Verb.GUARD_INSTALL,), (Verb.GUARD_REMOVE,)], "none"),
    ([(Verb.GUP_FAST, 1)], "written"),
])
def test_what_a_page_holds_is_what_operations_left(done, content):
    branch = [(verb, 3, 4, 10 * n + 1, 10 * n + 5, *aux) for n, (verb, *aux) in enumerate(done)]
    state = page_before(recorded(branch), 3, 1000, nothing())
    assert state.content == content and state.mapped and state.writable


def test_a_page_of_the_burst_before_and_the_mapping_are_known():
    r = recorded([(Verb.MPROTECT, 0, 8, 1, 2, 0), (Verb.MUNMAP, 8, 16, 3, 4)], pages=[(3, 7, 9), (4, 0, 0)])
    assert page_before(r, 3, 1000, nothing()) == page_before(r, 3, 2, nothing())
    assert (page_before(r, 3, 1000, nothing()).content, page_before(r, 4, 1000, nothing()).content) == ("written", "zero")
    assert not page_before(r, 3, 1000, nothing()).writable and page_before(r, 3, 1, nothing()).writable
    assert not page_before(r, 8, 1000, nothing()).mapped
    assert page_before(r, 8, 1000, np.array([1])).mapped


def test_the_smallest_window_is_the_operation_that_found_it_and_the_nearest_one_beside_it():
    r = recorded(
        [(Verb.WRITE, 9, 10, 1, 3), (Verb.DONTNEED, 0, TABLE, 20, 80)],
        [(Verb.WRITE, 7, 8, 30, 35), (Verb.WRITE, 8, 9, 40, 48)],
        [(Verb.WRITE, 3 * TABLE, 3 * TABLE + 1, 41, 47)],
    )
    window = next(windows(r, report(), 1))
    kinds = [[(Verb(int(r.ops["verb"][i])).label, int(r.start[i])) for i in branch] for branch in window.branches]
    assert kinds == [[("dontneed", 0)], [("write", 8)]]
    small = small_program(r, window, BITS)
    assert small.program.text() == "prefix: mmap(p0..p4); write(p2); t0: dontneed(p0..p4) | t1: write(p1)"
    assert parse(small.program.text()) == small.program


def test_windows_grow_and_none_comes_twice():
    r = recorded(*[[(Verb.WRITE, n, n + 1, 10 * n + w + 1, 10 * n + w + 9) for n in range(6)] for w in range(4)])
    found = list(windows(r, report(verb="write"), 1))
    sizes = [sum(map(len, window.branches)) for window in found]
    assert len({window.branches for window in found}) == len(found)
    assert sizes[0] == 2 and max(sizes) >= 16 and all(2 <= len(window.branches) <= 4 for window in found)


def test_a_check_that_names_a_frame_leads_to_who_used_it():
    r = recorded(
        [(Verb.WRITE, 5, 6, 10, 12), (Verb.READ, 900, 901, 70, 75)], [(Verb.DONTNEED, 5, 6, 9, 15), (Verb.READ, 5, 6, 60, 61)])
    r.ops["incarnation"][r.t0 == 10] = 0x8000000000000001
    named = report(oracle="data", addr=5 << 12, a=0x8000000000000001, stamp=1000, verb="none")
    window = next(windows(r, named, 1))
    assert sorted(int(r.t0[i]) for i in window.members()) == [9, 10]


def test_an_operation_that_names_no_page_gets_one_of_its_mm():
    other = global_page(1, 0)
    r = recorded(
        [(Verb.WRITE, other + 3, other + 4, 1, 2), (Verb.EXIT, other, other, 20, 60)], [(Verb.SCAN, 0, 0, 30, 90)],
        maps=[(other, other + TABLE, 4), WRITABLE_MAP])
    exit_of, scan_of = (int(np.flatnonzero(r.verb == verb)[0]) for verb in (Verb.EXIT, Verb.SCAN))
    small = small_program(r, Window(((exit_of,), (scan_of,)), -1), BITS)
    assert small.program.text() == "prefix: mmap(p0..p4); write(p1); t0: exit(m0) | t1: scan(m0)"


def test_a_burst_that_went_wrong_somewhere_is_looked_at_where_two_met():
    r = recorded(
        [(Verb.WRITE, n, n + 1, 100 * n + 1, 100 * n + 50) for n in range(8)],
        [(Verb.MUNMAP, n, n + 2, 100 * n + 20, 100 * n + 90) for n in range(8)])
    found = list(windows(r, report(oracle="counters", stamp=10_000, verb="none"), 1))
    assert found and all(len(window.branches) == 2 for window in found)


def test_a_worker_that_was_alone_is_a_window():
    r = recorded([(Verb.WRITE, 3, 4, 10, 90)], [])
    (small,) = {small_program(r, window, BITS) for window in windows(r, report(verb="write"), 1)}
    assert small.program.text() == "prefix: mmap(p0..p4); t0: write(p1)"


def test_nothing_comes_of_a_history_in_which_nothing_is():
    assert list(windows(recorded([], []), report(), 1)) == []
