"""The policy that keeps to a recorded order, and the order that is made of a history and of flight recorders."""

import numpy as np

from ptstress.exploring import DEFAULT_GEOMETRY
from ptstress.history import History
from ptstress.lab import KNOBS, MAX_STEPS, Lab
from ptstress.program import parse
from ptstress.recorded_order import BEGIN, END, LOCK, Acquisition, by_operation, order_of
from ptstress.units import parse_geometry
from ptstress.vocabulary import EVENT_DTYPE, Verb
from ptstress.window import Recorded, Window

#: The write must fall between two holds of the table's lock by the scan.
RACE = "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: write(p0)"
APART = ((0, BEGIN), (0, END), (1, BEGIN), (1, END))
TOGETHER = ((0, BEGIN), (1, BEGIN), (1, END), (0, END))
BETWEEN = ((0, BEGIN), (1, BEGIN), (0, LOCK), (1, LOCK), (1, END), (0, LOCK), (0, END))


def explored(
    marks: tuple[tuple[int, int], ...], executions: int, bug: str = "P01", policy: str = "recorded", knobs: dict | None = None
) -> dict:
    lab = Lab("linux-6.18", parse_geometry(DEFAULT_GEOMETRY), (bug,), dict(KNOBS) if knobs is None else knobs, 1)
    lab.load(parse(RACE))
    order = bytes(fibre << 2 | kind for fibre, kind in marks)
    return lab.explorer.explore(
        policy=policy, order=order, executions=executions, max_steps=MAX_STEPS, stop_on_failure=False)


def failures(result: dict) -> int:
    return sum(n for outcome, n in result["outcomes"].items() if outcome != "pass")


def test_operations_that_did_not_overlap_do_not_overlap():
    # Without rare paths nobody gives way.
    assert failures(explored(APART, 500, "M07-table", knobs={"reuse": "lifo"})) == 0
    assert failures(explored(TOGETHER, 500, "M07-table", knobs={"reuse": "lifo"})) > 0


def test_locks_in_the_order_that_breaks_find_the_bug_more_often_than_chance():
    # Half of the executions heed locks.
    assert failures(explored(BETWEEN, 1000)) > failures(explored(TOGETHER, 1000)) > 0
    assert failures(explored(BETWEEN, 1000)) > failures(explored((), 1000, policy="random"))


def test_an_order_that_cannot_be_kept_is_given_up_and_nothing_hangs():
    impossible = ((1, LOCK), (1, LOCK), (1, END), (0, LOCK), (0, END), (1, BEGIN), (0, BEGIN))
    for marks in (impossible, ((5, BEGIN), (7, END), *APART), APART * 200):
        result = explored(marks, 50)
        assert result["executions"] == 50 and result["outcomes"]["livelock"] == result["outcomes"]["deadlock"] == 0


def history(*operations: tuple[int, Verb, int, int, int]) -> Recorded:
    """Of (worker, verb, page, begin, end), each of one page."""
    rings = []
    for worker in (0, 1):
        mine = [o for o in operations if o[0] == worker]
        ring = np.zeros(len(mine), EVENT_DTYPE)
        for line, (n, (_, verb, page, begin, end)) in zip(ring, enumerate(mine), strict=True):
            line["verb"], line["start"], line["end"], line["t0"], line["t1"], line["seq"] = verb, page, page + 1, begin, end, n
        rings.append(ring)
    return Recorded(History(tuple(rings), geometry=(9, 9, 9, 9)))


def test_marks_come_in_the_order_of_stamps_and_locks_without_others_between_are_one():
    recorded = history((0, Verb.DONTNEED, 3, 10, 50), (1, Verb.WRITE, 3, 20, 30))
    locks = by_operation([Acquisition(0, 0, 12), Acquisition(0, 0, 13), Acquisition(1, 0, 25), Acquisition(0, 0, 40),
                          Acquisition(0, 7, 41), Acquisition(1, 3, 42)])
    order = order_of(recorded, Window(((0,), (1,)), 3), locks)
    marks = [(mark >> 2, mark & 3) for mark in order]
    assert marks == [(0, BEGIN), (0, LOCK), (1, BEGIN), (1, LOCK), (1, END), (0, LOCK), (0, END)]
