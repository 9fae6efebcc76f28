"""All outcomes that the model allows a small program, as the engine looks them up, and as people read them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import Struct

from ptstress.model import AddressSpaces
from ptstress.model.outcome_words import Words, lines_of, words_of
from ptstress.model.outcomes import BUDGET_STATES, allowed_outcomes, prepared
from ptstress.operation import Op
from ptstress.program import Program
from ptstress.schemes import NEVER, find_scheme
from ptstress.vocabulary import BITS

#: Operations of one worker, lines of bits included, that a table is made for: all of them must be recorded.
MOST_LINES = 64
#: Pages for each line of bits in an event ring.
BITS_PER_LINE = 512


class OutcomeCount(Struct):
    """``allowed``: outcomes that the model allows; ``seen``: by an exploration. ``note``: why none were computed."""

    allowed: int = 0
    seen: int = 0
    note: str = ""


@dataclass(frozen=True)
class OutcomeTable:
    """``rows``: all outcomes, ascending; none, and ``note`` says why. ``pages``: whose end is part of an outcome, ascending."""

    branches: tuple[tuple[Op, ...], ...]
    rows: tuple[Words, ...] = ()
    pages: tuple[int, ...] = ()
    note: str = ""

    def arrays(self) -> tuple[np.ndarray, np.ndarray] | None:
        """As ``Machine.program`` takes them; ``None``: there is nothing to look up."""
        if not self.rows:
            return None
        return np.array(self.rows, np.uint64), np.array(self.pages, np.uint64)

    def expected(self, found: Sequence[int]) -> list[str]:
        """Why ``found`` is none of them: what it is, and where the ones that are most like it differ."""
        lines = lines_of(found, self.branches, self.pages)
        allowed = f"one of the {len(self.rows):,} outcomes that the model allows" if len(self.rows) > 1 else "the only outcome"
        return [f"expected: {allowed}", *(f"found:    {line}" for line in lines), *self._nearest(found, lines)]

    def _nearest(self, found: Sequence[int], lines: Sequence[str]) -> Iterator[str]:
        away = Counter({row: -sum(a != b for a, b in zip(row, found, strict=True)) for row in self.rows})
        for row, _ in away.most_common(1):
            for line, other in zip(lines, lines_of(row, self.branches, self.pages), strict=True):
                if line != other:
                    yield f"nearest:  {other}"


def no_table(note: str) -> OutcomeTable:
    """Nothing is looked up."""
    return OutcomeTable((), note=note)


def outcome_table(
    program: Program, scheme: str, geometry: tuple[int, ...], may_fail: bool = False, budget_states: int = BUDGET_STATES
) -> OutcomeTable:
    """Of ``program`` under ``scheme``. ``may_fail``: allocations fail, and then nobody says what comes of it."""
    if may_fail:
        return no_table("allocations fail")
    if any(_lines(program.prefix) + _lines(ops) > MOST_LINES for ops in program.branches):
        return no_table(f"more than {MOST_LINES} operations of one thread")
    if not any(program.branches):
        return no_table("no operations")
    found = find_scheme(scheme)
    space = AddressSpaces(geometry, found.modelled or NEVER, program.mms())
    done = prepared(space, program.prefix)
    allowed = allowed_outcomes(
        space, program.branches, first=len(done), lockless=found.lockless, budget_states=budget_states)
    if allowed.why:
        return no_table(allowed.why)
    words = {words_of(outcome, program.branches, program.prefix, done) for outcome in allowed.outcomes}
    return OutcomeTable(program.branches, tuple(sorted(words)), allowed.pages)


def _lines(ops: Sequence[Op]) -> int:
    return sum(1 + (max(0, op.end - op.start) // BITS_PER_LINE + 1) * (op.verb in BITS) for op in ops)
