"""The data oracle about FREE and memory pressure: what a discard may end, and what it may not."""

from random import Random

import pytest
from page_events import FRESH, discard, free, mmap, munmap, read, write
from page_simulation import Simulation
from rules import check_bursts
from test_seq_data_oracle import FAR, MAP, verdict

#: rule: (invariant, a history that breaks it, its twin that does not)
TWINS = {
    "a page that is not free is dropped": (
        39,
        [MAP, write(3, 4, 7, 1, 100), discard(7, 8, 7), read(9, 10, 7), free(9, 10, 7)],
        [MAP, write(3, 4, 7, 1, 100), discard(7, 8, 7), read(9, 10, 7), free(8, 10, 7)],
    ),
    "... by memory pressure on everything": (
        39,
        [MAP, write(3, 4, 7, 1, 100), free(5, 6, 8, 700), discard(7, 8, 0, FAR), read(9, 10, 7)],
        [MAP, write(3, 4, 7, 1, 100), free(5, 6, 7, 700), discard(7, 8, 0, FAR), read(9, 10, 7)],
    ),
    "a write after a free is lost": (
        39,
        [MAP, write(3, 4, 7, 1, 100), free(5, 6, 7), write(7, 8, 7, 1, 101), discard(9, 10, 7), read(11, 12, 7)],
        [MAP, write(3, 4, 7, 1, 100), free(5, 6, 7), write(6, 8, 7, 1, 101), discard(9, 10, 7), read(11, 12, 7)],
    ),
    "... although the free was done again": (
        39,
        [MAP, free(3, 4, 0, 512), write(5, 6, 7, 1, 101), discard(7, 8, 0, 512), write(9, 10, 7, 2, 102), free(9, 12, 0, 512)],
        [MAP, free(3, 4, 0, 512), write(5, 6, 7, 1, 101), discard(7, 8, 0, 512), write(9, 10, 7, 2, 102), free(8, 12, 0, 512)],
    ),
    "... beside the memory pressure": (
        39,
        [MAP, write(3, 4, 7, 1, 100), free(5, 6, 7), write(7, 20, 7, 1, 101), discard(9, 21, 7), read(22, 23, 7)],
        [MAP, write(3, 4, 7, 1, 100), free(5, 6, 7), write(7, 20, 7, 2, 101), discard(9, 21, 7), read(22, 23, 7, 2, 101)],
    ),
    "the successor of a page that was free is dropped": (
        39,
        [MAP, write(3, 4, 7, 1, 100), free(5, 6, 7), discard(7, 8, 7), write(9, 10, 7, 2, 101), discard(11, 12, 7),
         read(13, 14, 7)],
        [MAP, write(3, 4, 7, 1, 100), free(5, 6, 7), discard(7, 8, 7), write(9, 10, 7, 2, 101), discard(11, 12, 7),
         read(13, 14, 7), free(9, 11, 7)],
    ),
    "a page that was dropped comes back": (
        33,
        [MAP, write(3, 4, 7, 1, 100), free(5, 6, 7), discard(7, 8, 7), read(9, 10, 7), read(11, 12, 7, 1, 100)],
        [MAP, write(3, 4, 7, 1, 100), free(5, 6, 7), discard(7, 12, 7), read(9, 10, 7), read(11, 12, 7, 1, 100)],
    ),
    "free of a hole": (34, [munmap(1, 2, 0, 9), free(3, 4, 7, 9)], [mmap(1, 2, 0, 9), free(3, 4, 7, 9)]),
}


@pytest.mark.parametrize("rule", TWINS)
def test_broken_rule_is_found_and_near_miss_is_not(rule):
    invariant, bad, good = TWINS[rule]
    assert verdict(*bad) == {invariant}
    assert verdict(*good) == set()


def test_marks_of_a_free_are_carried_from_burst_to_burst():
    held = {7: (FRESH | 1, 100), 600: (FRESH | 2, 101)}
    begin = [MAP, write(3, 4, 7, 1, 100), write(3, 4, 600, 2, 101)]
    marked = ([*begin, free(5, 6, 0, 1024)], held)
    written = ([*begin, free(5, 6, 0, 1024), write(7, 8, 7, 1, 102)], {**held, 7: (FRESH | 1, 102)})
    pressure = [discard(23, 24, 0, FAR), read(25, 26, 7), read(25, 26, 600)]
    idle, looked = ([], held), ([read(13, 14, 7, 1, 100)], held)
    later = ([write(13, 14, 7, 1, 102)], {**held, 7: (FRESH | 1, 102)})
    freed = ([free(13, 14, 7)], held)
    for bursts, invariants in [
        ([(begin, held), (pressure, None)], [39, 39]),
        ([marked, (pressure, None)], []),
        ([marked, idle, looked, (pressure, None)], []),
        ([written, (pressure, None)], [39]),
        ([marked, later, (pressure, None)], [39]),
        ([(begin, held), freed, (pressure, None)], [39]),
        ([marked, ([write(21, 22, 7, 1, 102), *pressure], None)], [39]),
        ([marked, ([discard(13, 14, 0, FAR)], {600: held[600]}), ([read(23, 24, 7), read(23, 24, 600, 2, 101)], None)], []),
    ]:
        assert [v["invariant"] for v in check_bursts(bursts)["violations"]] == invariants, bursts


def test_missing_flush_of_a_free_is_found():
    found = []
    for seed in range(6):
        simulation = Simulation(Random(seed), 3, [1, 2, 511], 4096)
        simulation._flush_freed = lambda pages: None
        # Nothing else flushes; in one of five runs nothing is mapped.
        simulation._map = simulation._dontneed = simulation._protect = simulation._populate = simulation._age = simulation._free
        simulation._guard_install = simulation._guard_remove = simulation._access
        found.append({v["invariant"] for v in check_bursts([simulation.burst(100) for _ in range(3)])["violations"]})
    assert found.count({39}) >= 4 and found.count({39}) + found.count(set()) == 6
