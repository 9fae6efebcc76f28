"""Hypothesis strategies: geometries, operations, sequences, concurrent programs and knobs.

Everything is drawn before anything runs: a concurrent program is one draw, so that Hypothesis can shrink
it as a whole. Page ranges like to cover whole tables, to end at their borders, and to share tables.
``bits`` is a geometry: index bits of each level, from the pte_table up.
"""

from collections.abc import Sequence

from hypothesis import strategies as st

from ptstress.model.geometry import Geometry
from ptstress.operation import PROTECTING, Op, gup_fast, mmap, read, write
from ptstress.program import Program
from ptstress.vocabulary import ACCESSES, OPERATIONS, WHOLE_MM, Verb

Bits = tuple[int, ...]
Range = tuple[int, int]

#: Geometries of the tests that are to be quick: few pages, several tables at each level.
TINY = ((2, 1, 1), (1, 1, 1, 1), (2, 1, 1, 1), (1, 2, 1, 1), (3, 2, 1, 1), (2, 1, 1, 1, 1))
MAX_BITS = 9


def geometries() -> st.SearchStrategy[Bits]:
    """Tiny ones: 3 to 5 levels, fan-outs 2 to 16, at most 512 pages."""
    drawn = st.lists(st.integers(1, 4), min_size=3, max_size=5).map(tuple).filter(lambda bits: sum(bits) <= MAX_BITS)
    return st.sampled_from(TINY) | drawn


def pages(bits: Bits, window: Range | None = None) -> st.SearchStrategy[int]:
    """A page of ``window``, or of the address space; often at the border of a table."""
    start, end = window or (0, Geometry.of(bits).pages)
    table_pages = 1 << bits[0]
    borders = [page for page in range(start, end) if page % table_pages in (0, table_pages - 1)]
    return st.integers(start, end - 1) | st.sampled_from(borders or [start])


