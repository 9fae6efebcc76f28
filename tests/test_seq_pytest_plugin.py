"""The pytest plugin, as a user's project sees it: tests of its own in a pytest of its own."""

import re

import pytest

pytest_plugins = ["pytester"]

RACE = "prefix: mmap(p0..p4); write(p1); t0: dontneed(p0..p4) | t1: write(p0); write(p2)"


@pytest.fixture
def run(pytester):
    """Runs the lines as one test module in a process of its own."""

    def inner(body: str):
        pytester.makepyfile(f"import pytest\n\nRACE = {RACE!r}\n\n{body}")
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers")

    return inner


def test_a_right_program_passes(run):
    result = run(
        "@pytest.mark.ptstress(executions=300, rounds=5)\n"
        "def test_race(ptstress):\n"
        "    ptstress.check(RACE)\n"
    )
    result.assert_outcomes(passed=1)


def test_a_failure_shows_program_story_and_replay_line(run):
    result = run(
        "@pytest.mark.ptstress(bugs=['M07-table'], executions=5000)\n"
        "def test_race(ptstress):\n"
        "    ptstress.explore(RACE)\n"
    )
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert f"program: {RACE}" in text
    assert re.search(r"^E? *CPU0 +CPU1", text, re.M)
    assert "dontneed(p0..p4)" in text
    assert "again: ptstress replay 'pt" in text
    assert "Traceback" not in text


def test_threads_find_what_the_oracles_find(run):
    result = run(
        "@pytest.mark.ptstress(bugs=['M10-frame'], rounds=20000)\n"
        "def test_race(ptstress):\n"
        "    ptstress.race('prefix: mmap(p0..p4); t0: write(p0); dontneed(p0..p4) | t1: write(p0); read(p0)')\n"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*violation on real threads, round *"])


def test_the_nearest_marker_wins(run):
    result = run(
        "pytestmark = pytest.mark.ptstress(scheme='linux-6.3', rounds=3)\n"
        "@pytest.mark.ptstress(scheme='covering')\n"
        "def test_settings(ptstress):\n"
        "    assert (ptstress.settings.scheme, ptstress.settings.rounds) == ('covering', 3)\n"
    )
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "line"),
    [
        ("scheme='linux-9'", "marker ptstress: scheme 'linux-9': expected one of*"),
        ("bugs=['P99']", "marker ptstress: bug 'P99': expected one of*"),
        ("geometry='2x'", "marker ptstress: geometry '2x'*"),
        ("runs=3", "marker ptstress: 'runs': expected some of scheme, geometry, executions*"),
        ("3", "marker ptstress: an argument without a name: expected some of*"),
    ],
)
def test_a_wrong_marker_is_one_line(run, marker, line):
    result = run(f"@pytest.mark.ptstress({marker})\ndef test_race(ptstress):\n    ptstress.check(RACE)\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{line}"])


def test_a_program_that_cannot_be_read_is_one_line(run):
    result = run("def test_race(ptstress):\n    ptstress.check('t0: wrte(p0)')\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*<command line>:1: operation 'wrte': expected one of*"])
