"""What a small program may come to: all its outcomes, over all interleavings of the model's atomic steps.

An outcome is what each operation of the branches returned, and the pages at the end. The steps are those of ``explain_moves``;
but while ``explain`` is given what was seen and looks for one order of steps, here nothing was seen yet, and every order
is followed. What an operation returns is decided with the step that first depends on it: for an access its last step, for a
walk each page, for everything else the first step.

When an operation ran is no part of an outcome, so that real-time order rules none out: the set is what ``explain`` explains
with ``realtime=False``. It may hold more than an implementation can show, and never less; the oracles, which know the times,
judge the rest.

Nodes of the search are merged if state and results are the same. Over the budget there is no set at all.
"""

from collections.abc import Iterator, Sequence
from errno import EFAULT, EINVAL, ENOMEM, ESRCH
from itertools import product
from typing import NamedTuple

from ptstress.model.explain_case import FRESH, GUARD, UNBOUND, ZERO_PAGE, Case, Frame, Task
from ptstress.model.explain_moves import Moves
from ptstress.model.explain_state import State, overlap
from ptstress.model.result import STAMP_BIT, Observation
from ptstress.model.space import AddressSpace
from ptstress.model.spaces import AddressSpaces
from ptstress.operation import Op
from ptstress.vocabulary import GUARDS, Verb

BUDGET_STATES = 5_000
#: Of one walk or populate.
MAX_PAGES = 64


class Outcome(NamedTuple):
    """``results``: for each branch. ``final``: for each of ``Allowed.pages``: (incarnation, value), ``GUARD[:2]``, or ``None``.

    Times are 0. Stamps are the model's own: what counts is which of them are equal.
    """

    results: tuple[tuple[Observation, ...], ...]
    final: tuple[tuple[int, int] | None, ...]


class Allowed(NamedTuple):
    """``outcomes``: all that the model allows, or none of them and ``why``. ``pages``: that can be present, ascending.

    ``states``: that the search went through.
    """

    outcomes: frozenset[Outcome]
    pages: tuple[int, ...]
    states: int
    why: str = ""


class _Node(NamedTuple):
    """``done``: by branch: what its operations returned; the last of them may still run.

    ``bits``: by branch: that a walk that runs has seen. ``left``: by branch: what an access that has faulted may still return,
    ``None`` before that.
    """

    state: State
    done: tuple[tuple[Observation, ...], ...]
    bits: tuple[tuple[int, ...], ...]
    left: tuple[frozenset[Observation] | None, ...]


def prepared(space: AddressSpace | AddressSpaces, prefix: Sequence[Op]) -> list[Observation]:
    """Do ``prefix`` in ``space``, with stamps that no two operations share. Returns what it returned."""
    done = []
    for number, op in enumerate(prefix):
        result = space.apply(op)
        value, incarnation = result.value, result.incarnation
        if op.accesses and result.status == 0:
            incarnation = _label(number) if result.fresh else incarnation
            value = _value(number) if op.writes else incarnation if result.fresh else value
            if op.writes or result.fresh:
                space.learn(op.start, incarnation, value)
        done.append(Observation(result.status, value, incarnation, result.bits.bit_count(), result.bits))
    return done


def allowed_outcomes(
    space: AddressSpace | AddressSpaces, branches: Sequence[Sequence[Op]], *, first: int = 0, lockless: bool = False,
    budget_states: int = BUDGET_STATES,
) -> Allowed:
    """All outcomes of ``branches`` that start together from ``space``.

    ``first``: stamps are numbered from it on; so many operations have been ``prepared``. ``lockless``: as in ``explain``.
    Allocations do not fail.
    """
    long = next((op for ops in branches for op in ops
                 if op.verb in (Verb.WALK, Verb.POPULATE) and op.end - op.start > MAX_PAGES), None)
    if long is not None:
        return Allowed(frozenset(), (), 0, f"{long} is of more than {MAX_PAGES} pages")
    return _Search(_OpenCase(space, branches, first, lockless)).run(budget_states)


def _label(number: int) -> int:
    return STAMP_BIT | number + 1


def _value(number: int) -> int:
    return number + 1


