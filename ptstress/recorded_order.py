"""In which order operations of a window began, ended and got their locks, as marks for the policy ``recorded``."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ptstress.window import Recorded, Window

#: Numbers as in cy/explore/recorded.pxd: what a mark is, below the fibre's number.
BEGIN, END, LOCK = range(3)
_BITS = 2
MAX_FIBRES = 8
MOST_MARKS = 1 << 12


class Acquisition(NamedTuple):
    """A lock that somebody waited for, if need be, and got: who, in which of its operations, when."""

    worker: int
    seq: int
    stamp: int


def by_operation(acquisitions: Sequence[Acquisition]) -> dict[tuple[int, int], list[int]]:
    """Stamps by worker and operation."""
    found: dict[tuple[int, int], list[int]] = {}
    for worker, seq, stamp in acquisitions:
        found.setdefault((worker, seq), []).append(stamp)
    return found


def order_of(recorded: Recorded, window: Window, acquisitions: Mapping[tuple[int, int], Sequence[int]]) -> bytes:
    """One byte for each mark. Locks that one worker got one after the other, with nothing of others between, are one mark:
    the operation has fewer pages in the small program, and takes fewer locks.
    """
    marks: list[tuple[int, int, int]] = []
    for fibre, branch in enumerate(window.branches[:MAX_FIBRES]):
        for i in branch:
            marks += [(int(recorded.t0[i]), BEGIN, fibre), (int(recorded.t1[i]), END, fibre)]
            who = int(recorded.worker[i]), int(recorded.ops["seq"][i])
            marks += [(stamp, LOCK, fibre) for stamp in acquisitions.get(who, ())]
    marks.sort()
    kept = [mark for i, mark in enumerate(marks) if mark[1] != LOCK or i == 0 or mark[1:] != marks[i - 1][1:]]
    return bytes(fibre << _BITS | kind for _, kind, fibre in kept[:MOST_MARKS])
