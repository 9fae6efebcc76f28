"""The story of an execution: which steps are told, in which column, in which order, and how the failure is called."""

import numpy as np
import pytest

from ptstress.headline import headline, headline_of
from ptstress.layout import report_text
from ptstress.story import MAX_LINES, TOTAL_WIDTH, Operation, operations_of
from ptstress.story_progress import cycles_of
from ptstress.story_steps import read_steps
from ptstress.telling import Told, tell_failure
from ptstress.vocabulary import EVENT_DTYPE, Verb

NAMES = {
    0: "ptl of pte_table 2", 8: "pte_table 2[1]", 16: "pmd_table 1[0]", 24: "pgtables_bytes", 32: "", 40: "pte_table 2[0]",
    48: "pml of pmd_table 1", 56: "vma 0.vm_end", 64: "cpu 1.TLB[1].tag", 72: "cpu 1.TLB[1].val", 80: "pud_table 7[0]",
}
NONE, FRAME_5, TABLE_2 = 0, 5 << 12 | 0x67, 2 << 12 | 0x27
POISON = 0x6B6B6B6B6B6B6B10
WIDTH = TOTAL_WIDTH // 2
EMPTY = {"oracle": "use-after-free", "invariant": 4, "verb": "dontneed", "addr": 0, "a": 2, "b": FRAME_5,
         "what": "table a was detached and holds an entry: b"}


def step(
    time: int, fibre: int, kind: str, func: str, offset: int | None, before: int = 0, after: int | None = None,
    file: str = "cy/core/zap.pxd", line: int | None = None,
) -> dict:
    values = (time, fibre, kind, func, offset, before, before if after is None else after, file, line or 10 + time)
    return dict(zip(("time", "fibre", "kind", "func", "offset", "before", "after", "file", "line"), values, strict=True))


def locked(time: int, fibre: int, offset: int = 0) -> dict:
    return step(time, fibre, "rmw", "spin_lock", offset, 0, fibre + 1, "cy/sync/spinlock.pxd")


def unlocked(time: int, fibre: int, offset: int = 0) -> dict:
    return step(time, fibre, "store", "spin_unlock", offset, fibre + 1, 0, "cy/sync/spinlock.pxd")


def reported(time: int, fibre: int) -> dict:
    return step(time, fibre, "rmw", "pt_report", None, file="cy/base/cpu.pxd")


def told(trace: list[dict], operations: list[list[Operation]], report: dict | None = EMPTY, outcome: str = "violation") -> Told:
    replayed = {"trace": trace, "outcome": outcome, "pending": []}
    return tell_failure(replayed, [report] if report else [], operations, NAMES.__getitem__, 2)


REFILLED = [
    locked(2, 0), step(3, 0, "rmw", "zap_entries", 8, FRAME_5, NONE), unlocked(4, 0),
    step(5, 1, "load", "g", 80, 7), locked(12, 1), step(13, 1, "store", "set_pte", 8, NONE, FRAME_5), unlocked(14, 1),
    locked(20, 0), step(21, 0, "rmw", "detach", 16, TABLE_2, NONE), reported(22, 0),
]
BOTH = [[Operation("dontneed(p0..p2)", 1, None)], [Operation("write(p1)", 11, 15, "0")]]


def right(text: str) -> str:
    return " " * WIDTH + text


def test_two_columns_tell_what_each_cpu_did_in_order():
    assert list(told(REFILLED, BOTH).story) == [
        "CPU0".ljust(WIDTH) + "CPU1",
        "dontneed(p0..p2)",
        "  spin_lock(ptl of pte_table 2)",
        "  zap_entries()  core/zap.pxd:13",
        "    pte_table 2[1]: frame 5 wad -> none",
        "  spin_unlock(ptl of pte_table 2)",
        right("write(p1)"),
        right("  spin_lock(ptl of pte_table 2)"),
        right("  set_pte()  core/zap.pxd:23"),
        right("    pte_table 2[1]: none -> frame 5 wad"),
        right("  spin_unlock(ptl of pte_table 2)"),
        "  spin_lock(ptl of pte_table 2)",
        "  detach()  core/zap.pxd:31",
        "    pmd_table 1[0]: table 2 -> none",
        "  => table 2 was detached and holds an entry: 0x5067",
    ]


def test_the_headline_names_object_and_both_functions_and_has_no_numbers():
    assert told(REFILLED, BOTH).headline == "BUG: use-after-free of pte_table in detach / set_pte"


