"""The data oracle: each rule with a history that breaks it and a near miss."""

from errno import EFAULT, EINVAL, ENOMEM, ESRCH

import numpy as np
import pytest
from page_events import FRESH, age, dontneed, event, free, gup_fast, mmap, mprotect, munmap, populate, read, walk, write
from rules import check_bursts, check_history, verdict

from ptstress.vocabulary import Verb


def exit_mm(t0: int, t1: int, mm: int = 0) -> np.ndarray:
    return event(Verb.EXIT, t0, t1, mm << 48, (mm << 48) + (1 << 36))


MAP = mmap(1, 2, 0, 1024)
FAR = 1 << 40

#: rule: (invariant, a history that breaks it, its twin that does not)
TWINS = {
    "a value is read before its write": (
        34,
        [MAP, read(5, 6, 7, 1, 100), write(7, 8, 7, 1, 100), write(3, 4, 7, 1, 99)],
        [MAP, read(5, 7, 7, 1, 100), write(7, 8, 7, 1, 100), write(3, 4, 7, 1, 99)],
    ),
    "a value that nobody wrote": (
        34,
        [MAP, write(3, 4, 7, 1, 100), read(5, 6, 7, 1, 101)],
        [MAP, write(3, 4, 7, 1, 100), read(5, 6, 7, 1, 101), write(4, 6, 7, 1, 101)],
    ),
    "a value written to another page": (
        34,
        [MAP, write(3, 4, 7, 1, 100), write(3, 4, 8, 2, 101), read(5, 6, 7, 1, 101)],
        [MAP, write(3, 4, 7, 1, 100), write(3, 4, 8, 2, 101), read(5, 6, 8, 2, 101)],
    ),
    "an overwritten value": (
        34,
        [MAP, write(3, 4, 7, 1, 100), write(5, 6, 7, 1, 101), read(7, 8, 7, 1, 100)],
        [MAP, write(3, 4, 7, 1, 100), write(5, 7, 7, 1, 101), read(7, 8, 7, 1, 100)],
    ),
    "the stamp after a write": (
        34,
        [MAP, write(3, 4, 7, 1, 100), read(5, 6, 7, 1)],
        [MAP, write(3, 5, 7, 1, 100), read(5, 6, 7, 1)],
    ),
    "a pin is taken after the discard returned": (
        32,
        [MAP, write(3, 4, 7, 1, 100), dontneed(5, 6, 7), gup_fast(7, 8, 7, 1, 100)],
        [MAP, write(3, 4, 7, 1, 100), dontneed(5, 6, 7), gup_fast(6, 8, 7, 1, 100), write(7, 7, 7, 2, 101)],
    ),
    "what a pin stored is lost": (
        33,
        [MAP, gup_fast(3, 4, 7, 1, 100, store=True), gup_fast(5, 6, 7)],
        [MAP, gup_fast(3, 4, 7, 1, 100, store=True), gup_fast(5, 6, 7), dontneed(4, 5, 7)],
    ),
    "two readers disagree about the order": (
        34,
        [MAP, write(3, 20, 7, 1, 100), write(3, 20, 7, 1, 101),
         read(4, 5, 7, 1, 100), read(6, 7, 7, 1, 101), read(8, 9, 7, 1, 100)],
        [MAP, write(3, 20, 7, 1, 100), write(3, 20, 7, 1, 101),
         read(4, 5, 7, 1, 100), read(6, 7, 7, 1, 101), read(8, 9, 7, 1, 101)],
    ),
    "a lost update of a register": (
        34,
        [MAP, write(3, 4, 7, 1, 100), read(5, 12, 7, 1, 100), write(6, 7, 7, 1, 101), read(10, 11, 7, 1, 100)],
        [MAP, write(3, 4, 7, 1, 100), read(5, 12, 7, 1, 100), write(6, 10, 7, 1, 101), read(10, 11, 7, 1, 100)],
    ),
    "a frame is used after its discard returned": (
        32,
        [MAP, write(3, 4, 7, 1, 100), dontneed(5, 6, 7), read(7, 8, 7, 1, 100)],
        [MAP, write(3, 4, 7, 1, 100), dontneed(5, 7, 7), read(7, 8, 7, 1, 100)],
    ),
    "... and beside its successor": (
        32,
        [MAP, write(3, 4, 7, 1, 100), dontneed(5, 8, 0, 512), write(6, 7, 7, 2, 101), read(9, 10, 7, 1, 100)],
        [MAP, write(3, 4, 7, 1, 100), dontneed(5, 8, 0, 512), write(6, 7, 7, 2, 101), read(8, 9, 7, 1, 100)],
    ),
    "... by munmap": (
        32,
        [MAP, write(3, 4, 7, 1, 100), munmap(5, 6, 0, FAR), mmap(7, 8, 0, 9), read(9, 10, 7, 1, 100)],
        [MAP, write(3, 4, 7, 1, 100), munmap(5, 9, 0, FAR), read(9, 10, 7, 1, 100)],
    ),
    "... by exit": (
        32,
        [MAP, write(3, 4, 7, 1, 100), exit_mm(5, 6), mmap(7, 8, 0, 9), read(9, 10, 7, 1, 100)],
        [MAP, write(3, 4, 7, 1, 100), exit_mm(5, 9), read(9, 10, 7, 1, 100)],
    ),
    "a mapping outlives its mm": (
        34,
        [MAP, exit_mm(3, 4), write(5, 6, 7, 1, 100)],
        [MAP, exit_mm(3, 4, mm=1), write(5, 6, 7, 1, 100)],
    ),
    "an access finds its mm exiting after the exit returned": (
        34,
        [MAP, exit_mm(3, 4), write(5, 6, 7, status=-ESRCH)],
        [MAP, exit_mm(3, 5), write(5, 6, 7, status=-ESRCH)],
    ),
    "a dontneed finds its mm exiting while another one exits": (
        34,
        [MAP, exit_mm(3, 6, mm=1), dontneed(4, 5, 7, status=-ESRCH)],
        [MAP, exit_mm(3, 9), exit_mm(4, 6), exit_mm(3, 6, mm=1), dontneed(7, 8, 7, status=-ESRCH)],
    ),
    "... by mmap": (
        32,
        [MAP, write(3, 4, 7, 1, 100), mmap(5, 6, 0, FAR), write(7, 8, 7, 1, 101)],
        [MAP, write(3, 4, 7, 1, 100), mmap(5, 7, 0, FAR), write(7, 8, 7, 1, 101)],
    ),
    "... by a dontneed that met a hole elsewhere": (
        32,
        [MAP, write(3, 4, 7, 1, 100), dontneed(5, 6, 0, 2048, -ENOMEM), read(7, 8, 7, 1, 100)],
        [MAP, write(3, 4, 7, 1, 100), munmap(4, 9, 7, 8), dontneed(5, 6, 0, 2048, -ENOMEM), read(7, 8, 7, 1, 100)],
    ),
    "a frame from nowhere": (
        31,
        [MAP, read(3, 4, 7, 1), write(5, 6, 7, 1, 100)],
        [MAP, read(3, 4, 7, 1), write(4, 6, 7, status=-ENOMEM)],
    ),
    "a frame whose only possible writer came before the discard": (
        31,
        [MAP, write(3, 4, 7, 1, 100), dontneed(5, 6, 7), read(7, 8, 7, 2)],
        [MAP, write(3, 4, 7, 1, 100), dontneed(5, 6, 7), read(7, 8, 7, 2), write(6, 9, 7, status=-ENOMEM)],
    ),
    "two frames without a discard": (
        33,
        [MAP, write(3, 4, 7, 1, 100), write(5, 6, 7, 2, 101)],
        [MAP, write(3, 4, 7, 1, 100), write(5, 6, 7, 2, 101), dontneed(4, 5, 7)],
    ),
    "two frames, the discard was over before": (
        33,
        [MAP, dontneed(3, 4, 7), write(5, 6, 7, 1, 100), write(7, 8, 7, 2, 101)],
        [MAP, dontneed(3, 5, 7), write(5, 6, 7, 1, 100), write(7, 8, 7, 2, 101)],
    ),
    "three frames and one discard": (
        33,
        [MAP, write(3, 4, 7, 1, 100), dontneed(4, 10, 7), write(5, 6, 7, 2, 101), write(8, 9, 7, 3, 102)],
        [MAP, write(3, 4, 7, 1, 100), dontneed(4, 10, 7), write(5, 6, 7, 2, 101), write(8, 9, 7, 3, 102), dontneed(6, 11, 7)],
    ),
    "zero after a write": (
        33,
        [MAP, write(3, 4, 7, 1, 100), read(5, 6, 7)],
        [MAP, write(3, 4, 7, 1, 100), read(5, 6, 7), dontneed(4, 5, 7)],
    ),
    "zero after a write that a reader saw": (
        33,
        [MAP, write(3, 9, 7, 1, 100), read(4, 5, 7, 1, 100), read(6, 7, 7)],
        [MAP, write(3, 9, 7, 1, 100), read(4, 6, 7, 1, 100), read(6, 7, 7)],
    ),
    "zero between two uses of a frame": (
        33,
        [MAP, write(3, 4, 7, 1, 100), read(5, 6, 7), read(8, 9, 7, 1, 100), dontneed(7, 10, 7)],
        [MAP, write(3, 4, 7, 1, 100), read(5, 7, 7), read(8, 9, 7, 1, 100), dontneed(7, 10, 7)],
    ),
    "a refilled page is lost": (
        33,
        [MAP, write(3, 4, 7, 1, 100), dontneed(5, 10, 0, 512), write(6, 7, 7, 2, 101), read(11, 12, 7)],
        [MAP, write(3, 4, 7, 1, 100), dontneed(5, 10, 0, 512), write(6, 7, 7, 2, 101), read(11, 12, 7), dontneed(8, 9, 7)],
    ),
    "an access to a hole": (
        34,
        [MAP, munmap(3, 4, 0, 512), read(5, 6, 7)],
        [MAP, munmap(3, 5, 0, 512), read(5, 6, 7)],
    ),
    "an access before anything is mapped": (34, [mmap(5, 6, 7, 8), read(3, 4, 7)], [mmap(4, 6, 7, 8), read(3, 4, 7)]),
    "a write to a read-only mapping": (
        34,
        [mmap(1, 2, 0, FAR, writable=False), write(3, 4, 7, 1, 100)],
        [mmap(1, 2, 0, FAR, writable=False), write(3, 4, 7, 1, 100), mmap(2, 5, 7, 8)],
    ),
    "a read of mapped memory fails": (
        34,
        [MAP, read(3, 4, 7, status=-EFAULT)],
        [MAP, read(3, 4, 7, status=-EFAULT), munmap(4, 5, 7, 8)],
    ),
    "a write to writable memory fails": (
        34,
        [MAP, write(3, 4, 7, status=-EFAULT)],
        [MAP, write(3, 4, 7, status=-EFAULT), mmap(3, 3, 0, 8, writable=False), mmap(4, 5, 0, 8)],
    ),
    "a write after it was forbidden": (
        34,
        [MAP, write(3, 4, 7, 1, 100), mprotect(5, 6, 0, 512, False), write(7, 8, 7, 1, 101)],
        [MAP, write(3, 4, 7, 1, 100), mprotect(5, 7, 0, 512, False), write(7, 8, 7, 1, 101)],
    ),
    "a write is refused although it was allowed again": (
        34,
        [MAP, mprotect(3, 4, 7, 8, False), mprotect(5, 6, 7, 8, True), write(7, 8, 7, status=-EFAULT)],
        [MAP, mprotect(3, 4, 7, 8, False), mprotect(5, 7, 7, 8, True), write(7, 8, 7, status=-EFAULT)],
    ),
    "mprotect ends nothing": (
        33,
        [MAP, write(3, 4, 7, 1, 100), mprotect(5, 6, 7, 8, False), mprotect(7, 8, 7, 8, True), write(9, 10, 7, 2, 101)],
        [MAP, write(3, 4, 7, 1, 100), mprotect(5, 6, 7, 8, False), mprotect(7, 8, 7, 8, True), write(9, 10, 7, 1, 101)],
    ),
    "... and shows no page": (
        46,
        [MAP, write(3, 4, 7, 1, 100), mprotect(5, 6, 0, 512, False), walk(7, 8, 0, 512, [])],
        [MAP, write(3, 4, 7, 1, 100), mprotect(5, 6, 0, 512, False), walk(7, 8, 0, 512, [7])],
    ),
    "mprotect maps no hole": (
        34, [mprotect(1, 2, 0, 9, True), read(3, 4, 7)], [mmap(1, 2, 0, 8), mprotect(3, 4, 0, 9, True, -ENOMEM), read(5, 6, 7)]),
    "mprotect of a hole succeeds": (34, [mprotect(3, 4, 0, 600, False)], [mmap(1, 2, 0, 600), mprotect(3, 4, 0, 600, False)]),
    "a failed mprotect stops somewhere": (
        34,
        [MAP, mprotect(3, 4, 0, 2048, False, -ENOMEM), read(5, 6, 7, status=-EFAULT)],
        [MAP, mprotect(3, 4, 0, 2048, False, -ENOMEM), write(5, 6, 7, status=-EFAULT), write(5, 6, 8, 1, 100)],
    ),
    "a populated page is missed": (
        46,
        [MAP, populate(3, 4, 7, 9, 2), walk(5, 6, 7, 9, [7])],
        [MAP, populate(3, 4, 7, 9, 1, status=-ENOMEM), walk(5, 6, 7, 9, [7])],
    ),
    "populate for writing of what may not be written": (
        34,
        [MAP, mprotect(3, 4, 0, 512, False), populate(5, 6, 7, 9, 2, write=True)],
        [MAP, mprotect(3, 4, 0, 512, False), populate(5, 6, 7, 9, 0, write=True, status=-EINVAL), populate(5, 6, 7, 9, 2)],
    ),
    "populate refuses what may be written": (
        34,
        [MAP, populate(5, 6, 7, 9, 1, write=True, status=-EINVAL)],
        [MAP, mprotect(3, 4, 8, 9, False), populate(5, 6, 7, 9, 1, write=True, status=-EINVAL)],
    ),
    "populate for reading makes no frame": (
        31,
        [MAP, populate(3, 4, 7, 9, 2), read(5, 6, 7, 1)],
        [MAP, populate(3, 4, 7, 9, 2, write=True), read(5, 6, 7, 1)],
    ),
    "a page that is gone is young": (
        46,
        [MAP, read(3, 4, 7), dontneed(5, 6, 7), age(7, 8, 0, 512, [7])],
        [MAP, read(3, 4, 7), dontneed(5, 7, 7), age(7, 8, 0, 512, [7]), age(9, 10, 0, 512, [])],
    ),
    "no memory for a hole": (
        34,
        [MAP, write(3, 4, 2000, status=-ENOMEM)],
        [MAP, write(3, 4, 2000, status=-EFAULT), write(3, 4, 7, status=-ENOMEM)],
    ),
    "an mmap that failed left the mapping or a hole": (
        34,
        [MAP, mmap(3, 4, 7, 8, status=-EINVAL), read(5, 6, 7, status=-EFAULT)],
        [MAP, mmap(3, 4, 7, 8, status=-ENOMEM), read(5, 6, 7, status=-EFAULT), read(5, 6, 8), read(5, 6, 9)],
    ),
    "dontneed of a hole": (34, [munmap(1, 2, 0, 9), dontneed(3, 4, 7, 9)], [mmap(1, 2, 0, 9), dontneed(3, 4, 7, 9)]),
    "dontneed of what was unmapped in between": (
        34,
        [MAP, munmap(3, 4, 0, 100), mmap(7, 8, 0, 100), dontneed(5, 6, 0, 600), read(9, 10, 8)],
        [MAP, munmap(3, 5, 0, 100), mmap(7, 8, 0, 100), dontneed(5, 6, 0, 600), read(9, 10, 8)],
    ),
    "dontneed of what was mapped in pieces": (
        34,
        [mmap(1, 2, 8, 600), dontneed(5, 6, 7, 600), mmap(7, 8, 7, 8), read(9, 10, 7), read(9, 10, 8)],
        [mmap(1, 2, 8, 600), dontneed(5, 6, 7, 600), mmap(3, 4, 7, 8), read(9, 10, 7), read(9, 10, 8)],
    ),
    "an impossible range": (34, [mmap(3, 4, 8, 7)], [mmap(3, 4, 8, 7, status=-EINVAL)]),
    "a walk misses a page": (
        46,
        [MAP, write(3, 4, 7, 1, 100), walk(5, 6, 0, 512, [])],
        [MAP, write(3, 5, 7, 1, 100), walk(5, 6, 0, 512, [])],
    ),
    "a walk misses a zero page": (
        46,
        [MAP, read(3, 4, 7), walk(5, 6, 7, 9, [])],
        [MAP, read(3, 4, 7), walk(5, 6, 7, 9, []), dontneed(4, 5, 7)],
    ),
    "a walk sees a page that nobody touched": (
        46,
        [MAP, walk(5, 6, 500, 1020, [600])],
        [MAP, walk(5, 6, 500, 1020, [600]), read(6, 7, 600)],
    ),
    "a walk sees a page after its discard": (
        46,
        [MAP, read(3, 4, 600), dontneed(5, 6, 600), walk(7, 8, 0, 1024, [600])],
        [MAP, read(3, 4, 600), dontneed(5, 7, 600), walk(7, 8, 0, 1024, [600])],
    ),
    "a walk counts wrongly": (
        46,
        [MAP, read(3, 4, 7), event(Verb.WALK, 3, 4, 7, 8, present=[7])] + [event(Verb.WALK, 5, 6, 8, 9, present=[])],
        [MAP, read(3, 4, 7), event(Verb.WALK, 3, 4, 7, 8, present=[7])],
    ),
}
TWINS["a walk counts wrongly"][1][3]["aux"][0] = 1


