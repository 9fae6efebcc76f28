"""What can happen next in a concurrent run: the atomic steps that the search in ``explain`` orders.

    read, write   fault: the zero page or a fresh frame appears; then the access itself. A fault that is undone before it is
                  followed by another. Where reclaim unmaps the zero page (`zero_goes`), its page may be passed over by walks
    walk          looks at one page after the other, ascending
    dontneed      finds the VMAs (nobody changes those of its pages before), clears one page after the other, flushes, returns
    free          finds the VMAs, marks one page after the other, flushes and returns
    discard       passes over one page after the other, or clears it if it is marked
    munmap        removes the VMAs, clears one page after the other, flushes and returns
    mmap          clears one page after the other, sets the new VMA, flushes and returns; to a fault the VMA changes at once
    mprotect      changes what the VMAs of its pages allow, up to a hole, and returns: faults wait until then.
                  A write that was in flight may go through afterwards

What a populate and the guard verbs do stands in ``explain_populate`` and ``explain_guard``, what waits for what in
``explain_locks``.

A frame that was cleared may still be used by a branch that had it in its TLB until the operation that
cleared it returns, and by the access that is in flight then; but not once the branch used another
translation of the page, or faulted there.

A mark stays on a frame until it is written by an access that began after the free returned: before that the access may
have had D in its TLB, or set D before the visit of the free. A populate for writing takes it away too. A marked frame
need not be dropped.

A step is *eager* if doing it now rules out no explanation: it changes nothing that another branch can still see. Eager
steps are done at once, the others tried in every order.
"""

from collections.abc import Iterator
from errno import EFAULT, ENOMEM

from ptstress.model.explain_case import (
    FRESH, GUARD, READ_WRITE, READABLE, UNBOUND, UNMAPPED, ZERO_PAGE, Case, Frame, Task, is_present)
from ptstress.model.explain_guard import eager_guard_step, guard_steps
from ptstress.model.explain_locks import finds, is_excluded, is_hidden, is_mapping
from ptstress.model.explain_populate import populate_steps
from ptstress.model.explain_state import RETURNED, Dead, Move, State, has_visited, last_phase, replaced
from ptstress.model.result import is_incarnation, is_value
from ptstress.vocabulary import GUARDS, Verb


