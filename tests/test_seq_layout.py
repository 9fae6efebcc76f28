"""The region that parent and child share: its numbers are those of the header file, and it is read back right."""

import re
from pathlib import Path

import numpy as np
import pytest

from ptstress.layout import (
    FLIGHT_DTYPE, FLIGHT_KINDS, HEADER_DTYPE, MAX_FLIGHT, MAX_LEVELS, MAX_REPORTS, WORKER_DTYPE, Counter, Phase, SharedView,
    describe_event,
    operation_lines, present_pages, shared_bytes,
)
from ptstress.vocabulary import EVENT_DTYPE, REPORT_DTYPE, Oracle, Verb

SHM = (Path(__file__).parent.parent / "cy" / "base" / "shm.pxd").read_text()
BYTES = {"uint64_t": 8, "uint32_t": 4, "int32_t": 4, "uint16_t": 2, "char": 1}


def struct_fields(name: str) -> list[tuple[str, int]]:
    """Names and sizes of the fields of a struct in the header file."""
    body = re.search(rf"cdef struct {name}:\n((?:    .*\n)+)", SHM)[1]
    sizes = {**BYTES, "report": REPORT_DTYPE.itemsize, "flight_entry": FLIGHT_DTYPE.itemsize}
    fields = re.findall(r"^    (\w+) (\w+)(?:\[(\d+)\])?", body, re.M)
    return [(field, sizes[kind] * int(count or 1)) for kind, field, count in fields]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("event", EVENT_DTYPE), ("report", REPORT_DTYPE), ("flight_entry", FLIGHT_DTYPE), ("shm_worker", WORKER_DTYPE),
     ("shm_header", HEADER_DTYPE)],
)
def test_structs_are_those_of_the_header_file(name, dtype):
    offset = 0
    for (field, size), known in zip(struct_fields(name), dtype.names, strict=True):
        assert (field, offset, size) == (known, dtype.fields[known][1], dtype.fields[known][0].itemsize)
        offset += size
    assert offset == dtype.itemsize


def test_counters_are_those_of_the_header_file():
    numbers = {name: int(n) for name, n in re.findall(r"^    C_(\w+) = (\d+)", SHM, re.M)}
    assert numbers == {counter.name: counter.value for counter in Counter}


def test_notes_of_flight_recorders_are_those_of_the_header_file():
    kinds = {int(n): name.lower() for name, n in re.findall(r"^    FLIGHT_(\w+) = (\d+)", SHM, re.M)}
    assert dict(enumerate(FLIGHT_KINDS[1:], start=1)) == kinds
    assert f"MAX_FLIGHT = {MAX_FLIGHT}" in SHM and not MAX_FLIGHT & (MAX_FLIGHT - 1)


def test_a_flight_recorder_keeps_its_last_notes_in_order():
    view = make_view()
    assert len(view.flight(0)) == 0
    for n in range(MAX_FLIGHT + 3):
        view.blocks["flight"][1][n % MAX_FLIGHT]["stamp"] = n
        view.blocks["nr_flight"][1] = n + 1
        assert list(view.flight(1)["stamp"]) == list(range(max(0, n + 1 - MAX_FLIGHT), n + 1))


def test_limits_are_those_of_the_header_file():
    assert f"MAX_REPORTS = {MAX_REPORTS}\n" in SHM
    assert Counter.TABLES_ALLOCATED + MAX_LEVELS == Counter.TABLES_FREED
    assert Counter.TABLES_FREED + MAX_LEVELS == Counter.TABLES_RECLAIMED


def make_view(workers: int = 2, ring_events: int = 16) -> SharedView:
    return SharedView(bytearray(shared_bytes(workers, ring_events)), workers, ring_events)


def record(view: SharedView, worker: int, at: int, verb: Verb, start: int, end: int, seq: int, **fields: int) -> None:
    line = view.rings[worker][at]
    line["verb"], line["start"], line["end"], line["seq"] = verb, start, end, seq
    line["t0"], line["t1"] = 10 * seq + 1, 10 * seq + 5
    for name, value in fields.items():
        line[name] = value


