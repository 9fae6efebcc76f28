"""Programs as choices of Hypothesis, so that Hypothesis shrinks a program that it did not draw.

It tries what ``shrink_program`` does not know of, costs some hundred runs, and comes behind it. To it an operation is simple
if it comes early in a list: it is for programs that were drawn. One that somebody wrote about DONTNEED would come back as one
about mmap.
"""

from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, Verbosity, find, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase, choices_to_bytes
from hypothesis.errors import NoSuchExample

from ptstress.model.geometry import Geometry
from ptstress.operation import WITH_MODE, Op
from ptstress.pages import local_page
from ptstress.program import Program
from ptstress.shrink_program import Candidates, Enough
from ptstress.strategies import Bits
from ptstress.vocabulary import ACCESSES, OPERATIONS, WHOLE_MM, Verb

CALLS = 1500
MAX_OPERATIONS, MAX_BRANCHES = 64, 64
MAX_ARG = 1
_KEY = b"shrink"
#: What Hypothesis finds under the key itself it takes for shrunk already; what it finds here it shrinks.
_TO_SHRINK = _KEY + b".secondary"


def shrink_spelled(candidates: Candidates, bits: Bits) -> None:
    """Let Hypothesis look for simpler ones for as long as there is time."""
    given, knobs = candidates.program, candidates.knobs
    database = InMemoryExampleDatabase()
    database.save(_TO_SHRINK, choices_to_bytes(spelled_choices(given, bits, knobs)))
    how = settings(
        database=database, phases=(Phase.reuse, Phase.shrink), max_examples=CALLS, deadline=None,
        suppress_health_check=list(HealthCheck), verbosity=Verbosity.quiet,
    )
    try:
        find(spelled(bits, knobs, given.mms()), lambda drawn: candidates.fails(*drawn), settings=how, database_key=_KEY)
    except (NoSuchExample, Enough):
        pass


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
    arg = arg if verb in (*WITH_MODE, Verb.WALK) else 0
    mm, start = divmod(place, pages)
    op = Op(verb, 0, 0) if verb in WHOLE_MM else Op(verb, start, min(start + length, pages), arg)
    return op.moved(mm)


def _list_choices(ops: Sequence[Op], pages: int) -> list[int | bool]:
    choices: list[int | bool] = []
    for op in ops:
        kind = OPERATIONS.index(op.verb) * (MAX_ARG + 1) + op.arg
        choices += [True, kind, op.mm * pages + local_page(op.start), op.end - op.start]
    return [*choices, False]
