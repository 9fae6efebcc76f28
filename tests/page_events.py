"""Single events for histories: the lines that one operation leaves in its worker's ring."""

from collections.abc import Iterable

import numpy as np

from ptstress.vocabulary import EVENT_DTYPE, Verb

FRESH = 1 << 63
"""Top bit of an incarnation; ``FRESH | n`` is the n-th."""


def event(verb: Verb, t0: int, t1: int, start: int, end: int | None = None, *, inc: int = 0, value: int = 0,
          status: int = 0, aux: int = 0, present: Iterable[int] | None = None) -> np.ndarray:
    """Lines of one operation; ``present``: pages that a walk saw."""
    end = start + 1 if end is None else end
    lines = 0 if present is None else (end - start + 511) // 512
    rows = np.zeros(1 + lines, EVENT_DTYPE)
    if lines:
        bits = np.zeros(lines * 512, np.uint8)
        seen = [page - start for page in present]
        bits[seen] = 1
        rows[1:] = np.packbits(bits, bitorder="little").view(EVENT_DTYPE)
        aux = len(seen)
    rows[0] = (t0, t1, start, end, value, inc, 0, status, verb, lines, aux)
    return rows


def mmap(t0: int, t1: int, start: int, end: int, writable: bool = True, status: int = 0) -> np.ndarray:
    return event(Verb.MMAP, t0, t1, start, end, aux=int(writable), status=status)


def munmap(t0: int, t1: int, start: int, end: int, status: int = 0) -> np.ndarray:
    return event(Verb.MUNMAP, t0, t1, start, end, status=status)


def mprotect(t0: int, t1: int, start: int, end: int, writable: bool, status: int = 0) -> np.ndarray:
    return event(Verb.MPROTECT, t0, t1, start, end, aux=int(writable), status=status)


def populate(t0: int, t1: int, start: int, end: int, done: int, write: bool = False, status: int = 0) -> np.ndarray:
    return event(Verb.POPULATE, t0, t1, start, end, value=done, aux=int(write), status=status)


def age(t0: int, t1: int, start: int, end: int, young: Iterable[int]) -> np.ndarray:
    return event(Verb.AGE, t0, t1, start, end, present=list(young))


def dontneed(t0: int, t1: int, start: int, end: int | None = None, status: int = 0) -> np.ndarray:
    return event(Verb.DONTNEED, t0, t1, start, end, status=status)


def free(t0: int, t1: int, start: int, end: int | None = None, status: int = 0) -> np.ndarray:
    return event(Verb.FREE, t0, t1, start, end, status=status)


def discard(t0: int, t1: int, start: int, end: int | None = None) -> np.ndarray:
    return event(Verb.DISCARD, t0, t1, start, end)


def guard_install(t0: int, t1: int, start: int, end: int | None = None, status: int = 0) -> np.ndarray:
    return event(Verb.GUARD_INSTALL, t0, t1, start, end, status=status)


def guard_remove(t0: int, t1: int, start: int, end: int | None = None, status: int = 0) -> np.ndarray:
    return event(Verb.GUARD_REMOVE, t0, t1, start, end, status=status)


def read(t0: int, t1: int, page: int, inc: int = 0, value: int = 0, status: int = 0) -> np.ndarray:
    """``inc`` counts from 1; 0 is the zero page. Without a value a frame has its stamp."""
    return event(Verb.READ, t0, t1, page, inc=inc and FRESH | inc, value=value or (inc and FRESH | inc), status=status)


def write(t0: int, t1: int, page: int, inc: int = 0, value: int = 0, status: int = 0) -> np.ndarray:
    return event(Verb.WRITE, t0, t1, page, inc=inc and FRESH | inc, value=value, status=status)


def gup_fast(t0: int, t1: int, page: int, inc: int = 0, value: int = 0, store: bool = False) -> np.ndarray:
    value = value or (inc and FRESH | inc)
    return event(Verb.GUP_FAST, t0, t1, page, inc=inc and FRESH | inc, value=value, aux=int(store))


def walk(t0: int, t1: int, start: int, end: int, present: Iterable[int]) -> np.ndarray:
    return event(Verb.WALK, t0, t1, start, end, present=list(present))
