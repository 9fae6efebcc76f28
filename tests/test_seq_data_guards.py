"""The data oracle: guards. Each rule with a history that breaks it and a near miss, and what is carried from burst to burst."""

from errno import EFAULT, EINVAL, ENOMEM

import pytest
from page_events import (
    FRESH, age, discard, dontneed, free, guard_install, guard_remove, gup_fast, mmap, mprotect, munmap, populate, read, walk,
    write)
from rules import EMPTY, GUARD, check_bursts, verdict

MAP = mmap(1, 2, 0, 1024)
FAR = 1 << 40
FAULT = {"status": -EFAULT}

#: rule: (invariant, a history that breaks it, its twin that does not)
TWINS = {
    "a read goes past a guard": (
        38, [MAP, guard_install(3, 4, 7), read(5, 6, 7)], [MAP, guard_install(3, 5, 7), read(5, 6, 7)]),
    "a write goes past a guard, on a page among many": (
        38, [MAP, guard_install(3, 4, 0, 600), write(5, 6, 7, 1, 100)],
        [MAP, guard_install(3, 4, 0, 600), write(5, 6, 7, **FAULT)]),
    "a pin goes past a guard": (
        38, [MAP, guard_install(3, 4, 7), gup_fast(5, 6, 7)],
        [MAP, guard_install(3, 4, 7), gup_fast(5, 6, 7), guard_remove(6, 7, 7)]),
    "a populate counts a page with a guard": (
        38, [MAP, guard_install(3, 4, 8), populate(5, 6, 7, 9, 2)],
        [MAP, guard_install(3, 4, 8), populate(5, 6, 7, 9, 1, **FAULT)]),
    "a walk finds a page with a guard": (
        38, [MAP, guard_install(3, 4, 7), read(5, 6, 7, **FAULT), walk(8, 9, 0, 512, [7])],
        [MAP, guard_install(3, 4, 7), read(5, 6, 7, **FAULT), walk(8, 9, 0, 512, [])]),
    "an age finds a page with a guard": (
        38, [MAP, guard_install(3, 4, 7), read(5, 6, 7, **FAULT), age(8, 9, 7, 8, [7])],
        [MAP, guard_install(3, 4, 7), guard_remove(5, 6, 7), read(6, 7, 7), age(8, 9, 7, 8, [7])]),
    "a dontneed drops a guard": (
        38, [MAP, guard_install(3, 4, 0, 512), dontneed(5, 6, 0, 512), read(7, 8, 7)],
        [MAP, guard_install(3, 4, 0, 512), dontneed(5, 6, 0, 512), read(7, 8, 7, **FAULT)]),
    "a free or an mprotect drops a guard": (
        38, [MAP, guard_install(3, 4, 7), free(5, 6, 7), mprotect(7, 8, 0, 512, True), write(9, 10, 7, 1, 100)],
        [MAP, guard_install(3, 4, 7), free(5, 6, 7), mprotect(7, 8, 0, 512, True), write(9, 10, 7, **FAULT)]),
    "a munmap drops it": (
        34, [MAP, guard_install(3, 4, 7), munmap(5, 6, 7, 8), mmap(7, 8, 7, 8), read(9, 10, 7, **FAULT)],
        [MAP, guard_install(3, 4, 7), munmap(5, 6, 7, 8), mmap(7, 8, 7, 8), read(9, 10, 7)]),
    "an mmap drops it": (
        34, [MAP, guard_install(3, 4, 7), mmap(5, 6, 0, 512), read(7, 8, 7, **FAULT)],
        [MAP, guard_install(3, 4, 7), mmap(5, 6, 0, 512), read(7, 8, 7)]),
    "a guard stays although it was removed": (
        34, [MAP, guard_install(3, 4, 0, 512), guard_remove(5, 6, 0, 512), read(7, 8, 7, **FAULT)],
        [MAP, guard_install(3, 4, 0, 512), guard_remove(5, 7, 0, 512), read(7, 8, 7, **FAULT)]),
    "... says a populate": (
        34, [MAP, guard_install(3, 4, 7), guard_remove(5, 6, 7), populate(7, 8, 7, 8, 0, **FAULT)],
        [MAP, guard_install(3, 4, 7), guard_remove(5, 6, 8), populate(7, 8, 7, 8, 0, **FAULT)]),
    "a populate calls read-only pages guarded": (
        34, [mmap(1, 2, 0, 512, writable=False), populate(3, 4, 7, 8, 0, write=True, **FAULT)],
        [mmap(1, 2, 0, 512, writable=False), populate(3, 4, 7, 8, 0, write=True, status=-EINVAL)]),
    "a value survives its guard": (
        32, [MAP, write(3, 4, 7, 1, 100), guard_install(5, 6, 7), guard_remove(7, 8, 7), read(9, 10, 7, 1, 100)],
        [MAP, write(3, 4, 7, 1, 100), guard_install(5, 6, 7), guard_remove(7, 8, 7), read(9, 10, 7)]),
    "a guard_remove ends something": (
        33, [MAP, write(3, 4, 7, 1, 100), guard_remove(5, 6, 7), read(7, 8, 7)],
        [MAP, write(3, 4, 7, 1, 100), guard_remove(5, 6, 7), read(7, 8, 7, 1, 100)]),
    "a guard_install that refused its range did something": (
        34, [MAP, guard_install(3, 4, 7, status=-EINVAL), read(5, 6, 7, **FAULT)],
        [MAP, guard_install(3, 4, 7, status=-ENOMEM), read(5, 6, 7, **FAULT), read(5, 6, 8)]),
    "a failed guard_remove put guards there": (
        34, [MAP, guard_remove(3, 4, 7, 2048, status=-ENOMEM), read(5, 6, 7, **FAULT)],
        [MAP, guard_install(1, 2, 7), guard_remove(3, 4, 7, 2048, status=-ENOMEM), read(5, 6, 7)]),
    "a guard_install of a hole succeeds": (
        34, [munmap(1, 2, 0, 9), guard_install(3, 4, 7, 9)], [mmap(1, 2, 0, 9), guard_install(3, 4, 7, 9)]),
    "... that had been unmapped": (
        34, [MAP, munmap(3, 4, 0, 100), guard_install(5, 6, 0, 600), read(9, 10, 8, **FAULT)],
        [MAP, munmap(3, 5, 0, 100), guard_install(5, 6, 0, 600), read(9, 10, 8, **FAULT)]),
    "a guard_remove of a hole succeeds": (
        34, [munmap(1, 2, 0, 9), guard_remove(3, 4, 7, 9)], [mmap(1, 2, 0, 9), guard_remove(3, 4, 7, 9)]),
    "many frames come and go beside a guard_install": (
        33, [MAP, dontneed(3, 20, 7), *(write(t, t + 1, 7, t, 100 + t) for t in (4, 6, 8))],
        [MAP, guard_install(3, 20, 7), *(write(t, t + 1, 7, t, 100 + t) for t in (4, 6, 8))]),
    "what an open dontneed cleared is used after a guard_install has returned": (
        38, [MAP, write(3, 4, 7, 1, 100), dontneed(5, 12, 7), guard_install(6, 7, 7), read(9, 10, 7, 1, 100)],
        [MAP, write(3, 4, 7, 1, 100), dontneed(5, 12, 7), guard_install(6, 10, 7), read(9, 11, 7, 1, 100)]),
    "... that has found a guard of somebody else's": (
        38, [MAP, write(3, 4, 7, 1, 100), dontneed(5, 14, 7), guard_install(6, 13, 7), guard_install(7, 8, 7),
             read(9, 10, 7, 1, 100)],
        [MAP, write(3, 4, 7, 1, 100), dontneed(5, 14, 7), guard_install(6, 13, 7), guard_install(7, 10, 7),
         read(9, 10, 7, 1, 100)]),
    "what memory pressure took is used after a guard_install has returned": (
        38, [MAP, write(3, 4, 7, 1, 100), free(5, 6, 7), discard(7, 14, 7), guard_install(9, 10, 7), read(11, 12, 7, 1, 100)],
        [MAP, write(3, 4, 7, 1, 100), free(5, 6, 7), discard(7, 14, 7), guard_install(9, 12, 7), read(11, 13, 7, 1, 100)]),
    "a dontneed that came after the guard had nothing to clear": (
        38, [MAP, write(3, 4, 7, 1, 100), guard_install(5, 6, 7), dontneed(7, 12, 7), read(8, 9, 7)],
        [MAP, write(3, 4, 7, 1, 100), guard_install(5, 6, 7), dontneed(7, 12, 7), read(8, 9, 7, **FAULT)]),
}


