"""Small programs for mutants: a few operations of any two or three kinds beside each other, in an address space that is mapped in
some way.

The common generator (``generator``) draws what races in earnest. A mutant is in one place, and who comes there needs little
company: every kind of operation is drawn equally often, and branches are short, so that many schedules of each can be run.
"""

from random import Random

from ptstress.operation import (
    Op, age, discard, dontneed, exit_mm, free, guard_install, guard_remove, gup_fast, mmap, mprotect, munmap, populate, read,
    scan, walk, write)
from ptstress.program import Program

#: Races that some mutant needs and that no bug of the registry is about.
RACES = (
    "prefix: mmap(p0..p4); write(p0); t0: mprotect(p0..p4, ro) | t1: dontneed(p0..p4); read(p0)",
    "prefix: mmap(p0..p4); write(p0); mprotect(p0..p4, ro); t0: mprotect(p0..p4, rw); write(p0) | t1: mprotect(p0..p4, ro)",
    "prefix: mmap(p0..p4); t0: gup_fast(p1) | t1: dontneed(p1); write(p2); dontneed(p2); write(p3)",
    "prefix: mmap(p0..p4); t0: write(p0) | t1: write(p1)",
    "prefix: mmap(p0..p2); mmap(p2..p4, ro); t0: write(p0) | t1: mprotect(p2..p4, rw); write(p2)",
    "prefix: mmap(p0..p2); mmap(p4..p6); t0: write(p0) | t1: write(p4) | t2: mmap(p2..p4)",
    "prefix: mmap(p0..p4); write(p0); t0: dontneed(p0..p4) | t1: dontneed(p0..p4); write(p0)",
    "prefix: mmap(p0..p4); write(p1); t0: walk(p0..p4, sleep) | t1: dontneed(p0..p4); write(p1); dontneed(p0..p4); write(p2)",
    "prefix: mmap(p0..p4); write(p0); free(p0..p4); t0: scan(m0) | t1: discard(p0..p4); scan(m0)",
    "prefix: mmap(p0..p4); write(p0); free(p0..p4); t0: discard(p0..p4) | t1: write(p0) | t2: discard(p0..p4)",
    "prefix: mmap(p0..p8); write(p0); write(p4); t0: munmap(p0..p4) | t1: munmap(p4..p8); mmap(p0..p8); write(p0)",
    "prefix: mmap(p0..p4); write(p0); t0: munmap(p1..p3) | t1: write(p0); write(p3)",
    "prefix: mmap(p0..p4); t0: munmap(p0..p4); mmap(p0..p4) | t1: write(p1) | t2: write(p2)",
    "prefix: mmap(p0..p4); write(p0); t0: gup_fast(p0) | t1: munmap(p0..p4)",
    "prefix: mmap(p0..p4); write(p0); free(p0); read(p0); t0: guard_install(p0..p4); read(p0) | t1: discard(p0..p4)",
    "prefix: mmap(p0..p4); write(p0); free(p0..p4); read(p0); t0: discard(p0..p4); read(p0)",
    "prefix: mmap(p0..p4); write(p0); t0: dontneed(p0..p4); read(p0) | t1: dontneed(p0..p4)",
    "prefix: mmap(p0..p4); write(p0); walk(p0..p4, sleep); free(p0..p4); t0: discard(p0..p4) | t1: read(p1)",
    "prefix: mmap(p0..p20); write(p0); write(p4); write(p8); write(p16); t0: munmap(p0..p4); munmap(p4..p8); munmap(p8..p12); "
    "munmap(p16..p20); read(p12) | t1: walk(p0..p20)",
    "prefix: mmap(p0..p4); write(p0); t0: gup_fast(p0, write) | t1: munmap(p0..p4); mmap(p4..p8); write(p4)",
    "prefix: mmap(m1:p0..p4); write(m1:p0); dontneed(m1:p0); mmap(p0..p4); write(p0); t0: exit(m1) | t1: dontneed(p0)",
    "prefix: mmap(p0..p4); write(p0); mmap(m1:p0..p4); write(m1:p0); t0: dontneed(p0); scan(m0) | t1: dontneed(m1:p0); scan(m0)",
    "prefix: mmap(p0..p4); write(p0); dontneed(p0); mmap(m1:p0..p4); write(m1:p0); dontneed(m1:p0); mmap(m2:p0..p4); "
    "write(m2:p0); dontneed(m2:p0); t0: scan(m0) | t1: exit(m1) | t2: exit(m2)",
    "prefix: mmap(m1:p0..p4); write(m1:p0); dontneed(m1:p0); mmap(p0..p4); write(p0); t0: exit(m1) | t1: scan(m0); dontneed(p0)",
    "prefix: mmap(p0..p4); write(p0); dontneed(p0); mmap(m1:p0..p4); write(m1:p0); dontneed(m1:p0); "
    "t0: scan(m0) | t1: scan(m0); write(p0); dontneed(p0)",
    "prefix: mmap(p0..p4); write(p0); t0: dontneed(p1) | t1: dontneed(p2); dontneed(p2); dontneed(p0) | t2: walk(p0..p4)",
    "prefix: mmap(p0..p8); write(p0); write(p4); free(p0..p8); read(p0); read(p4); t0: dontneed(p0..p8); read(p4) | "
    "t1: discard(p0..p8)",
    "prefix: mmap(p0..p8); write(p0); write(p4); t0: dontneed(p0..p4); write(p5) | t1: dontneed(p4..p8); write(p4) | "
    "t2: walk(p0..p4)",
    "prefix: mmap(p0..p4); write(p0); write(p1); write(p2); t0: dontneed(p0) | t1: dontneed(p1); dontneed(p2) | "
    "t2: read(p2); read(p2)",
    "prefix: mmap(p0..p12); write(p0); write(p4); write(p8); t0: write(p1) | t1: dontneed(p0..p4); dontneed(p4..p8); "
    "dontneed(p8..p12)",
    "prefix: mmap(p0..p4); t0: munmap(p0..p4); mmap(p0..p4); write(p0) | t1: write(p1)",
    "prefix: mmap(p0..p4); t0: munmap(p0..p4); mmap(m1:p0..p4) | t1: write(p0) | t2: write(m1:p0)",
    "prefix: mmap(p0..p2); mmap(p4..p6); t0: munmap(p0..p2); munmap(p4..p6) | t1: mmap(p8..p10); write(p8) | t2: read(p0)",
    "prefix: mmap(p0..p2); mmap(p4..p6); write(p4); t0: write(p0) | t1: mmap(p2..p4)",
    "prefix: mmap(p0..p2); mmap(p4..p6); write(p0); t0: write(p4) | t1: mmap(p2..p4)",
    "prefix: mmap(p0..p4); write(p0); mprotect(p0..p4, ro); mprotect(p0..p4, rw); t0: write(p0) | "
    "t1: dontneed(p0); write(p0); mprotect(p0..p4, ro)",
    "prefix: mmap(p0..p12); write(p0); write(p8); t0: dontneed(p0) | t1: dontneed(p8) | t2: walk(p8)",
    "prefix: mmap(p0..p4); write(p0); dontneed(p0); mmap(m1:p0..p4); write(m1:p0); dontneed(m1:p0); "
    "t0: scan(m0) | t1: scan(m1)",
)
#: Races for what there is too little of: one frees, another one wants just that.
SCARCE_RACES = (
    "prefix: mmap(p0..p4); mmap(p8..p12); write(p0); t0: munmap(p0..p4) | t1: write(p8); write(p8)",
    "prefix: mmap(p0..p4); write(p0); write(p1); t0: dontneed(p0..p4) | t1: write(p2); write(p3)",
)
#: Pages of one pte_table in the geometry that mutants are hunted in; places in one, in two, and over the end of a pmd_table.
TABLE = 4
_PLACES = ((0, 4), (0, 4), (0, 8), (4, 8), (12, 20))
_LENGTHS = (1, 1, 2, 2, 3)
_BRANCHES = (2, 2, 2, 3)


