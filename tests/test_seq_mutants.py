"""Mutants of the engine: where the operators find their places, what becomes of the text, and how the score is added up."""

from dataclasses import replace

import pytest

from ptstress.errors import ExitCode, UsageError
from ptstress.lab import ARENA
from ptstress.mutant_build import mutants_of_engine
from ptstress.mutant_hunt import FURTHER, Verdict, rank
from ptstress.mutant_jobs import SCARCE, Job, all_jobs
from ptstress.mutant_operators import OPERATORS, find_mutants
from ptstress.mutant_source import parse_source
from ptstress.mutant_text import mutate
from ptstress.mutant_windows import WINDOWS
from ptstress.mutants import Control, Reason, choose, load_reasons, mutant_lines, ordering_reasons, summarize
from ptstress.orderings import REASONS
from ptstress.program import parse
from ptstress.weaken_aims import AIMS

HEAD = "from cy.base.atomics cimport READ_ONCE\n\n"
SILENT = Control(100, [], 2, 2)

LOCKED = """\
# Context: no lock.
cdef inline int install(cpu *c, mm *m, ptdesc *table, uint64_t *pmdp) noexcept nogil:
    cdef uint64_t seen
    spin_lock(c, &table.lock, LOCK_PML)
    seen = READ_ONCE(pmdp)
    if not pmd_none(seen):
        spin_unlock(c, &table.lock)
        return 0
    smp_store_release(pmdp, 1)
    spin_unlock(c, &table.lock)
    return 1
"""


def found(text, operator):
    """(text, change) of the mutants of one operator in a file of such functions."""
    return [(m.text, m.change) for m in find_mutants([parse_source("cy/mm/some.pxd", HEAD + text)]) if m.operator == operator]


def mutated(text, operator):
    """The text of the file with the mutants of one operator, numbered from 1, without its head and helpers."""
    source = parse_source("cy/mm/some.pxd", HEAD + text)
    mutants = [m for m in find_mutants([source]) if m.operator == operator]
    for number, mutant in enumerate(mutants, start=1):
        mutant.number = number
    whole = mutate(source, mutants)
    assert len(whole.text.split("\n")) == len(whole.lines)
    return [line for line in whole.text.split("\n") if line and not line.startswith(("from", "#"))]


# -- what a statement is ---------------------------------------------------------------------------------------------


def test_a_function_is_read_as_statements_and_suites():
    (function,) = parse_source("cy/mm/some.pxd", HEAD + LOCKED).functions
    assert (function.name, function.comment) == ("install", "# Context: no lock.")
    assert [s.keyword for s in function.statements()].count("if") == 1
    check = next(s for s in function.statements() if s.keyword)
    assert [s.text for s in check.suite] == ["spin_unlock(c, &table.lock)", "return 0"]
    assert check.leaves() and check.neighbour(1).text == "smp_store_release(pmdp, 1)"


def test_a_statement_over_several_lines_is_one():
    text = "cdef inline void f(mm *m,\n                   int n) noexcept nogil:\n    g(m,\n      n)      # why\n    h(m)\n"
    (function,) = parse_source("cy/mm/some.pxd", text).functions
    assert [(s.text, s.first, s.last) for s in function.statements()] == [("g(m, n)", 2, 3), ("h(m)", 4, 4)]


def test_what_is_not_written_in_the_engines_manner_is_refused():
    with pytest.raises(ValueError, match="some.pxd:1: expected 'cdef inline"):
        parse_source("cy/mm/some.pxd", "cdef inline int f(int n):\n    return n\n")


# -- where the operators find their places ---------------------------------------------------------------------------


def test_a_recheck_under_a_lock_is_dropped_in_the_direction_that_goes_on():
    assert found(LOCKED, "M01") == [("if not pmd_none(seen):", "if False")]


def test_a_hint_without_a_lock_is_no_recheck():
    assert found(LOCKED.replace("    spin_lock(c, &table.lock, LOCK_PML)\n", ""), "M01") == []