@pytest.mark.parametrize("rule", TWINS)
def test_broken_rule_is_found_and_near_miss_is_not(rule):
    invariant, bad, good = TWINS[rule]
    assert invariant in verdict(*bad)
    assert verdict(*good) == set()


def test_guards_are_carried():
    """Over pages that nothing touched, and over bursts in which nothing happened."""
    first = ([MAP, mmap(3, 4, 2048, 4096), guard_install(5, 6, 0, 512), guard_remove(7, 8, 100, 200),
              guard_install(9, 10, 3000, 5000, -ENOMEM)], {})
    for ops, invariants in [
        ([read(13, 14, 7, **FAULT), read(13, 14, 150), read(13, 14, 600)], []),
        ([read(13, 14, 7)], [38]),
        ([populate(13, 14, 7, 8, 1)], [38]),
        ([guard_remove(13, 14, 7, status=-ENOMEM)], [34]),
        ([guard_remove(13, 14, 1000, 1025, status=-ENOMEM)], []),
        ([read(13, 14, 150, **FAULT)], [34]),
        ([read(13, 14, 600, **FAULT)], [34]),
        ([dontneed(13, 14, 0, 512), read(15, 16, 7)], [38]),
        ([read(13, 14, 7), guard_remove(14, 15, 7)], []),
        ([read(13, 14, 3500, **FAULT), read(13, 14, 3501)], []),     # how far it came is not known
        ([mprotect(13, 14, 0, 1024, False), read(15, 16, 7)], [38]),
        ([munmap(13, 14, 0, FAR), mmap(15, 16, 0, 512), read(17, 18, 7)], []),
    ]:
        result = check_bursts([first, ([], {}), (ops, None)])
        assert [v["invariant"] for v in result["violations"]] == invariants, ops


