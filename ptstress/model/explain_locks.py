"""Who waits for whom in a concurrent run: what mmap_lock and the locks of VMAs say of the steps in ``explain_moves``.

Where nobody locks VMAs (``Case.lockless``) only mmap, munmap and mprotect wait for each other, and faults for an mmap; range
operations look at one VMA after the other.
"""

from collections.abc import Iterator
from errno import ENOMEM

from ptstress.model.explain_case import UNMAPPED, Case, Task
from ptstress.model.explain_state import State, last_phase, overlap
from ptstress.vocabulary import GUARDS, Verb

#: Verbs that hold mmap_lock for reading all the time.
_READERS = (Verb.POPULATE, *GUARDS)
_MAPPERS = (Verb.MMAP, Verb.MUNMAP)


def is_hidden(case: Case, state: State, b: int, task: Task) -> bool:
    """An mmap over pages of ``task`` is under way: a fault, a dontneed and a free wait for it."""
    return any(t.op.verb is Verb.MMAP and overlap(t, task) for t in _in_progress(case, state, b, task))


def is_mapping(case: Case, state: State, b: int, task: Task) -> bool:
    """An mmap is under way: who wants mmap_lock for reading waits."""
    return not case.lockless and any(t.op.verb is Verb.MMAP for t in _in_progress(case, state, b, task))


def finds(case: Case, state: State, b: int, task: Task) -> bool:
    """Whether an madvise that looks for its VMAs now finds what was seen.

    Lockless: a range that others map or unmap at the same time is not seen at one moment, so that either status is right.
    """
    if case.lockless and _is_mapped_beside(case, b, task):
        return task.seen.status in (0, -ENOMEM)
    return task.seen.status == (-ENOMEM if UNMAPPED in state.segments[slice(*task.segments)] else 0)


def _is_mapped_beside(case: Case, b: int, task: Task) -> bool:
    return any(
        other.op.verb in _MAPPERS and overlap(other, task) and other.index >= task.needs[c] and other.needs[b] <= task.index
        for c, tasks in enumerate(case.branches) if c != b
        for other in tasks
    )


def is_excluded(case: Case, state: State, b: int, task: Task) -> bool:
    """One mmap or munmap at a time, none beside who reads mmap_lock, or a dontneed or free of its pages."""
    return any(t.op.verb in _MAPPERS or (not case.lockless and _holds(t, task)) for t in _in_progress(case, state, b, task))


def _holds(task: Task, mapper: Task) -> bool:
    """Whether ``task``, which is under way, has a lock that ``mapper`` needs."""
    return task.op.verb in _READERS or (task.op.verb in (Verb.DONTNEED, Verb.FREE) and overlap(task, mapper))


def _in_progress(case: Case, state: State, b: int, task: Task) -> Iterator[Task]:
    """Range operations of other branches than ``b``, in the mm of ``task``, that have begun and not visited all their pages."""
    for c, tasks in enumerate(case.branches):
        if c != b and state.phase[c] and state.phase[c] < last_phase(other := tasks[state.pos[c]]) and other.op.mm == task.op.mm:
            yield other