def test_a_lock_goes_with_all_of_its_unlocks():
    assert found(LOCKED, "M02") == [("spin_lock(c, &table.lock, LOCK_PML)", "no lock, no unlock")]
    assert sum("mut_off(1)" in line for line in mutated(LOCKED, "M02")) == 3


def test_a_lock_that_is_returned_held_excludes_nobody():
    text = "cdef inline void take(cpu *c, ptdesc *t) noexcept nogil:\n    spin_lock(c, &t.lock, LOCK_PTL)\n"
    assert found(text, "M02") == [("spin_lock(c, &t.lock, LOCK_PTL)", "excludes nobody")]
    assert mutated(text, "M02")[1:] == [
        "    if mut_on(1):", "        spin_lock_nowait(c, &t.lock, LOCK_PTL)",
        "    if mut_off(1):", "        spin_lock(c, &t.lock, LOCK_PTL)"]


def test_an_unlock_moves_before_what_stood_before_it():
    assert found(LOCKED, "M03") == [("spin_unlock(c, &table.lock)", "before: smp_store_release(pmdp, 1)")]
    lines = mutated(LOCKED, "M03")
    at = lines.index("    if mut_on(1):")
    assert lines[at : at + 5] == [
        "    if mut_on(1):", "        spin_unlock(c, &table.lock)", "    smp_store_release(pmdp, 1)",
        "    if mut_off(1):", "        spin_unlock(c, &table.lock)"]


def test_a_lock_moves_behind_what_stood_behind_it():
    assert found(LOCKED, "M04") == [("spin_lock(c, &table.lock, LOCK_PML)", "behind: seen = READ_ONCE(pmdp)")]


def test_the_wrong_lock_is_that_of_the_mm():
    assert found(LOCKED, "M05") == [("spin_lock(c, &table.lock, LOCK_PML)", "lock m.page_table_lock")]


def test_what_a_lock_keeps_together_is_parted_where_nothing_is_a_schedule_point():
    text = ("cdef inline void push(cpu *c, arena *a, uint32_t i) noexcept nogil:\n    spin_lock(c, &a.lock, LOCK_ARENA)\n"
            "    a.head = i\n    a.nr += 1\n    WRITE_ONCE(&a.seen, 1)\n    spin_unlock(c, &a.lock)\n")
    lines = mutated(text, "M02")
    assert lines[lines.index("    a.head = i") - 2 :][:7] == [
        "    if mut_on(1):", "        pass", "    a.head = i",
        "    if mut_on(1):", "        a.nr = mut_later(a.nr) + (1)", "    if mut_off(1):", "        a.nr += 1"]
    assert lines[-3] == "    WRITE_ONCE(&a.seen, 1)"


def test_a_release_store_is_relaxed():
    assert found(LOCKED, "M14") == [("smp_store_release(pmdp, 1)", "smp_store_release: relaxed")]
    assert "    mut_smp_store_release(1, 0, pmdp, 1)" in mutated(LOCKED, "M14")


def test_of_a_full_barrier_the_engine_leaves_the_ordering_out():
    text = "cdef inline void f(uint64_t *p) noexcept nogil:\n    # [PT-001] pairs with: nobody.\n    xchg(p, 0)\n    smp_mb()\n"
    mutants = [m for m in find_mutants([parse_source("cy/mm/some.pxd", HEAD + text)]) if m.operator == "M14"]
    assert [(m.change, m.weakened) for m in mutants] == [("xchg: relaxed", (5,)), ("no barrier", (6,))]
    assert [line for line in mutated(text, "M14") if "xchg(" in line or "smp_mb(" in line] == ["    xchg(p, 0)", "    smp_mb()"]


