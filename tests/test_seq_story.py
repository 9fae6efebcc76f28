"""The story of an execution: what is told, in which column, in which order."""

import numpy as np

from ptstress.story import Operation, operations_of, tell
from ptstress.vocabulary import EVENT_DTYPE, Verb

NAMES = {0: "ptl of pte_table 2", 8: "pte_table 2[1]", 16: "pmd_table 1[0]", 24: "pgtables_bytes", 32: ""}
FRAME_5 = 5 << 12 | 0x67
TABLE_2 = 2 << 12 | 0x27


def step(
    time: int, fibre: int, kind: str, func: str, offset: int | None, before: int = 0, file: str = "cy/core/zap.pxd"
) -> dict:
    keys = ("time", "fibre", "kind", "func", "offset", "before", "file")
    return dict(zip(keys, (time, fibre, kind, func, offset, before, file), strict=True))


def story(trace: list[dict], operations: list[list[Operation]]) -> list[str]:
    return tell(trace, operations, NAMES.__getitem__, "census: a table is not empty")


def test_two_columns_tell_what_each_cpu_did_in_order():
    trace = [
        step(2, 0, "rmw", "spin_lock", 0, 0, "cy/sync/spinlock.pxd"),
        step(3, 0, "rmw", "zap_entries", 8, FRAME_5),
        step(4, 0, "store", "spin_unlock", 0, 1, "cy/sync/spinlock.pxd"),
        step(12, 1, "rmw", "set_pte", 8, 0),
        step(21, 0, "rmw", "detach", 16, TABLE_2),
        step(22, 0, "load", "detach", 16, 0),
        step(23, 0, "load", "detach", 8, FRAME_5),
    ]
    operations = [[Operation("dontneed(p0..p2) = 0", 1, None)], [Operation("write(p1) = 0", 11, 15)]]
    width = 60
    assert story(trace, operations) == [
        "CPU0".ljust(width) + "CPU1",
        "dontneed(p0..p2)",
        "    spin_lock ptl of pte_table 2",
        "  zap_entries:",
        "    pte_table 2[1]: frame 5 wad -> none",
        "    spin_unlock ptl of pte_table 2",
        " " * width + "write(p1) = 0",
        "  detach:",
        "    pmd_table 1[0]: table 2 -> none",
        "  dontneed(p0..p2) not done",
        "=> census: a table is not empty",
    ]


def test_loads_and_words_that_kept_their_value_are_left_out():
    trace = [
        step(2, 0, "load", "f", 8, 7),
        step(3, 0, "store", "f", 24, 4096),
        step(4, 1, "load", "g", 24, 4096),
        step(5, 0, "store", "f", 32, 1),
    ]
    lines = story(trace, [[Operation("write(p1)", 1, None)], []])
    assert lines[1:] == ["write(p1)", "  write(p1) not done", "=> census: a table is not empty"]


def test_a_wait_says_for_what():
    trace = [step(2, 0, "wait", "spin_lock_slow", 0, 1, "cy/sync/spinlock.pxd"), step(3, 1, "load", "g", 0, 1)]
    lines = story(trace, [[Operation("read(p0)", 1, None)], [Operation("read(p1)", 1, None)]])
    assert "    waits for ptl of pte_table 2" in lines


def test_a_long_story_keeps_its_end():
    trace = [step(i, i % 2, "store", f"f{i}", 24, i) for i in range(200)]
    lines = story(trace, [[Operation("read(p0)", 0, None)], [Operation("read(p1)", 0, None)]])
    assert lines[1].startswith("... ") and len(lines) < 60
    assert "f199:" in "\n".join(lines[-6:])


def test_three_cpus_have_three_columns():
    trace = [step(2, 2, "rmw", "f", 8, FRAME_5)]
    lines = story(trace, [[], [], [Operation("write(p1) = 0", 1, 3)]])
    assert lines[0].split() == ["CPU0", "CPU1", "CPU2"]
    assert lines[1].index("write") == lines[0].index("CPU2")


def test_operations_come_from_events():
    lines = np.zeros(3, EVENT_DTYPE)
    lines["verb"], lines["start"], lines["end"] = (Verb.WALK, 99, Verb.WRITE), (0, 0, 3), (8, 0, 4)
    lines["lines"], lines["t0"], lines["t1"] = (1, 0, 0), (1, 5, 9), (4, 5, 0)
    assert operations_of(lines) == [Operation("walk(p0..p8) = 0", 1, 4), Operation("write(p3)", 9, None)]
