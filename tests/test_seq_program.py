"""Programs as text: they round-trip, and what is wrong is told with file, line, found and expected."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptstress.errors import UsageError
from ptstress.generator import BRANCHES, MMS, OPERATIONS_PER_BRANCH, TABLES, generate
from ptstress.operation import Op, age, dontneed, exit_mm, mmap, mprotect, munmap, op_array, ops_of, populate, read, walk, write
from ptstress.program import Program, parse
from ptstress.strategies import TINY, operations, programs
from ptstress.vocabulary import ACCESSES, OPERATIONS, WHOLE_MM, Verb

M1 = 1 << 48
EXAMPLE = "prefix: mmap(p0..p8); write(p3); t0: write(p3); dontneed(p0..p8) | t1: read(p3); suffix: walk(p0..p8)"


def test_the_example_of_the_module_is_read_as_it_says():
    program = parse(EXAMPLE)
    assert program == Program(
        prefix=(mmap(0, 8), write(3)),
        branches=((write(3), dontneed(0, 8)), (read(3),)),
        suffix=(walk(0, 8),),
    )
    assert program.text() == EXAMPLE


def test_lines_comments_and_spaces_mean_what_separators_mean():
    text = """
        # The case of the docs.
        prefix:
            mmap( p0 .. p8 )     # all of it
            write(p3)

        t0: write(p3) ; dontneed(p0..p8)
        t1:
            read(p3) |
        suffix: walk(p0..p8);
    """
    assert parse(text) == parse(EXAMPLE)


@pytest.mark.parametrize(
    ("text", "op"),
    [
        ("read(p0)", read(0)),
        ("write(p7)", write(7)),
        ("walk(p2)", walk(2, 3)),
        ("munmap(p1..p4)", munmap(1, 4)),
        ("dontneed(p5..p5)", dontneed(5, 5)),
        ("munmap(p5..p2)", munmap(5, 2)),
        ("mmap(p0..p8)", mmap(0, 8)),
        ("mmap(p0..p8, rw)", mmap(0, 8)),
        ("mmap(p3, ro)", mmap(3, 4, writable=False)),
        ("write(m1:p3)", write(M1 + 3)),
        ("read(m0:p3)", read(3)),
        ("mmap(m1:p0..p8, ro)", mmap(M1, M1 + 8, writable=False)),
        ("exit(m0)", exit_mm()),
        ("exit(m2)", exit_mm(2)),
        ("walk(m1:p5..p2)", walk(M1 + 5, M1 + 2)),
        ("walk(m1:p5..m0:p2)", walk(M1 + 5, 2)),
        ("mprotect(p3, ro)", mprotect(3, 4)),
        ("mprotect(p0..p8, rw)", mprotect(0, 8, writable=True)),
        ("populate(p0..p8)", populate(0, 8)),
        ("populate(m1:p3, write)", populate(M1 + 3, M1 + 4, write=True)),
        ("age(p0..p8)", age(0, 8)),
    ],
)
def test_operations(text, op):
    assert parse(f"t0: {text}").branches == ((op,),)
    assert parse(f"t0: {op}").branches == ((op,),)


@pytest.mark.parametrize(
    ("text", "line", "found", "expected"),
    [
        ("", 1, "no branch", "at least 't0:'"),
        ("# nothing\n\n", 2, "no branch", "at least 't0:'"),
        ("prefix: mmap(p0..p8)", 1, "no branch", "at least 't0:'"),
        ("write(p3)", 1, "'write(p3)' outside of a section", "a label first"),
        ("t0: write(p3)\nt2: read(p3)", 2, "section 't2'", "'t1' or 'suffix'"),
        ("t1: write(p3)", 1, "section 't1'", "'t0' or 'prefix'"),
        ("prefix: mmap(p0)\nmain: write(p0)", 2, "section 'main'", "'t0'"),
        ("t0: write(p3)\nt0: read(p3)", 2, "a second 't0'", "each section once"),
        ("t0: write(p3)\nprefix: read(p3)", 2, "'prefix' after a branch", "the prefix first"),
        ("suffix: walk(p0)\nt0: write(p3)", 1, "'suffix' before any branch", "'t0:'"),
        ("t0: write(p3); suffix: walk(p0); t1: read(p0)", 1, "'t1' after 'suffix'", "the suffix last"),
        ("t0: write(p3)\n\n  frobnicate(p3)", 3, "operation 'frobnicate'", "one of read, write"),
        ("t0: sync(p3)", 1, "operation 'sync'", "one of read, write"),
        ("t0: write p3", 1, "'write p3'", "an operation such as write(p3)"),
        ("t0: write(p3", 1, "'write(p3'", "an operation such as write(p3)"),
        ("t0: write(3)", 1, "'3' in write()", "one page such as p3"),
        ("t0: write(p3..p5)", 1, "'p3..p5' in write()", "one page such as p3"),
        ("t0: walk()", 1, "'' in walk()", "pages such as p0..p8 or p3"),
        ("t0: walk(p0-p8)", 1, "'p0-p8' in walk()", "pages such as p0..p8 or p3"),
        ("t0: dontneed(p0..p8, ro)", 1, "'ro' in dontneed()", "pages and nothing else"),
        ("t0: mmap(p0..p8, rx)", 1, "'rx' in mmap()", "'ro', 'rw' or nothing"),
        ("t0: mprotect(p0..p8)", 1, "'' in mprotect()", "'ro' or 'rw' after the pages"),
        ("t0: mmap(p0, ro, rw)", 1, "'ro, rw' in mmap()", "'ro', 'rw' or nothing"),
        (f"t0: write(p{1 << 60})", 1, f"page p{(1 << 60) + 1}", "pages below"),
        ("t0: exit(p3)", 1, "'p3' in exit()", "an mm, m0 to m7"),
        ("t0: write(m8:p0)", 1, "mm m8", "m0 to m7"),
        ("t0: write(m1:p0..p2)", 1, "'m1:p0..p2' in write()", "one page such as p3"),
        ("\n".join(f"t{i}: read(p0)" for i in range(65)), 65, "more than 64 branches", "at most t63"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, line, found, expected):
    with pytest.raises(UsageError) as caught:
        parse(text, "case.txt")
    message = str(caught.value)
    assert message.startswith(f"case.txt:{line}: {found}: expected {expected}")
    assert "\n" not in message


def test_64_branches_are_allowed_and_may_be_empty():
    program = Program(branches=((),) * 63 + ((read(0),),))
    assert parse(program.text()) == program


def test_arrays_are_what_the_engine_takes():
    prefix, branches = parse(EXAMPLE).arrays()
    assert prefix[["verb", "start", "end", "arg"]].tolist() == [(Verb.MMAP, 0, 8, 1), (Verb.WRITE, 3, 4, 0)]
    assert [branch["worker"].tolist() for branch in branches] == [[0, 0], [1]]
    assert ops_of(branches[0]) == [write(3), dontneed(0, 8)]
    assert ops_of(parse(EXAMPLE).suffix_array()) == [walk(0, 8)]
    assert (parse(EXAMPLE).end_page(), parse(EXAMPLE).mms()) == (8, 1)
    assert (parse("t0: walk(m2:p1..p9)").end_page(), parse("t0: walk(m2:p1..p9)").mms()) == (9, 3)


@given(data=st.data(), bits=st.sampled_from(TINY))
@settings(deadline=None)
def test_programs_round_trip(data, bits):
    program = data.draw(programs(bits, mms=3))
    suffix = data.draw(st.lists(operations(bits, invalid=True), max_size=2))
    program = Program(program.branches, program.prefix, tuple(suffix))
    assert parse(program.text()) == program
    assert parse(program.text().replace("; ", "\n")) == program
    assert [ops_of(op_array(branch)) for branch in program.branches] == [list(branch) for branch in program.branches]


@given(
    verb=st.sampled_from(OPERATIONS), start=st.integers(0, (8 << 48) - 1), end=st.integers(0, (8 << 48) - 1),
    arg=st.integers(0, 1))
def test_any_operation_round_trips(verb, start, end, arg):
    with_mode = verb in (Verb.MMAP, Verb.GUP_FAST, Verb.POPULATE)
    op = Op(verb, start, start + 1 if verb in ACCESSES else end, arg if with_mode else 0)
    op = Op(verb, *exit_mm(op.mm)[1:]) if verb in WHOLE_MM else op
    assert parse(f"t0: {op}").branches[0] == (op,)


@pytest.mark.parametrize("bits", [*TINY, (9, 9, 9, 9)], ids=str)
def test_the_common_generator_makes_small_programs_that_share_tables(bits):
    def between(limits):
        return range(limits[0], limits[1] + 1)

    generated = [generate(seed, bits) for seed in range(300)]
    assert [generate(seed, bits) for seed in range(300)] == generated
    verbs = {op.verb for program in generated for branch in program.branches for op in branch}
    assert verbs == set(OPERATIONS)
    assert {program.mms() for program in generated} == set(MMS)
    for program in generated:
        assert len(program.branches) in between(BRANCHES)
        assert all(len(branch) in between(OPERATIONS_PER_BRANCH) for branch in program.branches)
        region = program.prefix[0]
        assert region.end <= 1 << sum(bits)
        assert (region.end - region.start) >> bits[0] in TABLES
        local = [op.moved(-op.mm) for op in program.operations()]
        assert all(region.start <= op.start < op.end <= region.end for op in local if op.verb not in WHOLE_MM)
        assert parse(program.text()) == program
