"""Recorded traces: what they become, and that every order which the waits allow is a legal one."""

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptstress.errors import UsageError
from ptstress.trace import load_trace
from ptstress.vocabulary import Verb

TRACES = Path(__file__).parent.parent / "workloads" / "traces"
PAGE = 4096

#: trace: events, threads, DONTNEED calls, those that cover a whole table, tables touched, by several threads
SHIPPED = {
    "jemalloc-16m": (54103, 5, 1117, 605, 447, 292),
    "jemalloc-256k": (26065, 4, 7819, 3, 255, 15),
    "node-v8": (56762, 7, 157, 5, 751, 81),
    "redis-jemalloc": (17520, 2, 438, 0, 46, 1),
    "gcc-cc1": (45839, 1, 0, 0, 105, 0),
}


@pytest.fixture
def write_trace(tmp_path):
    """Writes lines as a trace file and returns its path."""

    def write(*lines: str) -> Path:
        path = tmp_path / "trace.gz"
        path.write_bytes(gzip.compress(("# t_us tid op addr len arg\n" + "\n".join(lines) + "\n").encode()))
        return path

    return write


def steps(ops) -> list[tuple]:
    """(worker, verb, start, end) of each operation; a sync is (worker, verb, worker waited for, count)."""
    return [(int(o["worker"]), Verb(int(o["verb"])).label, int(o["start"]), int(o["end"])) for o in ops]


def assert_all_accesses_find_a_mapping(streams, choose) -> None:
    """Execute the streams in an order that `choose` picks among the workers that may go on."""
    everything = np.concatenate(streams)
    pages = np.unique(everything["start"][np.isin(everything["verb"], (Verb.READ, Verb.WRITE))])
    mapped, writable = np.zeros(len(pages), dtype=bool), np.zeros(len(pages), dtype=bool)
    operations = []
    for stream in streams:
        low, high = np.searchsorted(pages, stream["start"]), np.searchsorted(pages, stream["end"])
        operations.append(list(zip(*(column.tolist() for column in (
            stream["verb"], stream["start"], stream["end"], stream["arg"], low, high)), strict=True)))
    at, done = [0] * len(streams), [0] * len(streams)
    while True:
        ready = []
        for worker, todo in enumerate(operations):
            while (at[worker] < len(todo) and todo[at[worker]][0] == Verb.SYNC
                   and done[todo[at[worker]][1]] >= todo[at[worker]][2]):
                at[worker] += 1
            if at[worker] < len(todo) and todo[at[worker]][0] != Verb.SYNC:
                ready.append(worker)
        if not ready:
            break
        worker, burst = choose(ready)
        for verb, _, _, arg, low, high in operations[worker][at[worker]:at[worker] + burst]:
            if verb == Verb.SYNC:
                break
            at[worker] += 1
            done[worker] += 1
            if verb in (Verb.MMAP, Verb.MUNMAP):
                mapped[low:high] = verb == Verb.MMAP
            if verb in (Verb.MMAP, Verb.MPROTECT):
                assert mapped[low:high].all(), f"worker {worker}, operation {done[worker]}: not all is mapped"
                writable[low:high] = arg
            elif verb in (Verb.READ, Verb.WRITE):
                allowed = mapped[low] and (verb == Verb.READ or writable[low])
                assert allowed, f"worker {worker}, operation {done[worker]}: page {pages[low]} does not allow it"
    assert at == [len(todo) for todo in operations], "blocked for ever"


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_trace_is_read_as_its_readme_says(name):
    events, threads, discards, whole, tables, shared = SHIPPED[name]
    trace = load_trace(TRACES / f"{name}.gz")
    assert (trace.events, len(trace.tids), trace.added) == (events, threads, 0)
    dontneed = trace.ops[trace.ops["verb"] == Verb.DONTNEED]
    covers = (dontneed["start"] + 511) // 512 < dontneed["end"] // 512
    assert (len(dontneed), int(covers.sum())) == (discards, whole)
    faults = trace.ops[np.isin(trace.ops["verb"], (Verb.READ, Verb.WRITE))]
    toucher = {(int(page) >> 9, int(thread)) for page, thread in zip(faults["start"], faults["worker"], strict=True)}
    touched = [table for table, _ in toucher]
    assert len(set(touched)) == tables
    assert len({table for table in touched if touched.count(table) > 1}) == shared


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("workers", [2, 8])
def test_shipped_trace_is_legal_in_every_order(name, workers):
    streams = load_trace(TRACES / f"{name}.gz").streams(workers)
    assert len(streams) == workers
    for seed in range(3):
        draw = random.Random(seed)
        favourite = draw.randrange(workers)  # runs ahead of the others as far as the waits let it
        assert_all_accesses_find_a_mapping(
            streams, lambda ready: (favourite if favourite in ready else draw.choice(ready), draw.choice((1, 50, 2000)))
        )


