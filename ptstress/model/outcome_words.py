"""An outcome as words, so that those are equal that differ only in the stamps that were chosen.

    access      status, value, incarnation
    populate    status, pages
    walk        status, pages seen, a bit for each page in as many words as that takes
    others      status
    page        incarnation, value; ``NONE``, 0 if there is none; ``MARKER``, 0 if there is a guard marker

Operations stand in the order of the branches, then the pages, ascending. A stamp becomes a number that says what kind of stamp
it is and how many different ones come before it, those of the prefix first. Other numbers stay, statuses as 64 bits.
``cy/check/outcome.pxd`` writes the same words of what an execution left behind; a test compares the two.
"""

from collections.abc import Iterator, Sequence

from ptstress.model.explain_case import GUARD
from ptstress.model.outcomes import Outcome
from ptstress.model.result import STAMP_BIT, Observation
from ptstress.operation import Op
from ptstress.pages import page_text
from ptstress.vocabulary import Verb

#: In place of an incarnation, which never looks like them. The zero page has incarnation 0.
NONE, MARKER = 1, 2
#: Names begin here.
FIRST_NAME = 16

Words = tuple[int, ...]


class Namer:
    """Names of stamps, in the order in which they come."""

    def __init__(self, prefix: Sequence[Op], done: Sequence[Observation]) -> None:
        self._names: dict[int, int] = {}
        for op, seen in zip(prefix, done, strict=True):
            if op.accesses:
                self.name(seen.value)
                self.name(seen.incarnation)

    def name(self, stamp: int) -> int:
        """Of a stamp. Nothing was stored, and the zero page: 0."""
        if stamp == 0:
            return 0
        kind = stamp >= STAMP_BIT
        return self._names.setdefault(stamp, FIRST_NAME + 2 * len(self._names) + kind)


def words_of(outcome: Outcome, branches: Sequence[Sequence[Op]], prefix: Sequence[Op], done: Sequence[Observation]) -> Words:
    """``done``: what the prefix returned."""
    namer = Namer(prefix, done)
    words: list[int] = []
    for ops, row in zip(branches, outcome.results, strict=True):
        for op, seen in zip(ops, row, strict=True):
            words += _result_words(op, seen, namer)
    for entry in outcome.final:
        words += (NONE, 0) if entry is None else (MARKER, 0) if entry == GUARD[:2] else map(namer.name, entry)
    return tuple(words)


def _result_words(op: Op, seen: Observation, namer: Namer) -> Iterator[int]:
    yield seen.status & (1 << 64) - 1
    if op.accesses:
        yield namer.name(seen.value)
        yield namer.name(seen.incarnation)
    elif op.verb is Verb.POPULATE:
        yield seen.value
    elif op.verb is Verb.WALK:
        yield seen.present
        yield from (seen.bits >> 64 * at & (1 << 64) - 1 for at in range(bit_words(op)))


def bit_words(op: Op) -> int:
    """Words for the bits of a walk; its range may be none."""
    return -(-max(0, op.end - op.start) // 64)


def lines_of(words: Sequence[int], branches: Sequence[Sequence[Op]], pages: Sequence[int]) -> list[str]:
    """An outcome as a reader sees it: a line for each branch, and one for the pages at the end."""
    rest = iter(words)
    lines = [f"t{b}: {'; '.join(_result_text(op, rest) for op in ops)}" for b, ops in enumerate(branches) if ops]
    ends = [f"{page_text(page)} {_page_text(next(rest), next(rest))}" for page in pages]
    return [*lines, f"end: {', '.join(ends)}"] if ends else lines


def _result_text(op: Op, rest: Iterator[int]) -> str:
    status = next(rest)
    status -= status >> 63 << 64
    text = f"{op} = {status}"
    if op.accesses:
        value, incarnation = next(rest), next(rest)
        return text if status else f"{op} = {_frame_text(incarnation, value)}"
    if op.verb is Verb.POPULATE:
        return f"{text}, {next(rest)} pages"
    if op.verb is Verb.WALK:
        next(rest)
        bits = sum(next(rest) << 64 * at for at in range(bit_words(op)))
        there = [page_text(op.start + i) for i in range(bits.bit_length()) if bits >> i & 1]
        return text if status else f"{op} = {' '.join(there) or 'no pages'}"
    return text


def _page_text(incarnation: int, value: int) -> str:
    if incarnation in (NONE, MARKER):
        return "none" if incarnation == NONE else "a guard marker"
    return _frame_text(incarnation, value)


def _frame_text(incarnation: int, value: int) -> str:
    if incarnation == 0 and value == 0:
        return "the zero page"
    content = "fresh" if value == incarnation else f"value {value - FIRST_NAME >> 1}"
    return f"frame {incarnation - FIRST_NAME >> 1}, {content}"
