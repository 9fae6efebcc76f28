"""Tables that are unlinked and not free yet: what the engine knows of them, and what it says if one is never freed."""

import pytest

from ptstress.engine import load_engine
from ptstress.layout import MAX_LEVELS, Counter, SharedView, shared_bytes
from ptstress.operation import dontneed, mmap, munmap, op_array, write
from ptstress.schemes import find_scheme
from schemes_under_test import NAMES

RING_EVENTS = 256
#: Counters of the debt, in order.
DEBT = slice(Counter.TABLES_UNLINKED, Counter.DEBT_AGE_SUM + 1)


def make(build: str, scheme: str, **knobs):
    """A machine of one worker with tables of four pages, and the view of what it counts."""
    memory = bytearray(shared_bytes(1, RING_EVENTS))
    config = {**find_scheme(scheme).config(), "geometry": (2, 1, 1), "ring_events": RING_EVENTS, "tables": 64, "frames": 64,
              "vmas": 16, "knobs": knobs}
    return load_engine(build).Machine(config, memory), SharedView(memory, 1, RING_EVENTS)


@pytest.mark.parametrize("scheme", NAMES)
def test_each_table_that_is_unlinked_is_free_again_when_all_rest(scheme):
    machine, view = make("stress", scheme)
    # 0123|4567   two pte_tables below one pmd_table; all go with the mapping, or earlier
    machine.serial(op_array([mmap(0, 8), write(1), write(5), dontneed(0, 4), write(2), munmap(0, 8)]))
    assert machine.check() == 0, machine.reports()
    freed = sum(view.row(Counter.TABLES_FREED, MAX_LEVELS))
    assert view.total(Counter.TABLES_UNLINKED) == freed >= 3
    assert freed >= view.total(Counter.DEBT_MAX) >= 1
    assert view.field("tables_unlinked") == 0
    assert view.total(Counter.DEBT_GP_MAX) <= view.total(Counter.DEBT_AGE_MAX) <= view.total(Counter.DEBT_AGE_SUM)


def test_a_table_that_nobody_frees_is_reported():
    machine, view = make("stress", "linux-6.18")
    machine.serial(op_array([mmap(0, 8), write(1), dontneed(0, 4)]))
    view.header["tables_unlinked"] += 1
    assert machine.check() == 1
    (report,) = view.reports()
    assert (report["oracle"], report["invariant"], report["a"]) == ("census", 55, 1)
    assert report["what"] == "a tables were unlinked and nobody frees them"


def test_an_explored_run_counts_its_debt_in_logical_time():
    ops = op_array([mmap(0, 8), write(1), dontneed(0, 4), write(1), munmap(0, 8)])
    rows = []
    for _ in range(2):
        machine, view = make("sched", "rcu-upper")
        machine.serial(ops)
        rows.append(view.counters[0, DEBT].tolist())
    assert rows[0] == rows[1] and rows[0][0] > 0


@pytest.mark.parametrize("scheme", ["linux-6.18", "linux-6.18@srcu", "linux-6.18@srcu-mm", "linux-6.18@refcount"])
def test_what_may_wait_is_what_the_queues_hold(scheme):
    """Tables go one by one through queues with room for none: who unlinks the next one finds the last one free."""
    machine, view = make("stress", scheme, backlog_max=0)
    machine.serial(op_array([mmap(0, 8), *[op for _ in range(20) for op in (write(1), dontneed(0, 4))]]))
    assert machine.check() == 0, machine.reports()
    assert view.total(Counter.DEBT_MAX) == 1
