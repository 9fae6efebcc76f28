"""New programs out of programs that brought something new: a few small changes at random places.

Operations are added, removed, swapped, repeated and replaced, their pages moved, threads merged and split,
and parts of two programs put together. What is added comes from the common generator.
"""

from collections.abc import Callable
from random import Random

from ptstress.generator import generate
from ptstress.model.geometry import Geometry
from ptstress.operation import Op
from ptstress.pages import global_page, local_page
from ptstress.program import Program
from ptstress.vocabulary import WHOLE_MM, Verb

MOST_CHANGES = 4
MOST_BRANCHES = 4
MOST_OPERATIONS = 12

Branches = list[list[Op]]


def mutate(program: Program, donor: Program, rng: Random, bits: tuple[int, ...]) -> Program:
    """``program`` with one to four changes; ``donor``: another program, parts of which may come in.

    Ranges stay valid and inside the address space; there is at least one branch.
    """
    change = _Change(rng, bits, donor)
    branches, prefix = [list(ops) for ops in program.branches], [list(program.prefix)]
    for _ in range(rng.randint(1, MOST_CHANGES)):
        change.apply(prefix if rng.random() < 0.1 else branches)
    kept = [ops[:MOST_OPERATIONS] for ops in branches if ops][:MOST_BRANCHES]
    return Program(branches=tuple(map(tuple, kept or [[]])), prefix=tuple(prefix[0]))


class _Change:
    def __init__(self, rng: Random, bits: tuple[int, ...], donor: Program) -> None:
        self.rng = rng
        self.bits = bits
        self.pages = Geometry.of(bits).pages
        self.table_pages = 1 << bits[0]
        self.donor = donor
        self.fresh: list[Op] = []

    def apply(self, branches: Branches) -> None:
        """One change, in place. ``branches`` with one member stay so: they are a prefix."""
        inside: tuple[Callable[[list[Op]], None], ...] = (
            self._add, self._add, self._remove, self._swap, self._repeat, self._replace, self._move, self._move,
        )
        across: tuple[Callable[[Branches], None], ...] = (self._merge, self._split, self._splice, self._hand_over)
        if len(branches) > 1 and self.rng.random() < 0.25:
            self.rng.choice(across)(branches)
        else:
            self.rng.choice(inside)(self.rng.choice(branches))

    def _operation(self) -> Op:
        """A fresh operation, or one of the donor's."""
        pool = [op for branch in self.donor.branches for op in branch]
        if pool and self.rng.random() < 0.5:
            return self.rng.choice(pool)
        if not self.fresh:
            program = generate(self.rng.getrandbits(48), self.bits)
            self.fresh = [op for branch in program.branches for op in branch]
        return self.fresh.pop()

    def _at(self, ops: list[Op]) -> int:
        return self.rng.randrange(len(ops))

    def _add(self, ops: list[Op]) -> None:
        ops.insert(self.rng.randint(0, len(ops)), self._operation())

    def _remove(self, ops: list[Op]) -> None:
        if ops:
            del ops[self._at(ops)]

    def _swap(self, ops: list[Op]) -> None:
        if len(ops) > 1:
            a, b = self.rng.sample(range(len(ops)), 2)
            ops[a], ops[b] = ops[b], ops[a]

    def _repeat(self, ops: list[Op]) -> None:
        if ops:
            ops.insert(self.rng.randint(0, len(ops)), self.rng.choice(ops))

    def _replace(self, ops: list[Op]) -> None:
        if ops:
            ops[self._at(ops)] = self._operation()

    def _move(self, ops: list[Op]) -> None:
        """Move an operation's pages, or one end of them."""
        if not ops:
            return
        at = self._at(ops)
        op = ops[at]
        if op.verb in WHOLE_MM:
            return
        start = local_page(op.start)
        end = start + op.end - op.start
        step = self.rng.choice((-self.table_pages, -1, 1, self.table_pages))
        which = 0 if op.accesses else self.rng.randrange(3)
        start += step if which in (0, 1) else 0
        end += step if which in (0, 2) else 0
        if 0 <= start < end <= self.pages:
            ops[at] = op._replace(start=global_page(op.mm, start), end=global_page(op.mm, end))

    def _merge(self, branches: Branches) -> None:
        first, second = self.rng.sample(range(len(branches)), 2)
        branches[first] += branches[second]
        del branches[second]

    def _split(self, branches: Branches) -> None:
        ops = self.rng.choice(branches)
        at = self.rng.randint(0, len(ops))
        branches.append(ops[at:])
        del ops[at:]

    def _splice(self, branches: Branches) -> None:
        """One branch becomes one of the donor's."""
        branches[self.rng.randrange(len(branches))] = list(self.rng.choice(self.donor.branches))

    def _hand_over(self, branches: Branches) -> None:
        """An operation goes to another branch."""
        giver, taker = self.rng.sample(branches, 2)
        if giver:
            taker.insert(self.rng.randint(0, len(taker)), giver.pop(self._at(giver)))
