"""The common generator: small concurrent programs without any hint to a particular bug.

A program works on one pte_table or on a few neighbouring ones: a prefix maps them and touches some of
their pages, then two or three branches of several operations race. Accesses go to a handful of pages, so
that they meet; ranges are pieces of tables, whole tables, or everything. Operations that fill tables and
operations that empty them are drawn equally often: the others only look, or change the VMAs that
everything stands on. Some programs do all that in two or three mms. For Hypothesis see ``strategies``.
"""

from collections.abc import Sequence
from random import Random

from ptstress.model.geometry import Geometry
from ptstress.operation import Op, exit_mm, gup_fast, mmap, read, scan, write
from ptstress.program import Program
from ptstress.vocabulary import ACCESSES, Verb

#: How many tables; the more operations meet on one, the more can go wrong there.
TABLES = (1, 1, 1, 2, 3)
#: How many mms: frames, tables and VMA objects move from one to another.
MMS = (1, 1, 1, 2, 3)
#: How many operations are exits, where there are several mms.
EXITS = 1 / 16
BRANCHES = (2, 3)
OPERATIONS_PER_BRANCH = (4, 8)
HOT_PAGES = 6
#: How often each verb is drawn.
WEIGHTS = (
    (Verb.READ, 2), (Verb.WRITE, 4), (Verb.WALK, 1), (Verb.DONTNEED, 4), (Verb.MUNMAP, 1), (Verb.MMAP, 1),
    (Verb.FREE, 2), (Verb.DISCARD, 2), (Verb.GUP_FAST, 2), (Verb.MPROTECT, 1), (Verb.POPULATE, 1),
    (Verb.AGE, 1), (Verb.SCAN, 1), (Verb.GUARD_INSTALL, 1), (Verb.GUARD_REMOVE, 1),
)


def generate(seed: int, geometry: Sequence[int], branches: tuple[int, int] = BRANCHES) -> Program:
    """The program of a seed: always the same. ``geometry``: index bits, level 0 first; ``branches``: fewest, most."""
    return _Generator(Random(seed), Geometry.of(tuple(geometry))).program(branches)


class _Generator:
    def __init__(self, rng: Random, geometry: Geometry) -> None:
        self.rng = rng
        self.table_pages = geometry.table_pages
        # From the start of the address space, or across the border of the first pmd_table.
        in_all = geometry.pages // self.table_pages
        tables = min(rng.choice(TABLES), in_all)
        first = min(rng.choice((0, (1 << geometry.bits[1]) - 1)), in_all - tables)
        self.tables = range(first, first + tables)
        self.start, self.end = first * self.table_pages, (first + tables) * self.table_pages
        self.mms = rng.choice(MMS)
        self.hot = [rng.randrange(self.start, self.end) for _ in range(HOT_PAGES)]

    def program(self, branches: tuple[int, int]) -> Program:
        """Draws are made in a fixed order; the seed decides them."""
        prefix = [mmap(self.start, self.end).moved(mm) for mm in range(self.mms)]
        touched = [page for page in sorted(set(self.hot)) if self.rng.random() < 0.5]
        prefix += [self._somewhere(self.rng.choice((write, write, read))(page)) for page in touched]
        count = self.rng.randint(*branches)
        return Program(branches=tuple(self._branch() for _ in range(count)), prefix=tuple(prefix))

    def _branch(self) -> tuple[Op, ...]:
        count = self.rng.randint(*OPERATIONS_PER_BRANCH)
        return tuple(self._somewhere(exit_mm() if self._exits() else self._operation()) for _ in range(count))

    def _exits(self) -> bool:
        return self.mms > 1 and self.rng.random() < EXITS

    def _somewhere(self, op: Op) -> Op:
        """The operation in one of the mms."""
        return op.moved(self.rng.randrange(self.mms))

    def _operation(self) -> Op:
        verbs, weights = zip(*WEIGHTS, strict=True)
        (verb,) = self.rng.choices(verbs, weights)
        if verb in ACCESSES:
            page = self.rng.choice(self.hot)
            return gup_fast(page, self.rng.random() < 0.5) if verb is Verb.GUP_FAST else Op(verb, page, page + 1)
        if verb is Verb.SCAN:
            return scan()
        start, end = self._range()
        if verb is Verb.MMAP:
            return mmap(start, end, writable=self.rng.random() < 0.75)
        return Op(verb, start, end, self.rng.randrange(2) if verb in (Verb.MPROTECT, Verb.POPULATE) else 0)

    def _range(self) -> tuple[int, int]:
        kind = self.rng.randrange(4)
        if kind == 0:
            return self.start, self.end
        if kind == 1:
            start, end = sorted(self.rng.sample(range(self.start, self.end + 1), 2))
            return start, end
        table = self.rng.choice(self.tables)
        return table * self.table_pages, (table + 1) * self.table_pages
