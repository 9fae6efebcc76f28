"""Makes a failing program simpler: fewer threads, operations and pages, for as long as it fails in the same way.

Each pass proposes simpler programs and keeps what still fails. What it takes to run one is the caller's: an explorer in
this process (``shrinking``), or an executor that may crash (``fuzz_property``).

Source: Zeller, Hildebrandt, "Simplifying and isolating failure-inducing input", IEEE TSE 2002, for leaving out.
Departs from it: what is left out are stretches of one thread, and operations also move.
"""

from collections.abc import Callable, Iterator

from ptstress.operation import AWAKE, LOAD, READ_ONLY, WRITABLE, Op
from ptstress.pages import local_page
from ptstress.program import Program
from ptstress.vocabulary import ACCESSES, MM_SHIFT, WHOLE_MM, Verb

#: So many operations are left out at once, then fewer.
CHUNKS = (64, 4, 2, 1)
#: A simpler program fails in other schedules, and maybe in fewer: it gets so many times those that the rarest failure so far
#: took, and at least a few; when nothing simpler fails, all that did not gets so many times more.
PATIENCE, DEEPER = 6, 4
FEW, MOST = 60, 2000
#: The usual values of ``arg``, the ones that a program does not spell out.
_USUAL = {Verb.MMAP: WRITABLE, Verb.MPROTECT: READ_ONLY, Verb.GUP_FAST: LOAD, Verb.POPULATE: LOAD, Verb.WALK: AWAKE}

Knobs = dict[str, int | str]
Sections = tuple[tuple[Op, ...], ...]
#: Runs a program with these knobs, under so many schedules at most: how many it took to fail in the same way, or ``None``.
Run = Callable[[Program, Knobs, int], int | None]


class Enough(KeyboardInterrupt):
    """No more time. Hypothesis takes any other exception for the failure that it looks for."""


class Candidates:
    """What fails as the first one did. ``program``, ``knobs``: the simplest so far; ``tried``: how many were run; ``finished``:
    nothing is left to try.

    ``took``: how many schedules it took the first one to fail.
    """

    def __init__(self, program: Program, knobs: Knobs, took: int, run: Run, enough: Callable[[], bool]) -> None:
        self.program, self.knobs = program, knobs
        self.tried = 0
        self.finished = False
        self._took = took
        self._patience = 1
        self._run, self._enough = run, enough
        self._seen: dict[tuple, bool] = {}
        self.ask_again(1)

    def ask_again(self, patience: int) -> None:
        """Forget what did not fail; from now on candidates get so many times the schedules."""
        self._patience = patience
        self._seen = {self._key(self.program, self.knobs): True}

    def fails(self, program: Program, knobs: Knobs) -> bool:
        """Whether it fails, too; then it is the simplest. Raises ``Enough``."""
        key = self._key(program, knobs)
        if key not in self._seen:
            if self._enough():
                raise Enough
            self.tried += 1
            took = self._run(program, knobs, min(MOST, self._patience * max(FEW, PATIENCE * self._took)))
            self._seen[key] = took is not None
            if took is not None:
                self._took = max(self._took, took)
                self.program, self.knobs = program, knobs
        return self._seen[key]

    def _key(self, program: Program, knobs: Knobs) -> tuple:
        return (program, tuple(knobs.items()))


def simplify(candidates: Candidates) -> None:
    """Make ``candidates.program`` and its knobs as simple as time allows."""
    try:
        for patience in (1, DEEPER):
            candidates.ask_again(patience)
            before = None
            while before != (candidates.program, candidates.knobs):
                before = (candidates.program, candidates.knobs)
                _leave_out(candidates)
                for changes in (_fewer_threads, _earlier, _knobs_off, _lower, _simpler_operations):
                    _change(candidates, changes)
        candidates.finished = True
    except Enough:
        pass


def _leave_out(candidates: Candidates) -> None:
    """Without the threads, then the stretches of operations, that the failure does not need."""
    for size in CHUNKS:
        for number in reversed(range(1 + len(candidates.program.branches))):
            sections = _sections(candidates.program)
            ops = sections[number]
            end = len(ops)
            while end > 0:
                begin = max(end - size, 0)
                shorter = ops[:begin] + ops[end:]
                if candidates.fails(_program(_put(sections, number, shorter)), candidates.knobs):
                    ops = shorter
                end = begin


