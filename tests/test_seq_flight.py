"""Flight recorders: what is noted of locks, rechecks and tables, and that the first report freezes them."""

import msgspec
import pytest

from ptstress.flight import Flight, flight_files, read_flight
from ptstress.layout import LockClass
from ptstress.operation import dontneed, mmap, op_array, write
from ptstress.trial import SmallMachine

BITS = (2, 1, 1, 1)


def machine_after(*ops, build: str = "stress", bugs: tuple[str, ...] = ()) -> SmallMachine:
    small = SmallMachine(build, "linux-6.18", BITS, knobs={}, bugs=bugs)
    small.machine.serial(op_array(ops))
    return small


def test_an_operation_leaves_its_locks_its_rechecks_and_the_tables_that_went():
    small = machine_after(mmap(0, 4), write(1), write(2), dontneed(0, 4))
    entries = read_flight(small.view).entries
    assert [e.stamp for e in entries] == sorted(e.stamp for e in entries)
    by_seq = {seq: [e for e in entries if e.seq == seq] for seq in {e.seq for e in entries}}
    first, fault, again, zap = (by_seq[seq] for seq in sorted(by_seq, key=lambda seq: by_seq[seq][0].stamp))
    assert (first[0].kind, first[0].detail) == ("lock", LockClass.MMAP)
    ptl = [e for e in fault if e.kind == "lock" and e.detail == LockClass.PTL]
    assert len(ptl) == 1 and ptl[0].nth == 1
    # The second fault got the lock of the same table, next.
    assert [(e.what, e.nth) for e in again if e.detail == LockClass.PTL and e.kind == "lock"] == [(ptl[0].what, 2)]
    assert any(e.kind == "recheck" and e.detail == 1 for e in again)
    (gone,) = [e for e in zap if e.kind == "unlink"]
    assert gone.what == ptl[0].what and gone.detail == 0 and gone.value & 0xffffffff


def test_the_first_report_freezes_all_rings():
    small = machine_after(mmap(0, 4), write(1), dontneed(0, 4))
    before = read_flight(small.view).entries
    small.view.header["nr_reports"][0] = 1
    small.machine.serial(op_array([write(2)]))
    assert read_flight(small.view).entries == before


@pytest.mark.parametrize("build", ["fast", "sched"])
def test_other_builds_note_nothing(build):
    small = machine_after(mmap(0, 4), write(1), build=build)
    assert read_flight(small.view).entries == [] and flight_files(small.view) == {}


def test_a_folder_gets_all_notes_and_the_last_ones_as_text():
    small = machine_after(mmap(0, 4), write(1), dontneed(0, 4))
    files = flight_files(small.view)
    assert msgspec.json.decode(files["flight.json"], type=Flight) == read_flight(small.view)
    text = files["flight.txt"].decode()
    assert "worker 0  write(p1)" in text and "lock ptl 1, its 1." in text and "unlink pte_table" in text