def test_what_was_expected_is_said_with_the_values_of_the_case():
    assert told(REFILLED, BOTH).expected == (
        "expected (I04): a table is empty when it is detached, and stays so until it is freed",
        "found (use-after-free): table 2 was detached and holds an entry: 0x5067",
    )


def test_a_read_that_was_old_when_it_mattered_is_told():
    trace = [step(3, 0, "load", "check", 8, NONE), step(13, 1, "store", "set_pte", 8, NONE, FRAME_5),
             step(21, 0, "rmw", "detach", 16, TABLE_2, NONE), reported(22, 0)]
    assert "    reads pte_table 2[1]: none" in told(trace, BOTH).story


def test_what_a_cpu_reads_and_then_changes_itself_is_told_once():
    trace = [step(2, 0, "load", "check", 8, FRAME_5), *REFILLED[1:]]
    assert not any("reads" in line for line in told(trace, BOTH).story)


def test_other_tables_and_locks_around_nothing_are_left_out():
    trace = [step(1, 1, "store", "f", 80, 0, TABLE_2 + 0x7000), locked(2, 1, 48), unlocked(3, 1, 48), *REFILLED]
    assert not any("pud_table" in line or "pml" in line for line in told(trace, BOTH).story)


def test_a_store_that_others_did_not_see_yet_says_so():
    report = {**EMPTY, "what": "an upper entry holds a, which is neither none nor a table", "a": POISON, "b": 0}
    trace = [step(2, 0, "plain_store", "clear", 80, POISON, NONE), step(3, 1, "load", "entry_offset", 80, POISON), reported(4, 1)]
    lines = told(trace, [[Operation("write(p0)", 1, None)], [Operation("read(p1)", 1, None)]], report).story
    assert "    pud_table 7[0]: poison -> none (not visible yet)" in lines
    assert right("    reads pud_table 7[0]: poison") in lines


def test_a_translation_is_told_by_page_and_by_what_it_holds():
    report = {**EMPTY, "oracle": "stale-tlb", "what": "frame a is freed while the TLB of cpu b translates to it", "a": 5, "b": 1,
              "addr": 1 << 12}
    trace = [step(2, 1, "store", "tlb_fill", 72, 0, FRAME_5), step(3, 1, "rmw", "tlb_fill", 64, 0, 2),
             step(21, 0, "rmw", "zap_entries", 8, FRAME_5, NONE), reported(22, 0)]
    found = told(trace, BOTH, report)
    assert right("    TLB: p1 -> frame 5 wad") in found.story
    assert found.headline == "BUG: stale translation of frame in zap_entries / tlb_fill"


def test_an_execution_that_failed_at_rest_ends_under_all_columns():
    report = {**EMPTY, "oracle": "counters", "what": "pgtables_bytes is a, the tables make b", "a": 4096, "b": 8192}
    trace = [step(3, 0, "store", "add", 24, 0, 4096), step(12, 1, "store", "add", 24, 4096, 8192)]
    assert told(trace, BOTH, report).story[-1] == "=> at rest: pgtables_bytes is 0x1000, the tables make 0x2000"


def test_a_long_story_keeps_its_end_and_names_older_operations():
    trace, operations = [], []
    for i in range(30):
        trace += [locked(10 * i + 1, 0), step(10 * i + 2, 0, "rmw", "f", 8, FRAME_5 + i, i << 12 | 1), unlocked(10 * i + 3, 0)]
        operations.append(Operation(f"read(p{i})", 10 * i, 10 * i + 5, "0"))
    lines = told([*trace, step(400, 1, "rmw", "last", 8, 1, FRAME_5), reported(401, 1)], [operations, []]).story
    assert len(lines) <= MAX_LINES + 3
    assert lines[1].endswith("...") and not any("spin_lock" in line for line in lines[2:20])
    assert "last()" in "\n".join(lines[-4:])


def test_three_cpus_have_three_columns():
    trace = [step(2, 2, "rmw", "f", 16, TABLE_2, NONE), reported(3, 2)]
    lines = told(trace, [[], [], [Operation("write(p1)", 1, 3, "0")]]).story
    assert lines[0].split() == ["CPU0", "CPU1", "CPU2"]
    assert lines[1].index("write") == lines[0].index("CPU2")


