"""The data oracle about populate: what it may install, and what it has seen."""

from errno import EINVAL, ENOMEM

import pytest
from page_events import FRESH, dontneed, mmap, munmap, populate, read, walk, write
from rules import check_bursts, check_history

MAP = mmap(1, 2, 0, 1024)

#: rule: (invariant, a history that breaks it, its twin that does not)
TWINS = {
    "a frame that nobody installed": (
        31,
        [MAP, populate(3, 4, 0, 512, 512), read(5, 6, 7, 1)],
        [MAP, populate(3, 4, 0, 512, 512, write=True), read(5, 6, 7, 1)],
    ),
    "a frame of a populate that came later": (
        31,
        [MAP, read(3, 4, 7, 1), populate(5, 6, 0, 512, 512, write=True)],
        [MAP, read(3, 5, 7, 1), populate(5, 6, 0, 512, 512, write=True)],
    ),
    "a frame behind the end of a populate": (
        31,
        [MAP, populate(3, 4, 0, 2000, 6, write=True, status=-ENOMEM), read(5, 6, 7, 1)],
        [MAP, populate(3, 4, 0, 2000, 7, write=True, status=-ENOMEM), read(5, 6, 7, 1)],
    ),
    "zero where a populate left a frame": (
        33,
        [MAP, populate(3, 4, 0, 512, 512, write=True), read(5, 6, 7)],
        [MAP, populate(3, 4, 0, 512, 512, write=True), dontneed(4, 6, 7), read(5, 6, 7)],
    ),
    "a second frame without a discard": (
        33,
        [MAP, write(3, 4, 7, 1, 100), populate(5, 6, 0, 512, 512, write=True), read(7, 8, 7, 2)],
        [MAP, write(3, 4, 7, 1, 100), dontneed(5, 6, 7), populate(7, 8, 0, 512, 512, write=True), read(9, 10, 7, 2)],
    ),
    "a populated page is not seen": (
        46,
        [MAP, populate(3, 4, 0, 512, 512), walk(5, 6, 7, 8, [])],
        [MAP, populate(3, 4, 0, 512, 512), dontneed(4, 6, 7), walk(5, 6, 7, 8, [])],
    ),
    "a page that nobody populated is seen": (
        46,
        [MAP, populate(3, 4, 8, 512, 504), walk(5, 6, 7, 8, [7])],
        [MAP, populate(3, 4, 7, 512, 505), walk(5, 6, 7, 8, [7])],
    ),
    "a hole is populated": (34, [munmap(1, 2, 0, 9), populate(3, 4, 7, 8, 1)], [mmap(1, 2, 0, 9), populate(3, 4, 7, 8, 1)]),
    "a read-only page is populated for writing": (
        34,
        [mmap(1, 2, 0, 9, writable=False), populate(3, 4, 7, 9, 2, write=True)],
        [mmap(1, 2, 0, 9, writable=False), populate(3, 4, 7, 9, 0, write=True, status=-EINVAL), populate(5, 6, 7, 9, 2)],
    ),
}


def invariants(ops) -> set[int]:
    result = check_history(list(ops))
    assert (result["checked"], result["unchecked"]) == (len(ops), 0)
    return {v["invariant"] for v in result["violations"]}


@pytest.mark.parametrize("rule", TWINS)
def test_a_broken_rule_is_found_and_its_twin_is_not(rule):
    invariant, bad, good = TWINS[rule]
    assert invariants(bad) == {invariant}
    assert invariants(good) == set()


def test_frames_of_a_large_populate_are_known_to_later_bursts():
    """However large it is: nothing but the populate names its pages in the first burst."""
    pages = {page: (FRESH | page + 1, FRESH | page + 1) for page in range(4096)}
    first = ([mmap(1, 2, 0, 4096), populate(3, 4, 0, 4096, 4096, write=True)], pages)
    for page in (0, 700, 4095):
        assert check_bursts([first, ([read(13, 14, page, page + 1)], None)])["violations"] == []
        assert [v["invariant"] for v in check_bursts([first, ([read(13, 14, page)], None)])["violations"]] == [33]
