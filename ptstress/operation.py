"""One operation on an address space, as every part of the project passes it around.

Pages are half-open, ``[start, end)``, in pages of 4 KiB. ``read``, ``write`` and ``gup_fast`` concern one page. The
engine gets operations as arrays of ``OP_DTYPE``. Page numbers are global: see ``ptstress.pages``.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ptstress.pages import mm_of, page_text, range_text
from ptstress.vocabulary import ACCESSES, MM_SHIFT, OP_DTYPE, WHOLE_MM, Verb

#: Value of ``arg`` for ``mmap`` and ``mprotect``.
READ_ONLY, WRITABLE = 0, 1
#: Verbs that say whether their pages may be written.
PROTECTING = (Verb.MMAP, Verb.MPROTECT)
#: Value of ``arg`` for ``gup_fast`` and ``populate``.
LOAD, STORE = 0, 1
#: Value of ``arg`` for ``walk``.
AWAKE, SLEEPING = 0, 1
#: Verbs whose ``arg`` says how they do it, and whose event keeps it.
WITH_MODE = (*PROTECTING, Verb.GUP_FAST, Verb.POPULATE)
#: How values of ``arg`` are written in a program; the usual one of a verb is not.
_MODES = {
    (Verb.MMAP, READ_ONLY): ", ro", (Verb.MPROTECT, READ_ONLY): ", ro", (Verb.MPROTECT, WRITABLE): ", rw",
    (Verb.GUP_FAST, STORE): ", write", (Verb.POPULATE, STORE): ", write", (Verb.WALK, SLEEPING): ", sleep",
}


class Op(NamedTuple):
    """``verb`` on pages ``[start, end)``. ``arg``: mmap, mprotect: 1 if writable; gup_fast: 1 for a store, populate: to write;
    walk: to sleep; otherwise 0."""

    verb: Verb
    start: int
    end: int
    arg: int = 0

    def __str__(self) -> str:
        """As in a program: ``write(p3)``, ``mmap(m1:p0..p8, ro)``."""
        if self.verb in WHOLE_MM:
            return f"{self.verb.label}(m{self.mm})"
        where = page_text(self.start) if self.end == self.start + 1 else range_text(self.start, self.end)
        return f"{self.verb.label}({where}{_MODES.get((self.verb, self.arg), '')})"

    @property
    def accesses(self) -> bool:
        """Whether it loads from its page or stores to it."""
        return self.verb in ACCESSES

    @property
    def writes(self) -> bool:
        """Whether it stores to its page."""
        return self.verb is Verb.WRITE or (self.verb is Verb.GUP_FAST and bool(self.arg & STORE))

    @property
    def mm(self) -> int:
        """The mm that it works on."""
        return mm_of(self.start)

    def moved(self, mms: int) -> "Op":
        """The same, ``mms`` mms further on; back for a negative number."""
        return self._replace(start=self.start + (mms << MM_SHIFT), end=self.end + (mms << MM_SHIFT))


def read(page: int) -> Op:
    """Load from a page."""
    return Op(Verb.READ, page, page + 1)


def write(page: int) -> Op:
    """Store to a page; the engine chooses a value that is unique in the run."""
    return Op(Verb.WRITE, page, page + 1)


def walk(start: int, end: int, sleep: bool = False) -> Op:
    """Look which pages of ``[start, end)`` are present; ``sleep``: sleep in each table."""
    return Op(Verb.WALK, start, end, SLEEPING if sleep else AWAKE)


def mmap(start: int, end: int, writable: bool = True) -> Op:
    """Map ``[start, end)``, private and anonymous, in place of what is there."""
    return Op(Verb.MMAP, start, end, WRITABLE if writable else READ_ONLY)


def mprotect(start: int, end: int, writable: bool = False) -> Op:
    """Let ``[start, end)`` be written, or not."""
    return Op(Verb.MPROTECT, start, end, WRITABLE if writable else READ_ONLY)


def populate(start: int, end: int, write: bool = False) -> Op:
    """Fault ``[start, end)`` in, for reading or for writing."""
    return Op(Verb.POPULATE, start, end, STORE if write else LOAD)


def guard_install(start: int, end: int) -> Op:
    """``madvise(MADV_GUARD_INSTALL)`` of ``[start, end)``: each touch of it fails."""
    return Op(Verb.GUARD_INSTALL, start, end)


def guard_remove(start: int, end: int) -> Op:
    """``madvise(MADV_GUARD_REMOVE)`` of ``[start, end)``."""
    return Op(Verb.GUARD_REMOVE, start, end)


def age(start: int, end: int) -> Op:
    """Look which pages of ``[start, end)`` were accessed since they were aged last."""
    return Op(Verb.AGE, start, end)


def munmap(start: int, end: int) -> Op:
    """Unmap ``[start, end)``."""
    return Op(Verb.MUNMAP, start, end)


def dontneed(start: int, end: int) -> Op:
    """``madvise(MADV_DONTNEED)`` of ``[start, end)``."""
    return Op(Verb.DONTNEED, start, end)


def free(start: int, end: int) -> Op:
    """``madvise(MADV_FREE)`` of ``[start, end)``."""
    return Op(Verb.FREE, start, end)


def discard(start: int, end: int) -> Op:
    """Memory pressure on ``[start, end)``: pages that are free and clean since then go."""
    return Op(Verb.DISCARD, start, end)


def exit_mm(mm: int = 0) -> Op:
    """End ``mm``: all of it is unmapped, and it begins again. Needs a machine of several mms."""
    return Op(Verb.EXIT, mm << MM_SHIFT, mm << MM_SHIFT)


def scan(mm: int = 0) -> Op:
    """One turn of a scanner that looks for tables to free, by a thread of ``mm``; it may look at any mm."""
    return Op(Verb.SCAN, mm << MM_SHIFT, mm << MM_SHIFT)


def gup_fast(page: int, store: bool = False) -> Op:
    """Pin a page without a lock, load from it or store to it through the pin, and let it go."""
    return Op(Verb.GUP_FAST, page, page + 1, STORE if store else LOAD)


def op_array(ops: Iterable[Op], worker: int = 0) -> np.ndarray:
    """Operations as the engine takes them, all of one worker."""
    rows = [(op.start, op.end, op.arg, op.verb, 0, worker) for op in ops]
    return np.array(rows, dtype=OP_DTYPE)


def ops_of(array: np.ndarray) -> list[Op]:
    """The operations of an array."""
    columns = (array[name].tolist() for name in ("verb", "start", "end", "arg"))
    return [Op(Verb(verb), start, end, arg) for verb, start, end, arg in zip(*columns, strict=True)]