class Moves:
    """The steps of one case."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def start(self) -> State:
        """Before the branches."""
        case = self.case
        zeros = (0,) * len(case.branches)
        return State(zeros, zeros, case.start_cells, case.start_segments, frozenset(), case.start_lazy)

    def eager(self, state: State) -> Move | None:
        """One eager step, or ``None``."""
        for b in range(len(state.pos)):
            task = self._current(state, b)
            move = self.eager_of(state, b, task) if task is not None else None
            if move is not None:
                return move
        return None

    def others(self, state: State) -> list[Move]:
        """All other steps; those of the operation that ended first come first."""
        tasks = [(task.seen.t1, b, task) for b in range(len(state.pos)) if (task := self._current(state, b)) is not None]
        return [move for _, b, task in sorted(tasks, key=lambda t: t[:2]) for move in self._others_of(state, b, task)]

    def of(self, state: State, b: int, task: Task) -> list[Move]:
        """What ``task``, the operation that branch ``b`` is at, can do next: the eager step alone if it has one."""
        move = self.eager_of(state, b, task)
        return list(self._others_of(state, b, task)) if move is None else [move]

    def _current(self, state: State, b: int) -> Task | None:
        """The operation of branch ``b``, if it may have begun."""
        tasks = self.case.branches[b]
        if state.pos[b] == len(tasks):
            return None
        task = tasks[state.pos[b]]
        return task if all(at >= need for at, need in zip(state.pos, task.needs, strict=True)) else None

    # ---- eager steps

    def eager_of(self, state: State, b: int, task: Task) -> Move | None:
        """An eager step of ``task``, the operation that branch ``b`` is at, or ``None``."""
        if task.inert:
            return self._complete(state, b), (b, task.index, "returns without effect", -1)
        verb = task.op.verb
        if verb is Verb.WALK:
            return self._walk_page(state, b, task)
        if task.op.accesses:
            return next((m for m, is_eager in self._pure_accesses(state, b, task) if is_eager), None)
        # Nothing decides whether a discard may begin: it passes over what is not mapped.
        if state.phase[b] == 0 and verb is not Verb.DISCARD:
            return None
        if state.phase[b] == last_phase(task):
            used = any(d.killer == b for d in state.dead)
            return None if used else (self._complete(state, b), (b, task.index, "returns", -1))
        if verb in (Verb.POPULATE, *GUARDS):
            return eager_guard_step(self.case, state, b, task)
        cell = self._next_cell(state, b, task)
        if verb is Verb.FREE:
            waited = self.case.remains(self.case.last_discard, cell, state.pos)
            return None if waited else self._mark(state, b, task)
        if verb is Verb.DISCARD:
            frees = any(t.op.verb is Verb.FREE and cell in t.cells for tasks in self.case.branches for t in tasks)
            return None if frees or cell in state.lazy else (self._pass(state, b), (b, task.index, "passes over", cell))
        # The last step of an mmap also sets the VMA.
        sets_vma = verb is Verb.MMAP and state.phase[b] == len(task.cells) - 1
        observed = self._is_observed(state, b, cell)
        return None if observed or sets_vma else self._zap(state, b, task)

    def _is_observed(self, state: State, b: int, cell: int) -> bool:
        """Whether another branch will still look at ``cell``."""
        looks = (self.case.last_access, self.case.last_walk, self.case.last_populate)
        return any(self.case.remains(last, cell, state.pos, b) for last in looks)

    def _walk_page(self, state: State, b: int, task: Task) -> Move | None:
        done = state.phase[b]
        if done == len(task.cells):
            return self._complete(state, b), (b, task.index, "returns", -1)
        cell, bit = task.cells[done], task.bits[done]
        # While a munmap clears, its pages are in no VMA; a walk may pass over them.
        hole = state.segments[self.case.segment_of[cell]] == UNMAPPED
        frame = state.cells[cell]
        gone = frame is not None and frame[0] == ZERO_PAGE and self.case.zero_goes
        if bit != is_present(frame) and not ((hole or gone) and not bit):
            return None
        return state._replace(phase=replaced(state.phase, b, done + 1)), (b, task.index, "sees" if bit else "misses", cell)

    def _pure_accesses(self, state: State, b: int, task: Task) -> Iterator[tuple[Move, bool]]:
        """Ends of a read, or of a failed access, that change no page; and whether each is eager."""
        case, cell, status = self.case, task.cells[0], task.seen.status
        if status == -EFAULT:
            allows = state.segments[case.segment_of[cell]]
            insufficient = allows == UNMAPPED or (task.op.writes and allows != READ_WRITE)
            if (insufficient or state.cells[cell] == GUARD) and not is_hidden(case, state, b, task):
                # It may have faulted before, and will again only if the pages are mapped again, or unguarded.
                eager = not case.remains(case.last_map, cell, state.pos, b)
                yield (self._complete(state, b), (b, task.index, "faults in vain", cell)), eager
        elif status == -ENOMEM and case.may_fail:
            yield (self._complete(state, b), (b, task.index, "fails", cell)), False
        elif status == 0 and not task.op.writes:
            # If it reads the zero page later, it may fault it in then, which others, its own walk or the
            # end can see.
            at_end = case.final is not None and case.final[cell] == (0, 0)
            visible = at_end or case.remains(case.last_walk, cell, state.pos) or self._is_observed(state, b, cell)
            stays = is_present(state.cells[cell]) and not case.remains(case.last_zap, cell, state.pos, b)
            for after, used, words in self._uses(state, b, task):
                eager = used != UNBOUND and (used != ZERO_PAGE or stays or not visible)
                yield (self._complete(after, b), (b, task.index, words, cell)), eager

    # ---- steps that are tried in every order

    def _others_of(self, state: State, b: int, task: Task) -> Iterator[Move]:
        verb = task.op.verb
        if task.op.accesses:
            yield from (m for m, is_eager in self._pure_accesses(state, b, task) if not is_eager)
            if task.op.writes and task.seen.status == 0:
                for after, _, words in self._uses(state, b, task):
                    yield self._complete(after, b), (b, task.index, words, task.cells[0])
            yield from self._fault(state, b, task)
        elif verb in (Verb.POPULATE, *GUARDS) and state.phase[b] < last_phase(task):
            if state.phase[b] or not is_mapping(self.case, state, b, task):
                yield from self._steps_under_mmap_lock(state, b, task)
        elif verb is not Verb.WALK:
            if state.phase[b] == 0 and verb is not Verb.DISCARD:
                yield from self._begin(state, b, task)
            elif state.phase[b] < last_phase(task):
                yield from self._visit(state, b, task)
            else:
                yield self._complete(self._flush(state, b), b), (b, task.index, "flushes and returns", -1)

    def _steps_under_mmap_lock(self, state: State, b: int, task: Task) -> Iterator[Move]:
        if task.op.verb is Verb.POPULATE:
            return populate_steps(self.case, state, b, task)
        return guard_steps(self.case, state, b, task, self._clear)

    def _uses(self, state: State, b: int, task: Task) -> Iterator[tuple[State, int, str]]:
        """Ways to access a frame as observed: the mapped one, and cleared ones. With its incarnation before."""
        cell = task.cells[0]
        words = "writes" if task.op.writes else "reads"
        frame = state.cells[cell]
        if frame is not None and (not task.op.writes or self._may_write(state, b, cell)):
            after = self._access(state, b, task, frame)
            if after is not None:
                dead = self._forget(state, b, task)
                lazy = state.lazy if not task.op.writes or self._precedes_free(state, b, task) else state.lazy - {cell}
                yield state._replace(cells=replaced(state.cells, cell, after), dead=dead, lazy=lazy), frame[0], words
        for dead in state.dead:
            stored = dead.clean and task.op.writes and not self._precedes_free(state, b, task)
            if dead.cell == cell and dead.users >> b & 1 and not stored:
                after = self._access(state, b, task, dead.frame)
                if after is not None:
                    kept = dead._replace(frame=(*after[:2], 0))
                    others = self._forget(state, b, task, dead)
                    yield state._replace(dead=others - {dead} | {kept}), dead.frame[0], f"{words} through its TLB or pin"

    def _access(self, state: State, b: int, task: Task, frame: Frame) -> Frame | None:
        """The frame after the access, or ``None`` if something else would have been observed."""
        incarnation, value, tlb = frame
        seen = task.seen
        if not task.op.writes:
            if incarnation == UNBOUND:
                fits = seen.value == seen.incarnation if value == FRESH else is_value(seen.value)
                fits = fits and self._may_bind(state, seen.incarnation)
            else:
                fits = (seen.incarnation, seen.value) == (incarnation, value)
        else:
            bound = self._may_bind(state, seen.incarnation) if incarnation == UNBOUND else seen.incarnation == incarnation
            fits = incarnation != ZERO_PAGE and bound and is_value(seen.value)
        return (seen.incarnation, seen.value, tlb if task.op.verb is Verb.GUP_FAST else tlb | 1 << b) if fits else None

    def _precedes_free(self, state: State, b: int, task: Task) -> bool:
        """Whether the access may have begun before a free that has visited its page returned."""
        cell = task.cells[0]
        return any(
            other.op.verb is Verb.FREE and cell in other.cells and task.needs[c] <= other.index
            and has_visited(state, c, other, cell)
            for c, tasks in enumerate(self.case.branches) if c != b
            for other in tasks
        )

    @staticmethod
    def _forget(state: State, b: int, task: Task, but: Dead | None = None, but_zero: bool = False) -> frozenset[Dead]:
        """Cleared frames, now that branch ``b`` has another translation of its page, or none; a pin is no translation."""
        if task.op.verb is Verb.GUP_FAST:
            return state.dead
        cell = task.cells[0]
        gone = {
            d for d in state.dead
            if d.cell == cell and d.users >> b & 1 and d is not but and not (but_zero and d.frame[0] == ZERO_PAGE)
        }
        left = (d._replace(users=d.users & ~(1 << b)) for d in gone)
        return state.dead - gone | {d for d in left if d.users} if gone else state.dead

    def _may_bind(self, state: State, incarnation: int) -> bool:
        """Whether a frame that nobody has named yet can be ``incarnation``: each is allocated once."""
        case = self.case
        return (
            is_incarnation(incarnation)
            and incarnation not in case.start_labels
            and not any(state.pos[c] > i for c, i in case.seen_by.get(incarnation, ()))
        )

    def _fault(self, state: State, b: int, task: Task) -> Iterator[Move]:
        case, cell = self.case, task.cells[0]
        frame, allows = state.cells[cell], state.segments[case.segment_of[cell]]
        if is_hidden(case, state, b, task):
            return
        if not task.op.writes:
            needed = task.seen[:3] == (0, 0, 0) or self._is_observed(state, b, cell)
            if frame is None and allows != UNMAPPED and needed:
                there = state._replace(cells=replaced(state.cells, cell, (ZERO_PAGE, 0, 0)), dead=self._forget(state, b, task))
                yield there, (b, task.index, "faults in", cell)
        elif (frame is None or frame[0] == ZERO_PAGE) and allows == READ_WRITE:
            fresh = (UNBOUND, FRESH, 0)
            after = self._access(state, b, task, fresh) if task.seen.status == 0 else None
            if after is not None:
                there = state._replace(cells=replaced(state.cells, cell, after), dead=self._forget(state, b, task))
                yield self._complete(there, b), (b, task.index, "faults in and writes", cell)
            if self._is_observed(state, b, cell) or task.seen.status == -EFAULT:
                # What it fails on came later; or the zero page is in its TLB, where it stays until the write is done.
                dead = self._forget(state, b, task, but_zero=True)
                there = state._replace(cells=replaced(state.cells, cell, fresh), dead=dead)
                yield there, (b, task.index, "faults in", cell)

    def _begin(self, state: State, b: int, task: Task) -> Iterator[Move]:
        first, last = task.segments
        verb = task.op.verb
        if verb is Verb.MPROTECT:
            if not is_excluded(self.case, state, b, task):
                yield from self._protect(state, b, task)
            return
        if verb in (Verb.DONTNEED, Verb.FREE):
            if finds(self.case, state, b, task) and (self.case.lockless or not is_hidden(self.case, state, b, task)):
                yield from self._visit(state, b, task)
            return
        if task.seen.status or is_excluded(self.case, state, b, task):
            return
        if verb is Verb.MUNMAP:
            bare = (UNMAPPED,) * (last - first)
            segments = state.segments[:first] + bare + state.segments[last:]
            yield state._replace(segments=segments, phase=replaced(state.phase, b, 1)), (b, task.index, "removes the VMAs", -1)
        else:
            yield self._zap(state, b, task)

    def _visit(self, state: State, b: int, task: Task) -> Iterator[Move]:
        """The next page of a range operation that is no walk."""
        if task.op.verb is Verb.FREE and task.cells:
            yield self._mark(state, b, task)
            return
        if task.op.verb is Verb.DISCARD:
            cell = self._next_cell(state, b, task)
            if cell in state.lazy:
                yield self._zap(state, b, task)
            yield self._pass(state, b), (b, task.index, "passes over", cell)
            return
        yield self._zap(state, b, task)

    def _mark(self, state: State, b: int, task: Task) -> Move:
        cell = self._next_cell(state, b, task)
        frame = state.cells[cell]
        mapped = state.segments[self.case.segment_of[cell]] != UNMAPPED
        if mapped and is_present(frame) and frame[0] != ZERO_PAGE:
            state = state._replace(lazy=state.lazy | {cell})
        return self._pass(state, b), (b, task.index, "marks", cell)

    @staticmethod
    def _pass(state: State, b: int) -> State:
        return state._replace(phase=replaced(state.phase, b, state.phase[b] + 1))

    def _protect(self, state: State, b: int, task: Task) -> Iterator[Move]:
        first, last = task.segments
        hole = next((s for s in range(first, last) if state.segments[s] == UNMAPPED), last)
        if task.seen.status == (0 if hole == last else -ENOMEM):
            segments = state.segments[:first] + (task.grants,) * (hole - first) + state.segments[hole:]
            late = state.late       # and others that may be storing there at this moment
            if task.grants == READABLE:
                others = ((cell, c) for cell in task.cells for c in range(len(state.pos)) if c != b)
                late |= {(cell, c) for cell, c in others
                         if self._may_write(state, c, cell) and self._in_flight(state, c, cell, b, task)}
            state = state._replace(segments=segments, late=late)
            yield self._complete(state, b), (b, task.index, "changes the VMAs and returns", -1)

    def _may_write(self, state: State, b: int, cell: int) -> bool:
        """By what is mapped at ``cell``: what a munmap has not cleared yet is as its VMA left it."""
        return state.segments[self.case.segment_of[cell]] != READABLE or (cell, b) in state.late

    def _zap(self, state: State, b: int, task: Task) -> Move:
        """The next page of a range operation; with the last one of an mmap its VMA appears."""
        step = (b, task.index, "returns", -1)
        if task.cells:
            cell = self._next_cell(state, b, task)
            step = (b, task.index, "clears", cell)
            passed = task.op.verb is Verb.DONTNEED and state.segments[self.case.segment_of[cell]] == UNMAPPED
            state = state if passed else self._clear(state, b, task, cell)
        phase = min(state.phase[b] + 1, last_phase(task))
        if task.op.verb is Verb.MMAP and phase == len(task.cells):
            first, last = task.segments
            segments = state.segments[:first] + (task.grants,) * (last - first) + state.segments[last:]
            state = state._replace(segments=segments)
        if not task.cells:
            return self._complete(state, b), step
        return state._replace(phase=replaced(state.phase, b, phase)), step

    def _clear(self, state: State, b: int, task: Task, cell: int) -> State:
        frame = state.cells[cell]
        if not is_present(frame):
            kept = frame is None or task.op.verb not in (Verb.MMAP, Verb.MUNMAP)
            return state if kept else state._replace(cells=replaced(state.cells, cell, None))
        users = 0
        for c, at in enumerate(state.pos):
            cached = frame[2] >> c & 1 or self._in_flight(state, c, cell, b, task)
            if c != b and cached and at <= self.case.last_access[cell][c]:
                users |= 1 << c
        clean = task.op.verb is Verb.DISCARD
        dead = state.dead | {Dead(cell, (*frame[:2], 0), b, users, clean)} if users else state.dead
        late = frozenset(l for l in state.late if l[0] != cell) if state.late else state.late
        return state._replace(cells=replaced(state.cells, cell, None), dead=dead, lazy=state.lazy - {cell}, late=late)

    def _flush(self, state: State, b: int) -> State:
        """Branch ``b`` returns: what it cleared stays usable for accesses in flight only."""
        task = self.case.branches[b][state.pos[b]]
        dead = set()
        for d in state.dead:
            if d.killer == b:
                users = (c for c in range(len(state.pos)) if d.users >> c & 1)
                late = sum(1 << c for c in users if self._in_flight(state, c, d.cell, b, task))
                d = d._replace(killer=RETURNED, users=late)
            if d.users:
                dead.add(d)
        return state._replace(dead=frozenset(dead))

    def _in_flight(self, state: State, c: int, cell: int, b: int, task: Task) -> bool:
        """Whether branch ``c`` may be in an access to ``cell`` that began before ``task`` of ``b`` returned."""
        tasks = self.case.branches[c]
        if state.pos[c] == len(tasks):
            return False
        other = tasks[state.pos[c]]
        return other.op.accesses and other.cells[0] == cell and other.needs[b] <= task.index

    def _complete(self, state: State, b: int) -> State:
        """Branch ``b`` goes on to its next operation."""
        pos = replaced(state.pos, b, state.pos[b] + 1)
        dead = state.dead
        if dead:
            kept = set()
            for d in dead:
                over = d.killer == RETURNED or pos[b] > self.case.last_access[d.cell][b]
                users = d.users & ~(1 << b) if over else d.users
                if users:
                    kept.add(d._replace(users=users))
            dead = frozenset(kept)
        late = frozenset(l for l in state.late if l[1] != b) if state.late else state.late
        return state._replace(pos=pos, phase=replaced(state.phase, b, 0), dead=dead, late=late)

    @staticmethod
    def _next_cell(state: State, b: int, task: Task) -> int:
        return task.cells[state.phase[b] - (task.op.verb is Verb.MUNMAP)]
