"""What a hunt says: medians with the seeds that found nothing, how long the clean engine must be silent, verdict and tables."""

from ptstress.errors import ExitCode
from ptstress.exploring import ExploreFailure
from ptstress.hunt_report import hunt_lines, hunt_status, long_table
from ptstress.hunt_summary import HuntSummary, Row, Silent, asked_for, reasons_of, total, verdict_of
from ptstress.hunt_wire import DIRECTED, UNDIRECTED, Attempt, Repeated, Scenario

DIRECT = Scenario("prefix: mmap(p0..p4); t0: write(p0)", "linux-6.18", "random")
GENERAL = Scenario("", "linux-6.18", "random")


def row(scenario, counts, seeds=None, bug="P01", repeated=10):
    """``counts``: executions from each seed, below 0 in vain."""
    attempts = [Attempt(seed, n > 0, abs(n), abs(n) / 1000, "data" if n > 0 else "", 38 if n > 0 else 0)
                for seed, n in enumerate(counts, start=1)]
    one = Row(bug, scenario.mode, scenario, seeds or len(counts), attempts)
    if one.found:
        one.repeated = Repeated("pts1_x", {"fibres": 10, "threads": repeated}, 10, True)
    return one


def summary(rows, clean, stop_reason=""):
    """Of one policy."""
    for one in rows:
        one.close(next(s for s in clean if s.scenario == one.scenario))
    reasons = reasons_of(rows, clean, stop_reason)
    verdict, code = verdict_of(reasons, clean)
    modes = list(dict.fromkeys(one.mode for one in rows))
    totals = [total("random", mode, rows) for mode in modes]
    return HuntSummary(
        verdict, code, reasons, len({r.bug for r in rows}), ["random"], modes, 10, 1, 2.0, stop_reason, totals, rows, clean,
        "results/x")


def silent(scenario, executions, **more):
    """A clean engine that ran so long."""
    return Silent(scenario, 1000, True, executions, 1.0, **more)


def test_all_found_repeated_and_silent_is_a_pass():
    s = summary([row(DIRECT, [4, 2, 9, 5]), row(GENERAL, [40, -90, -90, -90])], [silent(DIRECT, 1000), silent(GENERAL, 4000)])
    assert (s.verdict, s.exit_code, s.reasons) == ("pass", ExitCode.PASS, [])
    assert s.rows[0].executions.median == 4.5 and s.rows[0].clean == 222.2
    lines = hunt_lines(s)
    assert lines[0] == "verdict: PASS (exit 0)  1 bug, directed and undirected, 10 seeds from 1 on, 2.0 s"
    assert lines[3].split("  ")[0] == "P01"
    assert all(text in lines[3] for text in ("4/4", "4.5 (2 to 9)         2 to 9", "10+10/10", "silent, 222 x"))
    assert "1/4" in lines[6] and "undirected" in lines[5]
    assert len(long_table(s)) == 3


def test_seeds_in_vain_count_as_longer_than_all_others():
    many = row(DIRECT, [4, 5, 6, 7, 8, -3])
    many.close(None)
    assert (many.executions.median, many.executions.interval.low) == (6.5, 4)
    assert "6.5 (4 to ?)" in "\n".join(long_table(summary([many], [silent(DIRECT, 1000)])))
    few = row(DIRECT, [4, -9, -9])
    few.close(None)
    assert few.executions is None and few.median == 4 and not few.every


def test_the_clean_engine_is_asked_for_a_hundred_times_the_slowest_bug_and_for_a_thousand_executions():
    assert asked_for([row(GENERAL, [3, 5, 4])]) == 1000
    assert asked_for([row(GENERAL, [3, 5, 4]), row(GENERAL, [70, 50, 60], bug="P17"), row(GENERAL, [-1])]) == 6000


def test_what_makes_a_hunt_doubtful_is_named():
    cases = [
        ([row(DIRECT, [4, -9])], [silent(DIRECT, 1000)], "not found from every seed, directed under random: P01 1 of 2"),
        ([row(GENERAL, [-4, -9])], [silent(GENERAL, 1000)], "found from no seed under any policy: P01 undirected"),
        ([row(GENERAL, [4], repeated=9)], [silent(GENERAL, 1000)], "not repeated each time: P01 undirected random"),
        ([row(GENERAL, [4])], [silent(GENERAL, 999)], "the clean engine ran too few executions for: P01 undirected random"),
        ([row(GENERAL, [4])], [Silent(GENERAL)], "the clean engine ran too few executions for: P01 undirected random"),
    ]
    for rows, clean, reason in cases:
        s = summary(rows, clean)
        assert (s.verdict, s.exit_code, s.reasons) == ("unknown", ExitCode.UNTRUSTWORTHY, [reason])
        assert hunt_lines(s)[-2] == f"not trusted: {reason}"
    slow = summary([row(GENERAL, [4]), row(GENERAL, [70], bug="P17")], [silent(GENERAL, 6000)])
    assert slow.reasons == ["the clean engine ran too few executions for: P17 undirected random"]
    stray = row(GENERAL, [4])
    stray.attempts.append(Attempt(2, False, 3, 0.1, "census", 2))
    assert summary([stray], [silent(GENERAL, 1000)]).reasons == ["a report that is no right one: P01 census"]
    assert summary([row(GENERAL, [4])], [silent(GENERAL, 1000)], "stopped").reasons == ["stopped before the end"]


def test_a_clean_engine_that_came_to_the_end_of_all_schedules_ran_enough():
    s = summary([row(DIRECT, [900])], [silent(DIRECT, 20, exhausted=True)])
    assert s.verdict == "pass" and "silent, all" in hunt_lines(s)[3]


def test_a_clean_engine_that_is_not_silent_is_worse_than_all_else():
    failure = ExploreFailure(
        "data", [38], "pts1_y", 7, "t0: write(p0)", "a value was lost", ["CPU0", "write(p0)"], "BUG: data", ["expected: it"])
    s = summary([row(DIRECT, [-4])], [silent(DIRECT, 7, failure=failure)])
    assert (s.verdict, s.exit_code) == ("violation", ExitCode.VIOLATION)
    lines = hunt_lines(s)
    assert lines[0].endswith("the clean engine: data I38: a value was lost (directed, random, linux-6.18)")
    assert lines[1] == "again: ptstress replay 'pts1_y'"
    crashed = summary([row(DIRECT, [4])], [silent(DIRECT, 7, crash="crash by SIGSEGV")])
    assert crashed.exit_code == ExitCode.VIOLATION and "crash by SIGSEGV (directed" in hunt_lines(crashed)[0]


def test_totals_name_what_each_policy_missed():
    rows = [row(DIRECT, [3, 4]), row(DIRECT, [3, -4], bug="P17"), row(DIRECT, [-3, -4], bug="P18"), row(GENERAL, [1])]
    t = total("random", DIRECTED, rows)
    assert (t.bugs, t.every, t.found, t.missed, t.executions) == (3, 1, 2, ["P18"], 21)
    assert total("random", UNDIRECTED, rows).bugs == 1


def test_a_status_line_says_how_far_it_is():
    text = hunt_status([row(DIRECT, [3, 4]), Row("P17", DIRECTED, DIRECT, 2)], 5, 61.0)
    assert text == "bugs  61.0 s: 1 of 2 bugs x modes x policies begun, 1 found, 5 jobs wait, 7 executions"