def test_order_of_guards_that_nobody_saw_is_left_open():
    both = ([MAP, guard_install(3, 6, 7), guard_remove(4, 5, 7)], {})
    for ops in ([read(13, 14, 7)], [read(13, 14, 7, **FAULT)]):
        assert check_bursts([both, (ops, None)])["violations"] == []
    gone = ([munmap(13, 14, 7, 8), guard_install(13, 14, 7)], {})
    assert check_bursts([both, gone, ([mmap(23, 24, 7, 8), read(25, 26, 7)], None)])["violations"] == []


@pytest.mark.parametrize("held", [(0, 0), (FRESH | 1, FRESH | 1)])
def test_page_under_a_guard_is_absent_at_the_end(held):
    ops = [MAP, read(3, 4, 7), write(3, 4, 7, status=-ENOMEM), guard_install(5, 6, 7), read(7, 8, 7, **FAULT)]
    assert 38 in verdict(*ops, final={7: held})
    assert verdict(*ops, final={}) == set()
    assert verdict(*ops, read(9, 10, 7), guard_remove(9, 10, 7), final={7: (0, 0)}) == set()


#: What is at the end: (operations, whether a guard is there, whether that is right)
ENDS = {
    "a guard is there": ([guard_install(3, 4, 7)], True, True),
    "it is gone": ([guard_install(3, 4, 7)], False, False),
    "it went with its mapping": ([guard_install(3, 4, 7), munmap(5, 6, 0, 600)], False, True),
    "it survived its mapping": ([guard_install(3, 4, 7), munmap(5, 6, 0, 600), mmap(7, 8, 0, 600)], True, False),
    "nobody put one there": ([dontneed(3, 4, 7)], True, False),
    "it was not removed": ([guard_install(3, 4, 7), guard_remove(5, 6, 7)], True, False),
    "it was removed": ([guard_install(3, 4, 7), guard_remove(5, 6, 7)], False, True),
    "a dontneed of many pages dropped it": ([guard_install(3, 4, 7), dontneed(5, 6, 0, 600)], False, False),
    "either came last, say it stays": ([guard_install(3, 6, 7), guard_remove(4, 5, 7)], True, True),
    "either came last, say it goes": ([guard_install(3, 6, 7), guard_remove(4, 5, 7)], False, True),
    "an install that met a hole may have come there": ([guard_install(3, 4, 7, 2048, -ENOMEM), dontneed(5, 6, 7)], True, True),
    "... or not": ([guard_install(3, 4, 7, 2048, -ENOMEM), dontneed(5, 6, 7)], False, True),
}


@pytest.mark.parametrize("case", ENDS)
def test_guards_are_looked_at_when_a_burst_ends(case):
    ops, lies, right = ENDS[case]
    assert verdict(MAP, *ops, final={7: GUARD if lies else EMPTY}) == (set() if right else {38})


@pytest.mark.parametrize("end", [GUARD, EMPTY])
def test_a_guard_of_an_earlier_burst_is_looked_at_where_a_page_is_touched(end):
    first = ([MAP, guard_install(3, 4, 0, 512), guard_remove(5, 6, 100)], {})
    for page, guarded in ((7, GUARD), (100, EMPTY), (600, EMPTY)):
        found = check_bursts([first, ([dontneed(13, 14, page)], {page: end})])["violations"]
        assert [v["invariant"] for v in found] == [38] * (end != guarded)