def test_two_operators_on_one_call_are_two_slots_of_it():
    text = "cdef inline void f(cursor *cur) noexcept nogil:\n    cmpxchg(cur.ptep, 1, 2)\n"
    source = parse_source("cy/mm/some.pxd", HEAD + text)
    mutants = find_mutants([source])
    assert [(m.operator, m.number) for m in mutants] == [("M11", 1), ("M12", 2)]
    assert "    mut_cmpxchg(1, 2, cur.ptep, 1, 2)" in mutate(source, mutants).text.split("\n")


def test_a_read_again_stands_before_the_second_use():
    text = ("cdef inline int f(uint64_t *p) noexcept nogil:\n    cdef uint64_t v\n    v = READ_ONCE(p)\n"
            "    if v == 0:\n        return 0\n    return g(v)\n")
    assert found(text, "M13") == [("v = READ_ONCE(p)", "again before: return g(v)")]


def test_oracles_and_planted_bugs_have_no_places():
    text = ("cdef inline void f(cpu *c, mm *m, uint64_t *p) noexcept nogil:\n    if PT_CHECKS:\n        xchg(p, 0)\n"
            "    if BUG(m.bugs, BUG_P01):\n        xchg(p, 0)\n    if not BUG(m.bugs, BUG_P02):\n        xchg(p, 1)\n")
    assert [text for text, _ in found(text, "M11")] == ["xchg(p, 1)"]
    assert found("cdef inline void _check_it(uint64_t *p) noexcept nogil:\n    xchg(p, 0)\n", "M11") == []


# -- the engine ------------------------------------------------------------------------------------------------------


def test_each_operator_has_places_in_the_engine():
    mutants = mutants_of_engine()
    assert {m.operator for m in mutants} == {operator for operator, _, _ in OPERATORS}
    assert len({m.key for m in mutants}) > len(mutants) * 0.95
    assert [m.number for m in mutants] == list(range(1, len(mutants) + 1))


def test_every_reason_is_about_a_mutant():
    mutants = mutants_of_engine()
    assert [begin for reason in load_reasons() for begin in reason.stale(mutants)] == []


def test_mutants_are_chosen_by_operator_or_id():
    mutants = mutants_of_engine()
    assert {m.operator for m in choose(mutants, ["M11"])} == {"M11"}
    assert [m.id for m in choose(mutants, ["M11.04"])] == ["M11.04"]
    with pytest.raises(UsageError, match="mutant 'M99': expected an operator"):
        choose(mutants, ["M99"])


def test_an_ordering_that_is_not_missed_has_one_reason_for_both_who_ask():
    mutants = mutants_of_engine()
    reasons = ordering_reasons(mutants)
    assert reasons and all(r.equivalent and r.because in REASONS.values() for r in reasons)
    assert {m.operator for m in mutants for r in reasons if r.fits(m)} == {"M14"}


# -- what it is hunted with ------------------------------------------------------------------------------------------


def test_each_program_has_its_turn_before_any_has_two():
    one, two = (parse(f"t0: read(p{page}) | t1: write(p{page})", "<test>") for page in (0, 1))
    jobs = [Job("race", "race", scheme, program) for program in (one, two) for scheme in ("linux-6.12", "linux-6.18")]
    mutant, _ = some_mutants()
    seen = [{mutant[0].number: density} for density in (0.4, 0.3, 0.2, 0.1)]
    assert [job.program for job in rank(mutant[0], jobs, seen)] == [one, two, one, two]


def test_what_little_there_is_belongs_to_jobs_of_its_own():
    jobs = all_jobs(1)
    assert {job.arena for job in jobs} == {ARENA, SCARCE}
    assert len(jobs) == len({(job.label, job.scheme, job.program, job.knobs, job.arena, job.geometry) for job in jobs})


# -- the score -------------------------------------------------------------------------------------------------------


def some_mutants():
    mutants = find_mutants([parse_source("cy/mm/some.pxd", HEAD + LOCKED)])
    return mutants, {m.operator: m for m in mutants}


