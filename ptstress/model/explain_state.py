"""A moment of a concurrent run, for the search in ``explain``."""

from typing import NamedTuple

from ptstress.model.explain_case import Frame, Task
from ptstress.vocabulary import GUARDS, Verb

RETURNED = -1


class Dead(NamedTuple):
    """A cleared frame. ``killer``: the branch that cleared it, or ``RETURNED``. ``users``: branches that may use it.

    ``clean``: memory pressure cleared it, so that no TLB had D for it but those that a free has not flushed yet.
    """

    cell: int
    frame: Frame
    killer: int
    users: int
    clean: bool = False


class State(NamedTuple):
    """A moment. ``pos``, ``phase``: by branch: current operation, atomic steps of it that are done.

    ``lazy``: cells whose frame a free has marked. ``late``: (cell, branch): this write in flight needs no permission.
    """

    pos: tuple[int, ...]
    phase: tuple[int, ...]
    cells: tuple[Frame | None, ...]
    segments: tuple[int, ...]
    dead: frozenset[Dead]
    lazy: frozenset[int]
    late: frozenset[tuple[int, int]] = frozenset()


#: What was done: branch, operation, words, cell or -1.
Step = tuple[int, int, str, int]
Move = tuple[State, Step]


def has_visited(state: State, b: int, task: Task, cell: int) -> bool:
    """Whether the range operation ``task`` of branch ``b`` is past ``cell``."""
    return state.pos[b] > task.index or (state.pos[b] == task.index and task.cells.index(cell) < state.phase[b])


def last_phase(task: Task) -> int:
    """Atomic steps of a range operation before it returns."""
    return len(task.cells) + (task.op.verb in (Verb.MUNMAP, Verb.POPULATE, *GUARDS))


def overlap(a: Task, b: Task) -> bool:
    """Whether two operations share a page."""
    return a.op.start < b.op.end and b.op.start < a.op.end


def replaced(items: tuple, i: int, item: object) -> tuple:
    """``items`` with another one at ``i``."""
    return items[:i] + (item,) + items[i + 1 :]
