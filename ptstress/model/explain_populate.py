"""The atomic steps of a populate beside others, for ``explain_moves``.

    populate      takes mmap_lock; for one page after the other: faults in what is missing, as often as it is taken away
                  again, and sees that it is there; returns. At a guard marker it fails. Lockless: it looks for the VMA of a page
                  when it comes to it, and perhaps again when it has faulted the page in
"""

from collections.abc import Iterator
from errno import EFAULT, EINVAL, ENOMEM

from ptstress.model.explain_case import FRESH, GUARD, READ_WRITE, READABLE, UNBOUND, UNMAPPED, ZERO_PAGE, Case, Task
from ptstress.model.explain_state import Move, State, replaced


def populate_steps(case: Case, state: State, b: int, task: Task) -> Iterator[Move]:
    """What ``task`` of branch ``b``, which has mmap_lock if it has begun, can do next; its return is not among it."""
    at = state.phase[b]
    advanced = state._replace(phase=replaced(state.phase, b, at + 1))
    if at == 0:
        if case.lockless or task.seen.status == _status(case, state, task):
            yield advanced, (b, task.index, "begins", -1)
        return
    cell = task.cells[at - 1]
    frame, allows = state.cells[cell], state.segments[case.segment_of[cell]]
    gives_up = case.lockless and task.seen.status in (-ENOMEM, -EINVAL) and at == len(task.cells)
    if gives_up and task.seen.status == _status(case, state, task):
        yield advanced, (b, task.index, "gives up at", cell)
    if allows == UNMAPPED or (task.op.arg and allows != READ_WRITE):
        return
    fails = task.seen.status == -EFAULT and at == len(task.cells)
    if frame == GUARD:
        if fails:
            yield advanced, (b, task.index, "fails at", cell)
    elif frame is None or (task.op.arg and frame[0] == ZERO_PAGE):
        new = (UNBOUND, FRESH, 0) if task.op.arg else (ZERO_PAGE, 0, 0)
        yield state._replace(cells=replaced(state.cells, cell, new)), (b, task.index, "faults in", cell)
    elif not fails and not gives_up:
        # For writing it counts as written.
        lazy = state.lazy - {cell} if task.op.arg else state.lazy
        yield advanced._replace(lazy=lazy), (b, task.index, "finds", cell)


def _status(case: Case, state: State, task: Task) -> int | None:
    """How it ends if it brings in as many pages as were seen. ``None``: it would go on."""
    page = task.op.start + task.seen.value
    if page == task.op.end:
        return 0
    allows = state.segments[case.segment(page)]
    if allows == UNMAPPED or (case.may_fail and task.seen.status == -ENOMEM):
        return -ENOMEM
    if task.op.arg and allows == READABLE:
        return -EINVAL
    return -EFAULT if task.seen.status == -EFAULT else None