def test_an_empty_region_reads_as_nothing():
    view = make_view()
    assert view.phase is Phase.IDLE and view.reports() == [] and view.ops_by_verb() == {}
    assert view.last_operations(0, 8) == []


def test_operations_are_counted_by_name_and_waits_are_none():
    view = make_view()
    view.counters[0, Counter.OPS + Verb.READ] = 3
    view.counters[1, Counter.OPS + Verb.READ] = 4
    view.counters[1, Counter.OPS + Verb.SYNC] = 9
    assert view.ops_by_verb() == {"read": 7}


def test_sums_add_up_and_maxima_do_not():
    view = make_view()
    view.counters[:, Counter.GRACE_PERIODS] = (2, 3)
    view.counters[:, Counter.RCU_GP_MAX_NS] = (2, 3)
    assert view.total(Counter.GRACE_PERIODS) == 5
    assert view.total(Counter.RCU_GP_MAX_NS) == 3


def test_what_is_called_a_maximum_is_one():
    view = make_view()
    for counter in (c for c in Counter if "MAX" in c.name):
        view.counters[:, counter] = (4, 3)
        assert view.total(counter) == 4, counter


def test_progress_changes_with_the_operations_of_any_worker():
    view = make_view()
    before = view.progress()
    view.counters[1, Counter.OPS + Verb.WALK] += np.uint64(1)
    assert view.progress() != before


def test_reports_are_decoded():
    view = make_view()
    view.header["nr_reports"] = 40
    view.header["reports"][0][0]["oracle"] = Oracle.STALE_TLB
    view.header["reports"][0][0]["verb"] = Verb.DONTNEED
    view.header["reports"][0][0]["what"] = b"cpu 1 still maps page 3"
    (report,) = view.reports()
    assert (report["oracle"], report["verb"], report["what"]) == ("stale-tlb", "dontneed", "cpu 1 still maps page 3")


def test_last_operations_are_the_recorded_ones_and_the_one_in_flight():
    view = make_view()
    record(view, 0, 0, Verb.WRITE, 3, 4, seq=0, value=0x2A)
    record(view, 0, 1, Verb.READ, 4, 5, seq=1, status=-14)
    record(view, 0, 2, Verb.DONTNEED, 0, 8, seq=2, t1=0)
    view.blocks["nr_events"][0] = 2
    assert view.last_operations(0, 2) == ["read(p4) = -14  value 0x0  4 ticks", "dontneed(p0..p8)  in flight"]
    assert view.last_operations(0, 8)[0] == "write(p3) = 0  value 0x2a  4 ticks"


def test_bits_behind_a_walk_are_not_taken_for_operations():
    view = make_view()
    record(view, 0, 0, Verb.WALK, 8, 8 + 600, seq=0, lines=2, aux=3)
    bits = np.zeros(128, np.uint8)
    bits[0], bits[74] = 0b101, 0b10
    view.rings[0][1:3] = np.frombuffer(bits.tobytes(), EVENT_DTYPE)
    record(view, 0, 3, Verb.READ, 1, 2, seq=1)
    view.blocks["nr_events"][0] = 4
    lines = view.recorded(0)
    assert operation_lines(lines) == [0, 3]
    assert present_pages(lines, 0).tolist() == [8, 10, 8 + 593]
    assert describe_event(lines[0]) == "walk(p8..p608) = 0  present 3  4 ticks"


def test_after_a_check_the_lines_that_it_saw_are_still_there_and_older_ones_are_not():
    view = make_view()
    record(view, 0, 0, Verb.WALK, 0, 4, seq=0xFFFFFFFF, lines=1)
    view.rings[0][1]["verb"] = 7
    record(view, 0, 2, Verb.READ, 4, 5, seq=0)
    record(view, 0, 3, Verb.WRITE, 4, 5, seq=0xFFFFFFF0)
    view.blocks["nr_events"][0] = 0
    assert len(view.recorded(0)) == 3
    assert [len(ring) for ring in view.history().values()] == [3, 0]
