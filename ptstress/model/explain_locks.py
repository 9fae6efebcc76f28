"""Who waits for whom in a concurrent run: what mmap_lock and the locks of VMAs say of the steps in ``explain_moves``."""

from collections.abc import Iterator

from ptstress.model.explain_case import Case, Task
from ptstress.model.explain_state import State, last_phase, overlap
from ptstress.vocabulary import GUARDS, Verb

#: Verbs that hold mmap_lock for reading all the time.
_READERS = (Verb.POPULATE, *GUARDS)


def is_hidden(case: Case, state: State, b: int, task: Task) -> bool:
    """An mmap over pages of ``task`` is under way: a fault, a dontneed and a free wait for it."""
    return any(t.op.verb is Verb.MMAP and overlap(t, task) for t in _in_progress(case, state, b, task))


def is_mapping(case: Case, state: State, b: int, task: Task) -> bool:
    """An mmap is under way: who wants mmap_lock for reading waits."""
    return any(t.op.verb is Verb.MMAP for t in _in_progress(case, state, b, task))


def is_excluded(case: Case, state: State, b: int, task: Task) -> bool:
    """One mmap or munmap at a time, none beside who reads mmap_lock, or a dontneed or free of its pages."""
    return any(
        t.op.verb in (Verb.MMAP, Verb.MUNMAP, *_READERS) or (t.op.verb in (Verb.DONTNEED, Verb.FREE) and overlap(t, task))
        for t in _in_progress(case, state, b, task)
    )


def _in_progress(case: Case, state: State, b: int, task: Task) -> Iterator[Task]:
    """Range operations of other branches than ``b``, in the mm of ``task``, that have begun and not yet visited all their pages."""
    for c, tasks in enumerate(case.branches):
        if c != b and state.phase[c] and state.phase[c] < last_phase(other := tasks[state.pos[c]]) and other.op.mm == task.op.mm:
            yield other