@st.composite
def trace_lines(draw):
    """Lines of up to four threads in 24 pages that lie across two 2 MiB blocks."""
    lines, time = ["0 1 fault 1f4000 0 0"], 0
    page = st.integers(500, 523)
    for _ in range(draw(st.integers(0, 40))):
        tid, start, length = draw(st.integers(1, 4)), draw(page), draw(st.integers(1, 8)) * PAGE
        op = draw(st.sampled_from(("fault", "fault", "fault", "mmap_anon", "munmap", "mprotect", "madvise", "mremap", "brk")))
        if op == "fault":
            lines.append(f"{time} {tid} fault {start * PAGE + 17:x} 0 0")
        elif op == "madvise":
            lines.append(f"{time} {tid} madvise {start * PAGE:x} {length:x} {draw(st.sampled_from((4, 8))):x}")
        elif op == "mremap":
            target = draw(page) * PAGE
            lines.append(f"{time} {tid} mremap {start * PAGE:x} {length:x} {target:x}")
            lines.append(f"{time} {tid} mremap_to {target:x} {draw(st.integers(1, 8)) * PAGE:x} 0")
        else:
            prot = draw(st.sampled_from((0, 1, 3))) if op in ("mmap_anon", "mprotect") else 0
            lines.append(f"{time} {tid} {op} {start * PAGE:x} {length if op != 'brk' else 0:x} {prot:x}")
        time += draw(st.integers(0, 2))
    return lines