def _change(candidates: Candidates, changes: Callable[[Program, Knobs], Iterator[tuple[Program, Knobs]]]) -> None:
    """Take the first of these changes that still fails, and ask again, until none does."""
    while any(candidates.fails(*changed) for changed in changes(candidates.program, candidates.knobs)):
        pass


def _fewer_threads(program: Program, knobs: Knobs) -> Iterator[tuple[Program, Knobs]]:
    """One thread does what two did, one after the other."""
    branches = program.branches
    for gone, ops in enumerate(branches):
        rest = branches[:gone] + branches[gone + 1 :]
        for number, others in enumerate(rest):
            for joined in (others + ops, ops + others):
                yield Program(_put(rest, number, joined), program.prefix), knobs


def _earlier(program: Program, knobs: Knobs) -> Iterator[tuple[Program, Knobs]]:
    """What a thread does first is done before all threads."""
    for number, ops in enumerate(program.branches):
        if len(ops) > 1:
            yield Program(_put(program.branches, number, ops[1:]), (*program.prefix, ops[0])), knobs


def _knobs_off(program: Program, knobs: Knobs) -> Iterator[tuple[Program, Knobs]]:
    """Rare paths are not taken: all of them, then one."""
    on = [name for name, value in knobs.items() if isinstance(value, int) and value]
    for names in ([on] if len(on) > 1 else []) + [[name] for name in on]:
        yield program, knobs | dict.fromkeys(names, 0)


def _lower(program: Program, knobs: Knobs) -> Iterator[tuple[Program, Knobs]]:
    """All pages lower, or those of one mm; and mms without a gap."""
    ops = list(program.operations())
    mms = sorted({op.mm for op in ops})
    free = min((local_page(op.start) for op in ops if op.verb not in WHOLE_MM), default=0)
    if free and len(mms) > 1:
        yield _mapped(program, lambda op: _shifted(op, free)), knobs
    for number, mm in enumerate(mms):
        if number < mm:
            yield _mapped(program, lambda op, mm=mm, by=number - mm: op.moved(by) if op.mm == mm else op), knobs
        free = min((local_page(op.start) for op in ops if op.mm == mm and op.verb not in WHOLE_MM), default=0)
        while free:
            yield _mapped(program, lambda op, mm=mm, by=free: _shifted(op, by) if op.mm == mm else op), knobs
            free >>= 1


def _simpler_operations(program: Program, knobs: Knobs) -> Iterator[tuple[Program, Knobs]]:
    """One operation on fewer pages, on a lower one, or in the usual way."""
    sections = _sections(program)
    for number, ops in enumerate(sections):
        for at, op in enumerate(ops):
            for simpler in _simpler(op):
                yield _program(_put(sections, number, _put(ops, at, simpler))), knobs


def _simpler(op: Op) -> Iterator[Op]:
    if op.arg != _USUAL.get(op.verb, op.arg):
        yield op._replace(arg=_USUAL[op.verb])
    if op.verb in WHOLE_MM:
        return
    if op.verb in ACCESSES:
        first = op.mm << MM_SHIFT
        for start in sorted({first, (first + op.start) >> 1, op.start - 1}):
            if first <= start < op.start:
                yield op._replace(start=start, end=start + 1)
        return
    length = op.end - op.start
    for shorter in sorted({1, length >> 1, length - 1}):
        if 0 < shorter < length:
            yield op._replace(end=op.start + shorter)
            yield op._replace(start=op.end - shorter)


def _sections(program: Program) -> Sections:
    return (program.prefix, *program.branches)


def _program(sections: Sections) -> Program:
    prefix, *branches = sections
    return Program(branches=tuple(ops for ops in branches if ops) or ((),), prefix=prefix)


def _put(items: tuple, at: int, item: object) -> tuple:
    return (*items[:at], item, *items[at + 1 :])


def _mapped(program: Program, change: Callable[[Op], Op]) -> Program:
    prefix, *branches = (tuple(map(change, ops)) for ops in _sections(program))
    return Program(branches=tuple(branches), prefix=prefix)


def _shifted(op: Op, pages: int) -> Op:
    return op if op.verb in WHOLE_MM else op._replace(start=op.start - pages, end=op.end - pages)