class _OpenCase(Case):
    """A case of which nothing was seen. What has not been decided yet counts as an operation that succeeds, and does most."""

    def __init__(
        self, space: AddressSpace | AddressSpaces, branches: Sequence[Sequence[Op]], first: int, lockless: bool
    ) -> None:
        numbers = iter(range(first, first + sum(map(len, branches))))
        most = [[self._most(op, next(numbers)) for op in ops] for ops in branches]
        super().__init__(space, True, branches, most, None, realtime=False, may_fail=False, lockless=lockless)
        # Whoever reads a zero page may leave it there.
        self.final = ((ZERO_PAGE, 0),) * len(self.pages)
        self.undecided = self.branches
        self._most_seen = most
        self._exits = {op.mm for ops in branches for op in ops if op.verb is Verb.EXIT}
        self._tasks: dict[tuple[int, int, Observation], Task] = {}

    @staticmethod
    def _most(op: Op, number: int) -> Observation:
        if op.accesses:
            return Observation(0, _value(number) if op.writes else _label(number), _label(number))
        return Observation(0, op.end - op.start if op.verb is Verb.POPULATE else 0)

    def task(self, b: int, index: int, seen: Observation) -> Task:
        """The operation with what it returns."""
        key = (b, index, seen)
        if key not in self._tasks:
            op = self._ops[b][index]
            self._tasks[key] = self._task(op, seen, b, index, self._most_seen, False)
        return self._tasks[key]

    def returns(self, b: int, index: int) -> list[Observation]:
        """What an operation that is no access and no walk may return, whatever the others do."""
        op = self._ops[b][index]
        fixed = self._static_status(op)
        found = [Observation(fixed)] if fixed is not None else [Observation(*r) for r in self._range_results(op)]
        return found + self.exiting(op)

    def exiting(self, op: Op) -> list[Observation]:
        """That the mm is exiting, if it may be."""
        return [Observation(-ESRCH)] if op.mm in self._exits else []

    def has_exited(self, done: Sequence[Sequence[Observation]]) -> bool:
        """Whether every mm that was found exiting was exited."""
        ended = [(op, o.status) for ops, row in zip(self._ops, done, strict=True) for op, o in zip(ops, row, strict=True)]
        over = {op.mm for op, status in ended if op.verb is Verb.EXIT and status == 0}
        return all(op.mm in over for op, status in ended if status == -ESRCH)

    def _range_results(self, op: Op) -> Iterator[tuple[int, int]]:
        if op.verb in (Verb.DONTNEED, Verb.FREE, Verb.MPROTECT, *GUARDS):
            yield -ENOMEM, 0
        if op.verb is Verb.POPULATE:
            yield 0, op.end - op.start
            errors = (ENOMEM, EFAULT, EINVAL) if op.arg else (ENOMEM, EFAULT)
            yield from ((-errno, pages) for pages in range(op.end - op.start) for errno in errors)
        else:
            yield 0, 0

    def accessed(self, state: State, b: int, task: Task) -> list[Observation]:
        """What an access that ends next may return."""
        own = self.undecided[b][task.index].seen
        found = [Observation(-EFAULT)]
        cell = task.cells[0]
        frames: set[Frame | None] = {state.cells[cell], (UNBOUND, FRESH, 0), *(d.frame for d in state.dead if d.cell == cell)}
        for frame in frames - {None, GUARD}:
            incarnation = own.incarnation if frame[0] == UNBOUND else frame[0]
            value = own.value if task.op.writes else incarnation if frame[1] == FRESH else frame[1]
            found.append(Observation(0, value, incarnation))
        if not task.op.writes:
            found.append(Observation(0))            # perhaps of a zero page that has to come first
        return list(dict.fromkeys(found))


