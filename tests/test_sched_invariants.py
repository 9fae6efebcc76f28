"""Each invariant that counts as checked is reported, by its number, when its bug is there."""

import re
from pathlib import Path

import pytest

from ptstress.bugs import BUGS, find_bug
from ptstress.exploring import ExploreRequest, explore
from ptstress.invariants import INVARIANTS
from ptstress.units import parse_geometry
from ptstress.vocabulary import Oracle

ENGINE = Path(__file__).parent.parent / "cy"
GEOMETRY = parse_geometry("2x2x2x4")
BUDGET = 20_000
CHECKED = [i for i in INVARIANTS if i.checked]
SEEDS = 400
#: Functions of the engine whose last argument is the number that they report, and their oracle.
HANDED_ON = (("check_unlinked", "UAF"), ("check_empty", "UAF"), ("check_no_zero_page", "STALE_TLB"))


def breaks(bug_id, program, number):
    """Does exploring the program with the bug report the number? A bug may show in several ways: so there are several tries."""
    bug = find_bug(bug_id)
    for seed in range(1, SEEDS):
        request = ExploreRequest(program or bug.program, bug.scheme, GEOMETRY, (bug.id,), BUDGET, None, seed, "random")
        (failure,) = explore(request, lambda line: None).failures
        if number in failure.invariants:
            return True
    return False


def reported():
    """(number, oracle) of each report in the source of the engine."""
    found = set()
    for path in ENGINE.rglob("*.p[xy]*"):
        text = path.read_text()
        found |= {(int(n), oracle) for oracle, n in re.findall(r"pt_report\([\w.]+, ORACLE_(\w+), (\d+),", text)}
        found |= {(int(n), "DATA") for n in re.findall(r"data_report\(\w+, (\d+),", text)}
        for function, oracle in HANDED_ON:
            for last in re.findall(rf"{function}\(.*, (\d+.*)\)", text):
                found |= {(int(n), oracle) for n in re.findall(r"\d+", last)}
    return {(number, Oracle[oracle].label) for number, oracle in found if number}


def test_the_table_has_each_number_once():
    assert [i.number for i in INVARIANTS] == list(range(1, 59))


def test_at_most_six_are_not_checked():
    assert len(CHECKED) >= 50


def test_the_table_names_bugs_and_oracles_that_there_are():
    bugs = {bug.id: bug for bug in BUGS}
    oracles = {oracle.label for oracle in Oracle}
    for i in INVARIANTS:
        assert i.holds and i.where
        assert set(i.oracles) <= oracles
        assert len(set(i.bugs)) == len(i.bugs)
        assert all({*i.oracles} & {*bugs[bug].oracles} for bug in i.bugs), i.name


def test_each_bug_breaks_an_invariant():
    assert {bug for i in INVARIANTS for bug in i.bugs} == {bug.id for bug in BUGS}


def test_the_table_says_who_reports_a_number():
    table = {(i.number, oracle) for i in INVARIANTS for oracle in i.oracles}
    assert reported() <= table
    # A deadlock is how an execution ends.
    assert table - reported() <= {(48, "progress")}


@pytest.mark.parametrize("invariant", CHECKED, ids=lambda i: i.name)
def test_the_first_bug_of_an_invariant_breaks_it(invariant):
    assert breaks(invariant.bugs[0], invariant.program, invariant.number)


@pytest.mark.long
@pytest.mark.parametrize("number, bug", [(i.number, bug) for i in CHECKED for bug in i.bugs[1:]])
def test_the_other_bugs_of_an_invariant_break_it_too(number, bug):
    assert breaks(bug, "", number)
