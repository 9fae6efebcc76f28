"""The atomic steps of a guard_install and a guard_remove beside others, for ``explain_moves``.

    guard_install takes mmap_lock and finds the VMAs; puts a marker into one page after the other. When it meets a page that is
                  there it goes through the range, clears what is there, and begins again; flushes and returns
    guard_remove  takes mmap_lock and finds the VMAs; takes the marker out of one page after the other; returns

Which VMAs the range has is not known here, so that a page of another VMA than the one that was met may be cleared or not.
"""

from collections.abc import Callable, Iterator
from errno import ENOMEM

from ptstress.model.explain_case import GUARD, UNMAPPED, Case, Task, is_present
from ptstress.model.explain_locks import finds
from ptstress.model.explain_state import Move, State, last_phase, replaced
from ptstress.vocabulary import Verb

#: Clears a cell for an operation of a branch.
Clear = Callable[[State, int, Task, int], State]


def guard_steps(case: Case, state: State, b: int, task: Task, clear: Clear) -> Iterator[Move]:
    """What ``task`` of branch ``b``, which has mmap_lock if it has begun, can do next; its return is not among it.

    Its phase is negative while it clears: -1 before the first page.
    """
    at = state.phase[b]
    if at == 0:
        if finds(case, state, b, task) or _may_give_up(case, task):
            yield _to(state, b, 1), (b, task.index, "begins", -1)
    elif at < 0:
        yield from _zap(case, state, b, task, clear)
    else:
        yield from _visit(case, state, b, task)
        if _may_give_up(case, task):
            yield _to(state, b, last_phase(task)), (b, task.index, "gives up", -1)


def eager_guard_step(case: Case, state: State, b: int, task: Task) -> Move | None:
    """A guard_remove passes over what no other branch can guard any more."""
    if task.op.verb is not Verb.GUARD_REMOVE:
        return None
    cell = task.cells[state.phase[b] - 1]
    if state.cells[cell] == GUARD or case.remains(case.last_guard, cell, state.pos):
        return None
    return _to(state, b, state.phase[b] + 1), (b, task.index, "passes over", cell)


def _may_give_up(case: Case, task: Task) -> bool:
    """For want of a table."""
    return case.may_fail and task.op.verb is Verb.GUARD_INSTALL and task.seen.status == -ENOMEM


def _visit(case: Case, state: State, b: int, task: Task) -> Iterator[Move]:
    cell = task.cells[state.phase[b] - 1]
    there, after = state.cells[cell], _to(state, b, state.phase[b] + 1)
    if state.segments[case.segment_of[cell]] == UNMAPPED:
        yield after, (b, task.index, "passes over", cell)
    elif task.op.verb is Verb.GUARD_REMOVE:
        if there == GUARD:
            after = after._replace(cells=replaced(state.cells, cell, None))
        yield after, (b, task.index, "unguards", cell)
    elif is_present(there):
        yield _to(state, b, -1), (b, task.index, "finds something at", cell)
    else:
        yield after._replace(cells=replaced(state.cells, cell, GUARD)), (b, task.index, "guards", cell)


def _zap(case: Case, state: State, b: int, task: Task, clear: Clear) -> Iterator[Move]:
    done = -state.phase[b] - 1
    if done == len(task.cells):
        yield _to(state, b, 1), (b, task.index, "begins again", -1)
        return
    cell, after = task.cells[done], _to(state, b, state.phase[b] - 1)
    if is_present(state.cells[cell]) and state.segments[case.segment_of[cell]] != UNMAPPED:
        yield clear(after, b, task, cell), (b, task.index, "clears", cell)
    yield after, (b, task.index, "passes over", cell)


def _to(state: State, b: int, phase: int) -> State:
    return state._replace(phase=replaced(state.phase, b, phase))