class _Search:
    def __init__(self, case: _OpenCase) -> None:
        self.case = case
        self.moves = Moves(case)
        self._rivals = [[self._last_rivals(b, task) for task in tasks] for b, tasks in enumerate(case.branches)]

    def run(self, budget_states: int) -> Allowed:
        nobody = ((),) * len(self.case.branches)
        todo = [_Node(self.moves.start(), nobody, nobody, (None,) * len(nobody))]
        visited = set(todo)
        outcomes: set[Outcome] = set()
        while todo:
            node = todo.pop()
            after = self._after(node)
            if after is None:
                if self.case.has_exited(node.done):
                    outcomes.update(self._outcomes(node))
                continue
            for successor in after:
                if successor not in visited:
                    if len(visited) >= budget_states:
                        why = f"more than {budget_states:,} states"
                        return Allowed(frozenset(), tuple(self.case.pages), len(visited), why)
                    visited.add(successor)
                    todo.append(successor)
        return Allowed(frozenset(outcomes), tuple(self.case.pages), len(visited))

    def _after(self, node: _Node) -> list[_Node] | None:
        """What may come next; ``None``: all operations have returned."""
        state, case = node.state, self.case
        going = [b for b, tasks in enumerate(case.undecided) if state.pos[b] < len(tasks)]
        if not going:
            return None
        case.branches = [
            tuple(case.task(b, i, seen) for i, seen in enumerate(node.done[b])) + tasks[len(node.done[b]) :]
            for b, tasks in enumerate(case.undecided)
        ]
        for b in going:
            if len(node.done[b]) > state.pos[b]:
                move = self.moves.eager_of(state, b, case.branches[b][state.pos[b]])
                if move is not None:
                    return [node._replace(state=move[0])]
        found: list[_Node] = []
        for b in going:
            mine = list(dict.fromkeys(self._of(node, b)))
            # Nobody else comes near its pages any more: whether it goes on now or later makes no difference.
            if mine and all(at > last for at, last in zip(state.pos, self._rivals[b][state.pos[b]], strict=True)):
                return mine
            found += mine
        return found

    def _of(self, node: _Node, b: int) -> Iterator[_Node]:
        """What branch ``b`` may do next."""
        state, case = node.state, self.case
        index = state.pos[b]
        if len(node.done[b]) > index:
            for after, _ in self.moves.of(state, b, case.branches[b][index]):
                yield node._replace(state=after)
            return
        task = case.undecided[b][index]
        if task.op.accesses:
            yield from self._access(node, b, task)
        elif task.op.verb is Verb.WALK and not task.inert:
            yield from self._walk(node, b, task)
        else:
            yield from self._decide(node, b, index, case.returns(b, index))

    def _decide(self, node: _Node, b: int, index: int, results: Sequence[Observation]) -> Iterator[_Node]:
        """The first step of an operation that returns one of ``results``."""
        for seen in results:
            for after, _ in self.moves.of(node.state, b, self.case.task(b, index, seen)):
                yield node._replace(state=after, done=_put(node.done, b, (*node.done[b], seen)))

    def _access(self, node: _Node, b: int, task: Task) -> Iterator[_Node]:
        """A step that does not end it may be one of an access that returns this, but not of one that returns that."""
        if node.left[b] is None:
            yield from self._decide(node, b, task.index, self.case.exiting(task.op))
        may = [seen for seen in self.case.accessed(node.state, b, task) if not node.left[b] or seen in node.left[b]]
        faults: dict[State, set[Observation]] = {}
        for seen in may:
            for after, _ in self.moves.of(node.state, b, self.case.task(b, task.index, seen)):
                if after.pos[b] > task.index:
                    yield _Node(after, _put(node.done, b, (*node.done[b], seen)), node.bits, _put(node.left, b, None))
                else:
                    faults.setdefault(after, set()).add(seen)
        for after, of in faults.items():
            left = frozenset(of) if len(of) < len(may) or node.left[b] else frozenset()
            yield node._replace(state=after, left=_put(node.left, b, left))

    def _walk(self, node: _Node, b: int, task: Task) -> Iterator[_Node]:
        bits = node.bits[b]
        if not bits:
            yield from self._decide(node, b, task.index, self.case.exiting(task.op))
        if len(bits) == len(task.cells):
            seen = sum(bit << self.case.pages[cell] - task.op.start for cell, bit in zip(task.cells, bits, strict=True))
            for after in self._decide(node, b, task.index, [Observation(0, present=sum(bits), bits=seen)]):
                yield after._replace(bits=_put(node.bits, b, ()))
            return
        for bit in (0, 1):
            for after, _ in self.moves.of(node.state, b, task._replace(bits=(*bits, bit))):
                yield node._replace(state=after, bits=_put(node.bits, b, (*bits, bit)))

    def _outcomes(self, node: _Node) -> Iterator[Outcome]:
        """That a node in which all operations have returned stands for."""
        ends = ([entry, None] if self.case.zero_goes and entry == (ZERO_PAGE, 0) else [entry]
                for entry in map(self._end, node.state.cells, range(len(node.state.cells))))
        for final in product(*ends):
            yield Outcome(node.done, final)

    def _end(self, frame: Frame | None, cell: int) -> tuple[int, int] | None:
        if frame is None:
            return None
        if frame[0] != UNBOUND:
            return frame[:2]
        # Nobody has named it.
        label = STAMP_BIT | STAMP_BIT >> 1 | cell
        return label, label

    def _last_rivals(self, b: int, task: Task) -> tuple[int, ...]:
        """By branch: the last operation that shares a page with ``task``, or -1."""
        return tuple(
            max((t.index for t in tasks if c != b and overlap(t, task)), default=-1)
            for c, tasks in enumerate(self.case.branches)
        )


def _put(items: tuple, at: int, item: object) -> tuple:
    return (*items[:at], item, *items[at + 1 :])
