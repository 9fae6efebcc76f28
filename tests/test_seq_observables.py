"""What is left of 512 page tables, as measured on real kernels, and what the plans beyond Linux 6.18 leave.

An area of 1 GiB, one page of each 2 MiB touched; then something is done to it. Counts are those of /proc/PID/status VmPTE on
Linux 6.12 and 6.18: pte_tables, with one pmd_table and one pud_table above them. The plans scan once in the end.
"""

import numpy as np
import pytest

from ptstress.engine import load_engine
from ptstress.model.space import AddressSpace
from ptstress.operation import (
    discard, dontneed, free, guard_install, guard_remove, mmap, mprotect, munmap, op_array, read, scan, write)
from ptstress.schemes import find_scheme

BITS = (9, 9, 9, 9)
TABLE, NR = 512, 512
END = TABLE * NR
STARTS = range(0, END, TABLE)
SCHEMES = ("linux-6.12", "linux-6.18", "seed-async", "seed-zero", "seed-rcu")
#: The model is compared where it is not slow.
MODEL_OPS = 6000


def whole(*ops):
    return [mmap(0, END), *(write(p) for p in STARTS), *ops]


def pieces(step, length, first=0, until=END):
    return [dontneed(at, at + length) for at in range(first, until, step)]


#: name: operations; tables left under linux-6.12, linux-6.18, after async, after zero besides. Upper tables not counted.
ROWS = {
    "DONTNEED of all": (whole(dontneed(0, END)), 512, 0, 0, 0),
    "DONTNEED of the first half": (whole(dontneed(0, END // 2)), 512, 256, 256, 256),
    "DONTNEED of 512 aligned tables": (whole(*pieces(TABLE, TABLE)), 512, 0, 0, 0),
    "DONTNEED of the touched pages": (whole(*pieces(TABLE, 1)), 512, 512, 0, 0),
    "DONTNEED page by page": (whole(*pieces(1, 1)), 512, 512, 0, 0),
    "DONTNEED of halves of tables": (whole(*pieces(TABLE // 2, TABLE // 2)), 512, 512, 0, 0),
    "DONTNEED of all but the last page of each": (whole(*pieces(TABLE, TABLE - 1)), 512, 512, 0, 0),
    "DONTNEED of tables, one page off": (whole(dontneed(0, 1), *pieces(TABLE, TABLE, 1, END - TABLE)), 512, 512, 0, 0),
    "DONTNEED of two tables, half a table off": (whole(*pieces(1024, 1024, 256, END - 1024)), 512, 257, 2, 2),
    "the same, and all": (whole(*pieces(1024, 1024, 256, END - 1024), dontneed(0, END)), 512, 0, 0, 0),
    "VMAs of half a table": (
        [op for p in STARTS for op in (mmap(p, p + TABLE // 2), write(p))] + [dontneed(0, END)], 512, 512, 0, 0),
    "a protected page in each table": (
        [mmap(0, END), *(mprotect(p + 9, p + 10) for p in STARTS), *(write(p) for p in STARTS), dontneed(0, END)],
        512, 512, 0, 0),
    "a guard in each table": (whole(*(guard_install(p + 9, p + 10) for p in STARTS), dontneed(0, END)), 512, 512, 512, 512),
    "guards all over": ([mmap(0, END), guard_install(0, END)], 512, 512, 512, 512),
    "guards come and gone": ([mmap(0, END), guard_install(0, END), guard_remove(0, END)], 512, 512, 0, 0),
    "the same, and DONTNEED": ([mmap(0, END), guard_install(0, END), guard_remove(0, END), dontneed(0, END)], 512, 0, 0, 0),
    "FREE of all": (whole(free(0, END)), 512, 512, 512, 512),
    "FREE and memory pressure": (whole(free(0, END), discard(0, END)), 512, 512, 0, 0),
    "the zero page once a table": ([mmap(0, END), *(read(p) for p in STARTS)], 512, 512, 512, 0),
    "the zero page, and FREE": ([mmap(0, END), *(read(p) for p in STARTS), free(0, END), discard(0, END)], 512, 512, 512, 0),
    "the zero page, and DONTNEED": ([mmap(0, END), *(read(p) for p in STARTS), dontneed(0, END)], 512, 0, 0, 0),
    "DONTNEED of what may not be written": (whole(mprotect(0, END), dontneed(0, END)), 512, 0, 0, 0),
    "munmap of the first half": (whole(munmap(0, END // 2)), 256, 256, 256, 256),
    "munmap of all but the last page": (whole(munmap(0, END - 1)), 1, 1, 0, 0),
    "munmap of the touched pages": (whole(*(munmap(p, p + 1) for p in STARTS)), 512, 512, 0, 0),
}


def machine(scheme):
    config = {**find_scheme(scheme).config(), "geometry": BITS, "tables": 2000, "frames": 2000, "vmas": 4096, "seed": 1}
    return load_engine("fast").Machine(config)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ROWS)
def test_what_is_left_is_what_kernels_leave_and_what_plans_promise(name, scheme):
    ops, *left = ROWS[name]
    expected = left[min(SCHEMES.index(scheme), 3)]
    if find_scheme(scheme).scans:
        ops = [*ops, scan()]
    array = op_array(ops)
    engine = machine(scheme)
    status, table_bytes = engine.replay_serial(array)
    assert engine.check() == 0
    upper = 0 if expected == 0 and "upper" in find_scheme(scheme).policies else 2
    assert table_bytes[-1] == 4096 * (expected + upper)
    if len(ops) <= MODEL_OPS:
        model = AddressSpace(BITS, find_scheme(scheme).reclaim).replay(array)
        assert np.array_equal(model[0], status) and np.array_equal(model[1], table_bytes)


def test_the_last_munmap_takes_the_upper_tables():
    for scheme in SCHEMES:
        _, table_bytes = machine(scheme).replay_serial(op_array(whole(munmap(0, END - 1), munmap(END - 1, END))))
        assert table_bytes[-1] == 0