def test_a_deadlock_says_who_holds_what_and_waits_for_what():
    waits = dict(fibre=0, kind="wait", func="wait_turn", file="cy/sync/wait.pxd", line=1)
    trace = [locked(2, 0, 0), step(3, 0, "load", "zap", 8), locked(12, 1, 48), step(13, 1, "load", "unmap", 8)]
    replayed = {"trace": trace, "outcome": "deadlock", "pending": [{**waits, "offset": 48}, {**waits, "fibre": 1, "offset": 0}]}
    found = tell_failure(replayed, [], BOTH, NAMES.__getitem__, 2)
    assert found.what == (
        "deadlock: CPU0 holds ptl of pte_table 2, waits for pml of pmd_table 1, which CPU1 holds; "
        "CPU1 holds pml of pmd_table 1, waits for ptl of pte_table 2, which CPU0 holds"
    )
    assert found.headline == "BUG: deadlock on pml and ptl in dontneed" and found.invariant == 48


def test_a_livelock_shows_what_repeats_once_and_how_often():
    again = [step(100 + i, 1, "load", "walk", offset, line=7) for i in range(30) for offset in (8, 16)]
    found = told([*REFILLED[:-1], *again], BOTH, None, "livelock")
    assert found.what == "livelock: CPU1 repeats 2 steps in walk"
    at = found.story.index(right("  again and again:"))
    assert list(found.story[at + 2 :]) == [
        right("    reads pte_table 2[1]: none"), right("    reads pmd_table 1[0]: none"), right("  and again 29 times")]
    assert found.headline == "BUG: livelock in walk"


def test_steps_that_repeat_less_than_three_times_are_no_cycle():
    trace = [step(i, 0, "load", f"f{i % 4}", 8) for i in range(8)]
    assert cycles_of(read_steps(trace, NAMES.__getitem__)) == []


@pytest.mark.parametrize(
    ("oracle", "what", "a", "b", "line"),
    [
        ("census", "double free of frame a", 2, 0, "BUG: double free of frame in dontneed"),
        ("census", "table a is unlinked twice; its state is b", 2, 2, "BUG: double free of table in dontneed"),
        ("census", "a tables are allocated, b are reachable", 6, 4, "BUG: leak of table in dontneed"),
        ("census", "a tables are allocated, b are reachable", 4, 6, "BUG: inconsistency of table in dontneed"),
        ("census", "a VMAs are allocated, b are in the set", 2, 1, "BUG: leak of VMA in dontneed"),
        ("sleep-in-rcu", "may sleep inside a read section: a of tables, b of hardware", 1, 0,
         "BUG: sleep inside RCU in dontneed"),
        ("sleep-in-rcu", "may sleep while holding a spinlock of class a", 7, 0, "BUG: sleep under a spinlock in dontneed"),
        ("data", "value a was read although b had replaced it", 1, 2, "BUG: wrong data of page in dontneed"),
    ],
)
def test_failures_are_called_by_what_they_are(oracle: str, what: str, a: int, b: int, line: str):
    assert headline_of({**EMPTY, "oracle": oracle, "what": what, "a": a, "b": b}) == line


def test_without_functions_the_headline_is_that_of_the_operation():
    assert headline("use-after-free", EMPTY, "", ["none"]) == "BUG: use-after-free of table"


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a VMA from a to b was locked for an address that it does not cover", "a VMA from 1 to 9 was locked for an address "
         "that it does not cover"),
        ("a tables are allocated, b are reachable", "1 tables are allocated, 9 are reachable"),
        ("table a is freed b grace periods too early", "table 1 is freed 9 grace periods too early"),
        ("verb a met a hole before page b, but all of it was mapped", "read met a hole before page 9, but all of it was mapped"),
        ("may sleep while holding a spinlock of class b", "may sleep while holding a spinlock of class rcu"),
    ],
)
def test_numbers_stand_where_a_text_says_a_and_b(what: str, text: str):
    assert report_text({"what": what, "a": 1, "b": 9}) == text


def test_operations_come_from_events():
    lines = np.zeros(3, EVENT_DTYPE)
    lines["verb"], lines["start"], lines["end"] = (Verb.WALK, 99, Verb.WRITE), (0, 0, 3), (8, 0, 4)
    lines["lines"], lines["t0"], lines["t1"] = (1, 0, 0), (1, 5, 9), (4, 5, 0)
    assert operations_of(lines) == [Operation("walk(p0..p8)", 1, 4, "0, present 0"), Operation("write(p3)", 9, None)]