def summary(verdicts, reasons=(), control=SILENT, whole=True, stopped=False):
    mutants, _ = some_mutants()
    return summarize(mutants, verdicts, control, list(reasons), 1, 1.0, whole, stopped)


def reason(mutant, **more):
    return Reason("so", [mutant.key], **more)


def verdicts(survivor=""):
    return [Verdict(m.number, "" if m.operator == survivor else "data", reached=1, executions=5) for m in some_mutants()[0]]


def test_all_killed_passes():
    s = summary(verdicts())
    assert (s.exit_code, s.score, s.oracles) == (ExitCode.PASS, 1.0, {"data": len(s.killed)})


def test_a_survivor_without_a_reason_is_shown_and_does_not_pass():
    s = summary(verdicts("M05"))
    assert s.exit_code == ExitCode.UNTRUSTWORTHY
    assert any("M05.01  cy/mm/some.pxd:6 install" in line for line in mutant_lines(s))


def test_an_equivalent_mutant_does_not_count():
    _, by = some_mutants()
    s = summary(verdicts("M05"), [reason(by["M05"], equivalent=True)])
    assert (s.exit_code, s.score) == (ExitCode.PASS, 1.0)


def test_a_survivor_with_another_reason_counts_but_is_explained():
    _, by = some_mutants()
    s = summary(verdicts("M05"), [reason(by["M05"])])
    assert s.score < 1 and s.operators[4].explained == 1 and not [v for v in s.survivors if not v.because]


def test_a_reason_for_what_was_killed_is_wrong():
    _, by = some_mutants()
    s = summary(verdicts(), [reason(by["M05"], equivalent=True)])
    assert s.exit_code == ExitCode.UNTRUSTWORTHY and "is called equivalent" in s.wrong[0]


def test_a_reason_that_fits_no_mutant_is_stale():
    _, by = some_mutants()
    gone = Reason("so", [by["M05"].key.replace("table.lock", "a line that nobody wrote")])
    assert "no mutant is called 'M05" in summary(verdicts(), [gone]).wrong[0]
    assert summary(verdicts(), [gone], whole=False).wrong == []


@pytest.mark.parametrize("control", [Control(100, ["P01 under linux-6.18: violation"], 2, 2), Control(100, [], 2, 1)])
def test_a_control_that_is_not_the_engine_is_a_violation(control):
    assert summary(verdicts(), control=control).exit_code == ExitCode.VIOLATION


def test_a_report_that_comes_without_the_mutant_too_is_a_violation():
    first, *others = verdicts()
    first.control = "window f under rcu: violation"
    s = summary([first, *others])
    assert s.exit_code == ExitCode.VIOLATION and s.control.failures == [first.control]


def test_a_run_that_was_stopped_does_not_pass():
    assert summary(verdicts(), stopped=True).exit_code == ExitCode.UNTRUSTWORTHY


def test_what_is_aimed_at_an_ordering_is_a_job_under_its_scheme():
    aimed = [(job.scheme, job.program.text()) for job in all_jobs(1) if job.kind == "aim"]
    assert aimed == [(aim.scheme, parse(aim.program, "<aim>").text()) for aim in AIMS]
    assert any(turn.kind == "aim" for turn in FURTHER)


def test_a_window_is_a_job_for_mutants_of_its_function_alone():
    windows = [job for job in all_jobs(1) if job.kind == "window"]
    functions = {m.function for m in mutants_of_engine()}
    assert len(windows) == len(WINDOWS) and {job.function for job in windows} <= functions
    mutant = some_mutants()[0][0]
    jobs = [replace(windows[0], function=function) for function in ("", mutant.function, "another")]
    assert rank(mutant, jobs, [{mutant.number: 0.5}] * 3) == jobs[:2]
    assert rank(mutant, jobs, [{}] * 3) == jobs[:2]
    assert rank(mutant, jobs, [{mutant.number: 0.5}, {}, {}]) == jobs[:2]