@pytest.mark.parametrize("rule", TWINS)
def test_broken_rule_is_found_and_near_miss_is_not(rule):
    invariant, bad, good = TWINS[rule]
    assert verdict(*bad) == {invariant}
    assert verdict(*good) == set()


@pytest.mark.parametrize(
    ("ops", "bad", "invariant", "good"),
    [
        ([write(3, 4, 7, 1, 100)], {}, 33, {7: (FRESH | 1, 100)}),
        ([write(3, 4, 7, 1, 100)], {7: (0, 0)}, 33, {7: (FRESH | 1, 100)}),
        ([write(3, 4, 7, 1, 100), write(5, 6, 7, 1, 101)], {7: (FRESH | 1, 100)}, 34, {7: (FRESH | 1, 101)}),
        ([write(3, 4, 7, 1, 100), dontneed(5, 6, 7)], {7: (FRESH | 1, 100)}, 32, {}),
        ([write(3, 4, 7, 1, 100), dontneed(5, 6, 7)], {7: (0, 0)}, 31, {}),
        ([read(3, 4, 7)], {}, 46, {7: (0, 0)}),
        ([read(3, 4, 7)], {7: (FRESH | 1, FRESH | 1)}, 31, {7: (0, 0)}),
    ],
)
def test_quiescent_page_is_checked_too(ops, bad, invariant, good):
    assert verdict(MAP, *ops, final=bad) == {invariant}
    assert verdict(MAP, *ops, final=good) == set()


