"""The one property: no oracle objects to any execution of a program, whatever runs it.

Hypothesis draws the whole example before anything starts (``examples``), or starts from one that a campaign
found (``shrink``). Either way the example runs in another process, so that a crash and a hang shrink, too.
"""

import time
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, Verbosity, find, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase, choices_to_bytes
from hypothesis.errors import NoSuchExample
from msgspec import structs

from ptstress.errors import PtstressError
from ptstress.fuzz_containment import Executor, Stopped
from ptstress.fuzz_example import Failure, FuzzExample
from ptstress.model.geometry import Geometry
from ptstress.operation import WITH_MODE, Op
from ptstress.pages import local_page
from ptstress.program import Program
from ptstress.schemes import SCHEMES
from ptstress.strategies import TINY, Bits, knobs, programs
from ptstress.vocabulary import ACCESSES, OPERATIONS, WHOLE_MM, Verb

#: A smaller program fails in other schedules: it gets at least so many. First few for each, until the program is
#: small or so much of the time is over; then more, for what fails seldom.
STAGES = ((0.6, 150), (1.0, 800))
SHRINK_CALLS = 1500
#: So many operations are left out at once, then fewer.
CHUNKS = (64, 4, 2, 1)
MAX_OPERATIONS, MAX_BRANCHES = 64, 64
MAX_ARG = 1
_KEY = b"shrink"
#: What Hypothesis finds under the key itself it takes for shrunk already; what it finds here it shrinks.
_TO_SHRINK = _KEY + b".secondary"