@given(lines=trace_lines(), workers=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_every_order_that_respects_the_waits_is_legal(tmp_path_factory, lines, workers, seed):
    path = tmp_path_factory.mktemp("trace") / "t.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    trace = load_trace(path)
    streams = trace.streams(workers)
    serial = trace.serial(workers)
    for worker, stream in enumerate(streams):
        assert (stream["worker"] == worker).all()
        assert steps(stream[stream["verb"] != Verb.SYNC]) == steps(serial[serial["worker"] == worker])
    draw = random.Random(seed)
    for _ in range(5):
        assert_all_accesses_find_a_mapping(streams, lambda ready: (draw.choice(ready), 1))


def test_unmap_waits_for_earlier_writes_and_a_write_for_its_mapping(write_trace):
    # page       16 17 18 19        thread 1 maps and unmaps, thread 2 writes in between
    trace = load_trace(write_trace(
        "0 1 mmap_anon 10000 4000 3",
        "1 2 fault 11000 0 0",
        "2 2 fault 12000 0 0",
        "3 1 munmap 10000 4000 0",
    ))
    assert [steps(s) for s in trace.streams(2)] == [
        [(0, "mmap", 16, 20), (0, "sync", 1, 2), (0, "munmap", 16, 20)],
        [(1, "sync", 0, 1), (1, "write", 17, 18), (1, "write", 18, 19)],
    ]
    assert [steps(s) for s in trace.streams(2, first=3)][1][0] == (4, "sync", 3, 1)
    assert steps(trace.streams(1)[0]) == steps(trace.serial())
    assert [len(s) for s in trace.streams(4)] == [3, 3, 0, 0]


def test_pages_of_image_and_stack_are_mapped_first(write_trace):
    # 0x400000 and 0x5ff000 share a 2 MiB block, 0x600000 is in the next one, 0xa00000 is not.
    trace = load_trace(write_trace(
        "0 7 fault 400123 0 0", "1 7 fault 5ff000 0 0", "2 7 fault 600000 0 0", "3 7 fault a00000 0 0"
    ))
    assert steps(trace.ops)[:2] == [(0, "mmap", 0x400, 0x601), (0, "mmap", 0xA00, 0xA01)]
    assert trace.added == 0


def test_fault_after_an_unmap_gets_a_mapping_that_is_counted(write_trace):
    trace = load_trace(write_trace("0 1 mmap_anon 10000 1000 3", "1 1 munmap 10000 1000 0", "2 1 fault 10000 0 0"))
    assert steps(trace.ops)[2:] == [(0, "mmap", 16, 17), (0, "write", 16, 17)]
    assert trace.added == 1


def test_break_grows_and_shrinks(write_trace):
    trace = load_trace(write_trace("0 1 brk 10000 0 0", "1 1 brk 12000 0 0", "2 1 brk 11800 0 0", "3 1 brk 11000 0 0"))
    assert steps(trace.ops) == [(0, "mmap", 16, 18), (0, "munmap", 17, 18)]
    assert trace.ignored == {"brk that moves nothing": 2}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("10000 3000 0", [(0, "mmap", 18, 19)]),
        ("10000 1000 0", [(0, "munmap", 17, 18)]),
        ("20000 3000 0", [(0, "munmap", 16, 18), (0, "mmap", 32, 35)]),
    ],
)
def test_mremap_leaves_its_new_range_mapped(write_trace, target, expected):
    trace = load_trace(write_trace(
        "0 1 mmap_anon 10000 2000 3", f"1 1 mremap 10000 2000 {target.split()[0]}", f"2 1 mremap_to {target}"
    ))
    assert steps(trace.ops)[1:] == expected


def test_what_is_not_replayed_is_counted(write_trace):
    trace = load_trace(write_trace(
        "0 1 mmap_anon 10000 2000 0", "1 1 mprotect 20000 1000 3", "2 1 madvise 10000 1000 e", "3 1 mremap 10000 2000 0"
    ))
    assert trace.ignored == {"mprotect of what was mapped before": 1, "madvise 14": 1, "mremap": 1}


def test_mprotect_is_replayed_where_it_finds_mappings(write_trace):
    # page  16 17 18 19 20    mapped without access; 16..18 get it; 19 was never mapped, 20 was
    trace = load_trace(write_trace(
        "0 1 mmap_anon 10000 3000 0", "1 1 mmap_anon 14000 1000 3", "2 1 mprotect 10000 2000 3", "3 1 fault 11000 0 0",
        "4 1 fault 12000 0 0", "5 1 mprotect 10000 5000 1", "6 1 fault 10000 0 0",
    ))
    assert steps(trace.ops) == [
        (0, "mmap", 16, 19), (0, "mmap", 20, 21), (0, "mprotect", 16, 18), (0, "write", 17, 18), (0, "read", 18, 19),
        (0, "mprotect", 16, 19), (0, "mprotect", 20, 21), (0, "read", 16, 17),
    ]
    assert trace.ops["arg"].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert trace.ignored == {}


def test_populate_is_replayed_where_it_finds_mappings(write_trace):
    trace = load_trace(write_trace(
        "0 1 mmap_anon 10000 2000 3", "1 1 mmap_anon 12000 1000 1", "2 1 madvise 10000 4000 16", "3 1 madvise 10000 4000 17",
        "4 1 madvise 50000 1000 16",
    ))
    assert steps(trace.ops)[2:] == [(0, "populate", 16, 18), (0, "populate", 18, 19)] * 2
    assert trace.ops["arg"].tolist()[2:] == [0, 0, 1, 0]
    assert trace.ignored == {"populate of what was mapped before": 1}
    assert trace.footprint((9, 9, 9, 9))["frames"] == 3