def small_program(seed: int) -> Program:
    """The program of a seed: always the same."""
    return _Small(Random(seed)).program()


class _Small:
    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.start, self.end = rng.choice(_PLACES)
        self.hot = [rng.randrange(self.start, self.end) for _ in range(3)]
        self.mms = rng.choice((1, 1, 1, 2))

    def program(self) -> Program:
        rng = self.rng
        branches = tuple(
            tuple(self._operation() for _ in range(rng.choice(_LENGTHS))) for _ in range(rng.choice(_BRANCHES)))
        return Program(branches=branches, prefix=tuple(self._prefix()))

    def _prefix(self) -> list[Op]:
        """In one VMA, in two that differ, or with a hole; some pages touched, and left as an operation leaves them."""
        rng = self.rng
        middle = rng.randrange(self.start + 1, self.end)
        ops = {
            0: [mmap(self.start, self.end)], 1: [mmap(self.start, self.end)],
            2: [mmap(self.start, middle), mmap(middle, self.end, writable=rng.random() < 0.5)],
            3: [mmap(self.start, middle)], 4: [],
        }[rng.randrange(5)]
        ops += [rng.choice((write, write, write, read))(page) for page in sorted(set(self.hot)) if rng.random() < 0.7]
        if rng.random() < 0.3:
            ops.append(rng.choice((free, dontneed, guard_install, mprotect, age))(*self._range()))
        prefix = list(ops)
        for mm in range(1, self.mms):
            prefix += [op.moved(mm) for op in ops]
        return prefix

    def _operation(self) -> Op:
        rng = self.rng
        page = rng.choice(self.hot)
        start, end = self._range()
        kinds = (
            lambda: read(page), lambda: write(page), lambda: write(page), lambda: walk(start, end),
            lambda: walk(start, end, sleep=True), lambda: dontneed(start, end), lambda: dontneed(start, end),
            lambda: munmap(start, end), lambda: mmap(start, end, writable=rng.random() < 0.7),
            lambda: mprotect(start, end, writable=rng.random() < 0.4), lambda: populate(start, end, write=rng.random() < 0.5),
            lambda: free(start, end), lambda: discard(start, end), lambda: gup_fast(page, rng.random() < 0.5),
            lambda: guard_install(start, end), lambda: guard_remove(start, end), lambda: age(start, end), scan,
        )
        op = exit_mm() if self.mms > 1 and rng.random() < 0.15 else rng.choice(kinds)()
        return op.moved(rng.randrange(self.mms))

    def _range(self) -> tuple[int, int]:
        kind = self.rng.randrange(4)
        if kind == 0:
            page = self.rng.choice(self.hot)
            return page, page + 1
        if kind == 1:
            start, end = sorted(self.rng.sample(range(self.start, self.end + 1), 2))
            return start, end
        if kind == 2:
            table = self.rng.choice(self.hot) // TABLE * TABLE
            return table, table + TABLE
        return self.start, self.end