def page_ranges(bits: Bits, window: Range | None = None, invalid: bool = False) -> st.SearchStrategy[Range]:
    """Pages ``[start, end)``. ``invalid``: one in eleven is empty, reversed, or ends past the address space."""
    limit = Geometry.of(bits).pages
    start, end = window or (0, limit)
    table_pages = 1 << bits[0]
    tables = sorted({start, end, *range(-(-start // table_pages) * table_pages, end, table_pages)})
    near = sorted({page for border in tables for page in (border - 1, border, border + 1) if start <= page <= end})
    kinds = [
        _pairs(tables),
        pages(bits, window).map(lambda page: (page, page + 1)),
        _pairs(near),
        _pairs(range(start, end + 1)),
        _pairs(tables),
    ]
    if invalid:
        wrong = st.one_of(
            st.integers(start, end).map(lambda page: (page, page)),
            _pairs(range(start, end + 1)).map(lambda pair: (pair[1], pair[0])),
            st.integers(start, end).map(lambda page: (page, limit + 1)),
        )
        kinds = [*kinds, *kinds, wrong]
    return st.one_of(kinds)


def operations(
    bits: Bits, verbs: Sequence[Verb] = OPERATIONS, window: Range | None = None, invalid: bool = False
) -> st.SearchStrategy[Op]:
    """One operation out of ``verbs``, on pages of ``window``."""
    return st.one_of([_operation(verb, bits, window, invalid) for verb in verbs])


def sequences(bits: Bits, max_size: int, invalid: bool = True, mms: int = 1) -> st.SearchStrategy[list[Op]]:
    """Operations for one thread, after an mmap in each mm."""
    mapped = page_ranges(bits).map(lambda pair: [mmap(*pair).moved(mm) for mm in range(mms)])
    rest = st.lists(_somewhere(operations(bits, invalid=invalid), mms), max_size=max_size - mms)
    return st.tuples(mapped, rest).map(lambda parts: [*parts[0], *parts[1]])


@st.composite
def programs(
    draw: st.DrawFn,
    bits: Bits,
    branches: tuple[int, int] = (2, 4),
    max_ops: int = 3,
    touches: bool = True,
    mms: int = 1,
) -> Program:
    """A whole concurrent program. ``branches``: fewest, most. ``touches``: the prefix may touch pages. ``mms``: at most.

    Swarm testing: each program uses a part of the verbs only, so that some have no munmap, some no
    dontneed, and so on.
    """
    window = draw(_windows(bits))
    mms = draw(st.integers(1, mms))
    known = [verb for verb in OPERATIONS if verb is not Verb.EXIT or mms > 1]
    verbs = draw(st.lists(st.sampled_from(known), min_size=2, max_size=len(known), unique=True))
    # A few pages that accesses share, or they would hardly ever meet.
    hot = draw(st.lists(pages(bits, window), min_size=1, max_size=3, unique=True))
    access = st.sampled_from(hot)
    kinds = [_operation(verb, bits, window, False, access) for verb in verbs]
    branch = st.lists(_somewhere(st.one_of(kinds), mms), min_size=1, max_size=max_ops).map(tuple)
    raced = draw(st.lists(branch, min_size=branches[0], max_size=branches[1]))
    prefix = [mmap(*window).moved(mm) for mm in range(mms)]
    if draw(st.booleans()):
        prefix.append(mmap(*draw(page_ranges(bits, window)), writable=draw(st.booleans())))
    if touches:
        prefix += draw(st.lists(_somewhere(access.map(write) | access.map(read), mms), max_size=3))
    return Program(branches=tuple(raced), prefix=tuple(prefix))


def knobs() -> st.SearchStrategy[dict[str, int | str]]:
    """Knobs that make rare paths frequent; without failing allocations, so that results stay exact."""
    one_in = st.sampled_from((0, 2, 1, 3, 5))
    return st.fixed_dictionaries(
        {
            "need_resched": one_in,
            "gather_batch": one_in,
            "gather_alloc_fail": one_in,
            "walk_sleep": one_in,
            "trylock_fail": one_in,
            "flush_delay": st.sampled_from((0, 3)),
            "reuse": st.sampled_from(("lifo", "fifo")),
        }
    )


def _operation(
    verb: Verb, bits: Bits, window: Range | None, invalid: bool, access: st.SearchStrategy[int] | None = None
) -> st.SearchStrategy[Op]:
    if verb in ACCESSES:
        where = access if access is not None else pages(bits, window)
        if verb is Verb.GUP_FAST:
            return st.builds(gup_fast, where, st.booleans())
        return where.map(read if verb is Verb.READ else write)
    ranges = page_ranges(bits, window, invalid)
    if verb in WHOLE_MM:
        return st.just(Op(verb, 0, 0))
    if verb in (*PROTECTING, Verb.POPULATE):
        return st.tuples(ranges, st.booleans()).map(lambda drawn: Op(verb, *drawn[0], int(not drawn[1])))
    return ranges.map(lambda pair: Op(verb, *pair))


def _somewhere(ops: st.SearchStrategy[Op], mms: int) -> st.SearchStrategy[Op]:
    """The operations, each in one of ``mms`` mms."""
    return ops if mms == 1 else st.builds(Op.moved, ops, st.integers(0, mms - 1))


@st.composite
def _windows(draw: st.DrawFn, bits: Bits) -> Range:
    """One to three neighbouring pte_tables."""
    table_pages = 1 << bits[0]
    in_all = Geometry.of(bits).pages // table_pages
    count = draw(st.integers(1, min(3, in_all)))
    first = draw(st.integers(0, in_all - count))
    return first * table_pages, (first + count) * table_pages


def _pairs(borders: Sequence[int]) -> st.SearchStrategy[Range]:
    """Two different ones, in order. There must be two."""
    last = len(borders) - 1
    index = st.integers(0, last - 1).flatmap(lambda i: st.tuples(st.just(i), st.integers(i + 1, last)))
    return index.map(lambda pair: (borders[pair[0]], borders[pair[1]]))