def test_busiest_of_several_processes_is_kept(write_trace):
    trace = load_trace(write_trace(
        "0 1 fault 10000 0 0", "1 1 brk 20000 0 0",
        "2 2 fault 10000 0 0", "3 2 brk 30000 0 0", "4 3 fault 50000 0 0", "5 3 mmap_anon 60000 1000 3",
    ))
    assert trace.tids == (2, 3)
    assert trace.ignored == {"other processes": 2, "brk that moves nothing": 1}


def test_busiest_threads_come_first_and_the_others_join(write_trace):
    trace = load_trace(write_trace(*(f"{i} {tid} fault {tid}0000 0 0" for i, tid in enumerate((1, 2, 2, 2, 3, 3)))))
    # Thread 2 has three writes. Thread 1 has one and the mapping made first, thread 3 has two: they share.
    assert [len(s[s["verb"] != Verb.SYNC]) for s in trace.streams(2)] == [3, 4]


def test_footprint_and_busiest_span(write_trace):
    trace = load_trace(write_trace(
        "0 1 fault 1000 0 0", "1 1 mmap_anon 100000000 4000 3", "2 1 fault 100000000 0 0", "3 1 fault 100003000 0 0"
    ))
    assert trace.footprint((9, 9, 9, 9)) == {"frames": 3, "tables": 1 + 1 + 2 + 2, "vmas": 2}
    assert trace.busiest_span() == (0x100000, 0x100004)


def test_tables_of_a_verb_are_those_that_the_trace_uses(write_trace):
    trace = load_trace(write_trace(
        "0 1 mmap_anon 200000 600000 3", "1 1 fault 200000 0 0", "2 1 fault 7ff000 0 0", "3 1 munmap 400000 400000 0",
        "4 1 fault 900000 0 0",
    ))
    # The munmap covers the tables at pages 0x400 and 0x600; only the latter has an access.
    assert trace.tables_of(Verb.MUNMAP, 9) == [(0x600, 0x800)]
    assert trace.tables_of(Verb.WRITE, 9) == [(0x200, 0x400), (0x600, 0x800), (0x800, 0xA00)]
    assert trace.tables_of(Verb.FREE, 9) == []


def packed(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0)


BAD = {
    "not gzip": (b"0 1 fault 1000 0 0\n", r":1: not a gzip file: expected gzipped lines of t_us tid op"),
    "cut": (packed(b"0 1 fault 1000 0 0\n" * 99)[:-12], r":\d+: the file ends here, in the middle: expected a whole"),
    "checksum": (packed(b"0 1 fault 1000 0 0\n")[:-8] + b"12345678", r":2: damaged \(.*\): expected gzipped lines"),
    "order": (packed(b"5 1 fault 0 0 0\n4 1 fault 0 0 0\n"), r":2: time 4 comes after 5: expected lines in the order"),
    "fields": (packed(b"# c\n0 1 fault 1000 0\n"), r":2: '0 1 fault 1000 0': expected t_us tid op addr len arg"),
    "number": (packed(b"0 1 fault zz 0 0\n"), r":1: '0 1 fault zz 0 0': expected t_us tid op"),
    "operation": (packed(b"0 1 clone 1000 0 0\n"), r":1: operation 'clone': expected one of fault, mmap_anon,"),
    "negative": (packed(b"0 1 fault -1000 0 0\n"), r":1: a negative number: expected t_us"),
    "address": (packed(b"0 1 munmap fffffffffffff000 1000 0\n"), r":1: ends at 0x1\w+: expected addresses below 0x2"),
    "binary": (packed(b"0 1 fault \xff\xfe 0 0\n"), r":1: damaged"),
    "no events": (packed(b"# only a comment\n"), r":2: no events: expected lines of t_us"),
    "no operations": (packed(b"0 2 madvise 1f4000 2000 15\n"), r"bad.gz: nothing to replay \({'madvise 21': 1}\): expected"),
    "empty": (b"", r":1: no events: expected lines of"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_with_file_line_and_expectation(tmp_path, name):
    content, complaint = BAD[name]
    path = tmp_path / "bad.gz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=complaint) as caught:
        load_trace(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_missing_trace_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none.gz: cannot be read: No such file"):
        load_trace(tmp_path / "none.gz")