def test_operation_without_a_rule_is_counted():
    odd = [
        event(Verb.READ, 3, 4, 7, status=-1), event(Verb.SYNC, 3, 4, 7), event(Verb.WALK, 3, 4, 0, 512),
        write(3, 0, 7, 1, 100), walk(3, 4, 0, 512, [])[:1],
    ]
    result = check_history([MAP, *odd])
    assert (result["checked"], result["unchecked"], result["violations"]) == (1, len(odd), [])


def test_overlaps_count_pairs_that_met_on_a_table():
    rings = [
        [mmap(1, 10, 0, 1 << 30), write(12, 20, 7, 1, 100), dontneed(30, 40, 0, 1024)],
        [read(20, 25, 8), read(26, 29, 8), walk(35, 50, 511, 2000, [])],
        [read(15, 30, 600), write(31, 32, 3000, 2, 101), read(33, 34, 600)],
    ]
    counts = check_history([np.concatenate(ring) for ring in rings])["overlaps"]
    met = {(Verb(a).name, Verb(b).name): int(counts[a, b]) for a, b in zip(*counts.nonzero())}
    assert met == {("READ", "WRITE"): 1, ("WALK", "DONTNEED"): 1, ("READ", "DONTNEED"): 2}
    wider = check_history([np.concatenate(ring) for ring in rings], pages_per_table=1024)["overlaps"]
    assert wider[Verb.READ, Verb.READ] == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_history([], pages_per_table=3), "power of two"),
        (lambda: check_history([MAP] * 65), "at most 64"),
        (lambda: check_bursts([([MAP], None), ([MAP], None)]), "only the last"),
        (lambda: check_bursts([], shards=0), "at least 1"),
    ],
)
def test_bad_argument_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