class FuzzFailed(AssertionError):
    """An example failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.signature}\nprogram: {failure.example.program.text()}\n{failure.detail}")
        self.failure = failure


def check(executor: Executor, example: FuzzExample) -> int:
    """The property. Raises ``FuzzFailed``. Returns how many operations were executed."""
    (trial,) = executor.run([example])
    if trial.failure:
        raise FuzzFailed(trial.failure)
    return trial.operations


@st.composite
def examples(
    draw: st.DrawFn, schedules: int, rounds: int = 0, schemes: Sequence[str] | None = None,
    geometries: Sequence[Bits] = TINY, bugs: tuple[str, ...] = (),
) -> FuzzExample:
    """A program of the common strategies, and how it is run. One example in four also races on threads."""
    scheme = draw(st.sampled_from(list(schemes) if schemes else [s.name for s in SCHEMES]))
    bits = draw(st.sampled_from(list(geometries)))
    return FuzzExample(
        program=draw(programs(bits, mms=3)), scheme=scheme, geometry=bits, knobs=draw(knobs()),
        seed=draw(st.integers(0, 2**32 - 1)), executions=schedules,
        rounds=rounds if draw(st.integers(0, 3)) == 3 else 0, bugs=bugs,
    )


def shrink(executor: Executor, failure: Failure, seconds: float) -> Failure:
    """The simplest example that Hypothesis finds in so much time, and which fails in the same way. Raises ``Stopped``.

    Operations that do not matter are left out first: Hypothesis spends hundreds of executions on a long program.
    """
    begin = time.monotonic()
    simplest = _leave_out(executor, failure, begin + seconds * STAGES[0][0])
    for share, executions in STAGES:
        simplest = _shrink_once(executor, simplest, executions, begin + seconds * share)
    return simplest


def _shrink_once(executor: Executor, failure: Failure, executions: int, deadline: float) -> Failure:
    given = failure.example
    alike = _Alike(executor, failure, executions, deadline)
    database = InMemoryExampleDatabase()
    mms = given.program.mms()
    database.save(_TO_SHRINK, choices_to_bytes(spelled_choices(given.program, given.geometry, given.knobs)))
    how = settings(
        database=database, phases=(Phase.reuse, Phase.shrink), max_examples=SHRINK_CALLS, deadline=None,
        suppress_health_check=list(HealthCheck), verbosity=Verbosity.quiet,
    )
    try:
        find(spelled(given.geometry, given.knobs, mms), alike.fails, settings=how, database_key=_KEY)
    except (NoSuchExample, _Enough):
        pass
    if alike.stopped:
        raise Stopped("stopped")
    return alike.simplest


def _leave_out(executor: Executor, failure: Failure, deadline: float) -> Failure:
    """Without the sections, then the stretches of operations, that the failure does not need; the prefix is section 0."""
    alike = _Alike(executor, failure, STAGES[0][1], deadline)
    program, knobs_ = failure.example.program, failure.example.knobs
    sections = [program.prefix, *program.branches]
    try:
        for size in CHUNKS:
            for number in range(len(sections)):
                end = len(sections[number])
                while end > 0:
                    begin = max(end - size, 0)
                    without = [*sections]
                    without[number] = sections[number][:begin] + sections[number][end:]
                    if alike.fails((_program(without), knobs_)):
                        sections = without
                    end = begin
    except _Enough:
        pass
    if alike.stopped:
        raise Stopped("stopped")
    return alike.simplest


def _program(sections: Sequence[tuple[Op, ...]]) -> Program:
    prefix, *branches = sections
    return Program(branches=tuple(ops for ops in branches if ops) or ((),), prefix=prefix)


class _Enough(KeyboardInterrupt):
    """The time for shrinking is over. Hypothesis takes any other exception for the failure that it looks for."""


class _Alike:
    """Which simpler examples fail as ``failure`` does. Hypothesis asks about simpler ones than it has."""

    def __init__(self, executor: Executor, failure: Failure, executions: int, deadline: float) -> None:
        self.executor, self.failure, self.deadline = executor, failure, deadline
        self.seen: dict[tuple, bool] = {}
        self.simplest = failure
        self.stopped = False
        example = failure.example
        # On threads there are rounds in place of schedules.
        wide = example.executions if example.rounds else max(example.executions, executions)
        self.wide = structs.replace(example, executions=wide)

    def fails(self, drawn: tuple[Program, dict[str, int | str]]) -> bool:
        """Run the example, if that was not done before and there is time."""
        program, kept = drawn
        key = (program, tuple(kept.items()))
        if key not in self.seen:
            if time.monotonic() > self.deadline:
                raise _Enough
            self.seen[key] = self._run(structs.replace(self.wide, program=program, knobs=kept))
        return self.seen[key]

    def _run(self, example: FuzzExample) -> bool:
        try:
            (trial,) = self.executor.run([example])
        except Stopped:
            self.stopped = True
            raise _Enough from None
        except PtstressError:
            return False
        if trial.failure is None or trial.failure.signature != self.failure.signature:
            return False
        self.simplest = trial.failure
        return True


@st.composite
def spelled(
    draw: st.DrawFn, bits: Bits, knobs_: dict[str, int | str], mms: int
) -> tuple[Program, dict[str, int | str]]:
    """Any program, drawn number by number, so that ``spelled_choices`` can say which numbers make a given one.

    Simpler: fewer threads and operations, lower pages, shorter ranges, fewer of ``knobs_`` in effect.
    """
    kept = {name: value if draw(st.booleans()) else _off(value) for name, value in knobs_.items()}
    ops = st.lists(_operations(Geometry.of(bits).pages, mms), max_size=MAX_OPERATIONS).map(tuple)
    prefix = draw(ops)
    branches = draw(st.lists(ops, min_size=1, max_size=MAX_BRANCHES))
    return Program(branches=tuple(branches), prefix=prefix), kept


def spelled_choices(program: Program, bits: Bits, knobs_: dict[str, int | str]) -> list[int | bool]:
    """The draws of ``spelled`` that give this program with all of these knobs.

    Hypothesis draws before each member of a list whether there is one more.
    """
    pages = Geometry.of(bits).pages
    choices: list[int | bool] = [*[True] * len(knobs_), *_list_choices(program.prefix, pages)]
    for ops in program.branches:
        choices += [True, *_list_choices(ops, pages)]
    return [*choices, False]


def _off(value: int | str) -> int | str:
    return 0 if isinstance(value, int) else value


@st.composite
def _operations(draw: st.DrawFn, pages: int, mms: int) -> Op:
    kind = draw(st.integers(0, len(OPERATIONS) * (MAX_ARG + 1) - 1))
    verb, arg = OPERATIONS[kind // (MAX_ARG + 1)], kind % (MAX_ARG + 1)
    place, length = draw(st.integers(0, mms * pages - 1)), draw(st.integers(0, pages))
    length = 1 if verb in ACCESSES else length
    arg = arg if verb in WITH_MODE else 0
    mm, start = divmod(place, pages)
    op = Op(verb, 0, 0) if verb in WHOLE_MM else Op(verb, start, min(start + length, pages), arg)
    return op.moved(mm)


def _list_choices(ops: Sequence[Op], pages: int) -> list[int | bool]:
    choices: list[int | bool] = []
    for op in ops:
        kind = OPERATIONS.index(op.verb) * (MAX_ARG + 1) + op.arg
        choices += [True, kind, op.mm * pages + local_page(op.start), op.end - op.start]
    return [*choices, False]
