"""Does any interleaving explain a concurrent run?

The branches of a program ran at once; given what each operation returned, ``explain`` looks for an order
of the atomic steps of all operations (``explain_moves``) that returns exactly that and leaves the final
pages. Operations of one branch are in order; with ``realtime`` an operation that had returned before
another began also comes before it.

The search is depth-first and remembers the states that it has seen. Three verdicts: ``ok``,
``violation`` (all orders tried), ``unknown`` (budget spent, or results missing), which is never ok.

Not modelled: tables, and which VMAs merge; a branch that reads a frame through its TLB after it has itself
unmapped it; failing allocations unless ``may_fail``.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ptstress.model.explain_case import FRESH, GUARD, UNBOUND, ZERO_PAGE, Case, Task
from ptstress.model.explain_moves import Moves
from ptstress.model.explain_state import State, Step
from ptstress.model.result import Observation, is_incarnation, is_value
from ptstress.model.space import AddressSpace
from ptstress.model.spaces import AddressSpaces
from ptstress.operation import Op
from ptstress.pages import page_text
from ptstress.vocabulary import Verb

BUDGET_STATES = 50_000


class Explanation(NamedTuple):
    """``verdict``: ok, violation or unknown. ``detail``: why not ok. ``order``: ok: the steps, in order."""

    verdict: str
    states: int
    detail: str = ""
    order: tuple[str, ...] = ()


def explain(
    space: AddressSpace | AddressSpaces,
    branches: Sequence[Sequence[Op]],
    seen: Sequence[Sequence[Observation]],
    final: Mapping[int, tuple[int, int]] | None = None,
    *,
    known: bool = True,
    realtime: bool = True,
    may_fail: bool = False,
    lockless: bool = False,
    budget_states: int = BUDGET_STATES,
) -> Explanation:
    """Explain what was ``seen`` of ``branches`` that started together from ``space``.

    ``known``: incarnations and values in ``space`` are the engine's (learned by a ``Follower``); otherwise
    only which pages are present and which are the zero page. ``final``: present pages at the end, page ->
    (incarnation, value), and guard markers, as ``GUARD[:2]``; ``None``: not known. ``may_fail``: accesses, mmap
    and munmap may fail with -ENOMEM, without effect. ``lockless``: nothing kept the VMAs of a range as they were during an
    operation.
    """
    missing = [f"t{b} has {len(seen[b])} results of {len(ops)}" for b, ops in enumerate(branches) if len(seen[b]) != len(ops)]
    if missing:
        return Explanation("unknown", 0, "; ".join(missing))
    case = Case(space, known, branches, seen, final, realtime, may_fail, lockless)
    if case.contradiction:
        return Explanation("violation", 0, case.contradiction)
    return _Search(case, budget_states).run()


class _Search:
    def __init__(self, case: Case, budget_states: int) -> None:
        self.case = case
        self.moves = Moves(case)
        self.budget_states = budget_states
        self.visited: set[State] = set()
        self.best: State | None = None
        self.mismatch = ""

    def run(self) -> Explanation:
        # Each level of the stack: moves not tried yet, and the steps that led to the level.
        steps: list[Step] = []
        state = self._advance(self.moves.start(), steps)
        stack = [(iter(self.moves.others(state)), steps)]
        if self._is_explained(state):
            return self._found(stack)
        while stack:
            move = next(stack[-1][0], None)
            if move is None:
                stack.pop()
                continue
            steps = [move[1]]
            state = self._advance(move[0], steps)
            if state in self.visited:
                continue
            if len(self.visited) >= self.budget_states:
                return Explanation("unknown", len(self.visited), f"no explanation within {self.budget_states} states")
            self.visited.add(state)
            stack.append((iter(self.moves.others(state)), steps))
            if self._is_explained(state):
                return self._found(stack)
        return Explanation("violation", len(self.visited), self._where_stuck())

    def _advance(self, state: State, steps: list[Step]) -> State:
        while (move := self.moves.eager(state)) is not None:
            state = move[0]
            steps.append(move[1])
        if self.best is None or sum(state.pos) > sum(self.best.pos):
            self.best = state
        return state

    def _is_explained(self, state: State) -> bool:
        if any(at < len(tasks) for at, tasks in zip(state.pos, self.case.branches, strict=True)):
            return False
        if self.case.final is None:
            return True
        for page, frame, expected in zip(self.case.pages, state.cells, self.case.final, strict=True):
            if not self._is_final(state, frame, expected):
                self.mismatch = f"every result fits, but not that {page_text(page)} is {_cell_text(expected)} at the end"
                return False
        return True

    def _is_final(self, state: State, frame: tuple[int, int, int] | None, expected: tuple[int, int] | None) -> bool:
        if frame is None or expected is None:
            return expected is None and (frame is None or (self.case.zero_goes and frame[0] == ZERO_PAGE))
        if frame[0] != UNBOUND:
            return frame[:2] == expected
        incarnation, value = expected
        named = incarnation in self.case.start_labels or incarnation in self.case.seen_by
        fits = value == incarnation if frame[1] == FRESH else is_value(value)
        return is_incarnation(incarnation) and not named and fits

    def _found(self, stack: list) -> Explanation:
        order = tuple(self._step_text(step) for _, steps in stack for step in steps)
        return Explanation("ok", len(self.visited), order=order)

    def _step_text(self, step: Step) -> str:
        b, index, words, cell = step
        where = f" {page_text(self.case.pages[cell])}" if cell >= 0 else ""
        return f"t{b}: {self.case.branches[b][index].op} {words}{where}"

    def _where_stuck(self) -> str:
        if self.mismatch:
            return self.mismatch
        stuck = [
            f"t{b} {_seen_text(tasks[at])}"
            for b, (at, tasks) in enumerate(zip(self.best.pos, self.case.branches, strict=True))
            if at < len(tasks)
        ]
        return f"no order of steps gets past {' and '.join(stuck)}"


def _cell_text(cell: tuple[int, int] | None) -> str:
    if cell is None:
        return "none"
    return "a guard marker" if cell == GUARD[:2] else f"incarnation {cell[0]:#x} value {cell[1]:#x}"


def _seen_text(task: Task) -> str:
    seen = task.seen
    if task.op.verb is Verb.WALK:
        return f"{task.op} = {seen.status}, {seen.present} present"
    if task.op.accesses and seen.status == 0:
        return f"{task.op} = {seen.status}, value {seen.value:#x} incarnation {seen.incarnation:#x}"
    return f"{task.op} = {seen.status}"
