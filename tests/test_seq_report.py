"""What people read at the end of a run. Whole screens are kept in ``tests/golden`` and reviewed as a diff."""

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ptstress.driver import Outcome, take_sample
from ptstress.history import History, encode_history
from ptstress.history_json import load_history
from ptstress.errors import ExitCode
from ptstress.job import ChildResult
from ptstress.layout import Counter, Phase, SharedView, shared_bytes
from ptstress.plan import Overrides, StagePlan, plan_run
from ptstress.report import MAX_SCREEN, comparison, describe_failure, last_screen, status_line
from ptstress.results import Canaries, CanaryItem, Debt, Failure, ResultsFolder
from ptstress.verdict import confidence, failure_of, find_canary, pool_debt, summarize_run, summarize_stage
from ptstress.vocabulary import NR_VERBS, Oracle, Verb
from ptstress.workload import load_workload

GOLDEN = Path(__file__).parent / "golden"
FOUND = Canaries(2, 2, [CanaryItem("P01", True, "census", 0.12), CanaryItem("P23", True, "counters", 1.5)])


def plan(**overrides) -> StagePlan:
    return plan_run(load_workload("fault_vs_dontneed"), Overrides(threads=4, **overrides))[0]


def busy_view(ops: int = 1_000_000) -> SharedView:
    view = SharedView(bytearray(shared_bytes(4, 16)), 4, 16)
    view.counters[:, Counter.OPS + Verb.WRITE] = ops
    view.counters[:, Counter.OPS + Verb.DONTNEED] = ops // 10
    view.counters[:, Counter.RECHECK_LOST] = 30
    view.counters[:, Counter.TABLES_ALLOCATED] = 500
    view.counters[:, Counter.TABLES_FREED] = 498
    view.counters[:, Counter.TABLES_RECLAIMED] = 498
    view.counters[:, Counter.GRACE_PERIODS] = 2500
    view.counters[:, Counter.RCU_GP_MAX_NS] = 3_100_000
    view.counters[:, Counter.RCU_BACKLOG_MAX] = 77
    view.counters[:, Counter.TABLE_BYTES_PEAK] = 40960
    view.counters[:, Counter.TABLES_UNLINKED] = 498
    view.counters[:, Counter.DEBT_MAX] = (12, 3, 0, 11)
    view.counters[:, Counter.DEBT_GP_MAX] = 3_000           # of 1,024 ns
    view.counters[:, Counter.DEBT_AGE_MAX] = 4_000
    view.counters[:, Counter.DEBT_AGE_SUM] = 488_281
    view.counters[:, Counter.RCU_BACKPRESSURE] = 2
    return view


def ended(view: SharedView, met: int = 1_900_000, **fields) -> ChildResult:
    overlaps = np.zeros((NR_VERBS, NR_VERBS), np.uint64)
    overlaps[Verb.WRITE, Verb.DONTNEED], overlaps[Verb.READ, Verb.DONTNEED] = met // 2, met // 4
    overlaps[Verb.DONTNEED, Verb.WRITE] = met - met // 2 - met // 4
    raced = sum(view.ops_by_verb().values())
    usual = {
        "reason": "duration", "wall_s": 60.0, "race_ns": 45_000_000_000, "raced": raced, "checked": raced,
        "overlaps": overlaps.tolist(), "table_bytes_start": 8192, "table_bytes_end": 8192,
    }
    return ChildResult(**{**usual, **fields})


def done(view: SharedView, **fields) -> Outcome:
    return Outcome("done", 60.5, view, ended(view, **fields), reports=tuple(view.reports()))


def with_report(view: SharedView, oracle: Oracle, what: bytes) -> SharedView:
    view.header["nr_reports"] = 1
    view.header["reports"][0][0]["oracle"] = oracle
    view.header["reports"][0][0]["verb"] = Verb.DONTNEED
    view.header["reports"][0][0]["what"] = what
    return view


def assert_golden(name: str, lines: list[str]) -> None:
    assert "\n".join(lines) + "\n" == (GOLDEN / name).read_text()


def screen(stage) -> list[str]:
    lines = last_screen("fault_vs_dontneed", stage, "results/2026-11-23-020331", "fault_vs_dontneed")
    assert len(lines) <= MAX_SCREEN
    return lines


def test_last_screen_of_a_pass():
    assert_golden("pass.txt", screen(summarize_stage(plan(), done(busy_view()), FOUND)))


def test_last_screen_of_a_violation():
    view = with_report(busy_view(), Oracle.CENSUS, b"a table that was freed was not empty")
    stage = summarize_stage(plan(bugs=("P01",)), done(view, reason="violation"), Canaries())
    assert stage.exit_code == ExitCode.VIOLATION
    stage.failure = failure_of(done(view), "ptstress run fault_vs_dontneed --bug P01", "results/x/failure-census")
    assert_golden("violation.txt", screen(stage))


def test_last_screen_when_nothing_could_race():
    outcome = done(busy_view(), met=0)
    stage = summarize_stage(plan(), outcome, Canaries(1, 0, [CanaryItem("P01", False, note="survived")]))
    assert stage.exit_code == ExitCode.UNTRUSTWORTHY
    assert_golden("untrustworthy.txt", screen(stage))


def test_last_screen_of_a_crash():
    outcome = Outcome("crashed", 3.5, busy_view(), signal_name="SIGSEGV", message="Fatal Python error: Segmentation fault")
    stage = summarize_stage(plan(), outcome, FOUND)
    assert stage.exit_code == ExitCode.KILLED
    stage.failure = failure_of(outcome, "ptstress run fault_vs_dontneed", "results/x/failure-crash")
    assert_golden("crash.txt", screen(stage))


def test_comparison_of_stages():
    plans = plan_run(load_workload("headline"), Overrides(threads=4))
    view = busy_view()
    view.counters[:, Counter.OPS + Verb.WALK] = 1000
    ends = (270336, 8192, 8192)
    stages = [summarize_stage(p, done(view, table_bytes_end=end), FOUND) for p, end in zip(plans, ends, strict=True)]
    for stage in stages:
        stage.exit_code, stage.verdict = ExitCode.PASS, "pass"
    lines = comparison(summarize_run("headline", stages, "results/2026-11-23-020331"))
    assert len(lines) <= MAX_SCREEN
    assert_golden("comparison.txt", lines)


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        ({"checked": 1}, "operations were not checked"),
        ({"met": 0}, "no write/dontneed ever met on a table"),
    ],
)
def test_a_pass_needs_all_its_evidence(change, doubt):
    stage = summarize_stage(plan(), done(busy_view(), **change), FOUND)
    assert stage.exit_code == ExitCode.UNTRUSTWORTHY and stage.verdict == "unknown"
    assert any(doubt in note for note in stage.notes)


def test_a_surviving_canary_makes_a_pass_untrustworthy():
    survived = Canaries(2, 1, [CanaryItem("P01", True, "census", 0.1), CanaryItem("P23", False, note="survived")])
    stage = summarize_stage(plan(), done(busy_view()), survived)
    assert stage.exit_code == ExitCode.UNTRUSTWORTHY and stage.notes == ["canary P23: survived"]


def test_a_violation_is_never_hidden_by_anything_else():
    view = with_report(busy_view(), Oracle.DATA, b"stale")
    crashed = Outcome("crashed", 1.0, view, reports=tuple(view.reports()), signal_name="SIGSEGV")
    survived = Canaries(1, 0, [CanaryItem("P01", False)])
    for outcome in (done(view, met=0, checked=0), crashed):
        assert summarize_stage(plan(), outcome, survived).exit_code == ExitCode.VIOLATION


def test_stuck_workers_are_a_violation_that_the_watchdog_found():
    outcome = done(busy_view(), reason="stuck", stuck=[1, 3])
    assert summarize_stage(plan(), outcome, FOUND).exit_code == ExitCode.VIOLATION
    assert failure_of(outcome, "", "").oracle == "progress"


@pytest.mark.parametrize(
    ("kind", "code"),
    [("hung", ExitCode.KILLED), ("killed", ExitCode.UNTRUSTWORTHY), ("skipped", ExitCode.UNTRUSTWORTHY)],
)
def test_a_child_that_did_not_end_by_itself_is_no_pass(kind, code):
    assert summarize_stage(plan(), Outcome(kind, 1.0, busy_view()), FOUND).exit_code == code


def test_the_worst_stage_decides_the_run():
    good = summarize_stage(plan(), done(busy_view()), FOUND)
    doubtful = summarize_stage(plan(), done(busy_view(), met=0), FOUND)
    bad = summarize_stage(plan(), done(with_report(busy_view(), Oracle.DATA, b"x")), FOUND)
    assert summarize_run("w", [good, doubtful], "r").exit_code == ExitCode.UNTRUSTWORTHY
    assert summarize_run("w", [good, doubtful, bad], "r").verdict == "violation"
    assert summarize_run("w", [good], "r").exit_code == ExitCode.PASS


def test_confidence_is_the_rule_of_three():
    assert confidence(0, 1_900_000) == "0 failures in 1.9 M overlaps: rate < 1.6e-06 (95 %)"
    assert confidence(0, 0) == "none: no overlaps, nothing could race"
    assert confidence(2, 10) == "none: 2 violations in 10 overlaps"


@pytest.mark.parametrize(
    ("oracle", "found", "note"),
    [
        (Oracle.CENSUS, True, ""),
        (Oracle.PROGRESS, False, "found by progress, expected census or data"),
        (None, False, "survived"),
    ],
)
def test_a_canary_counts_only_if_the_right_oracle_found_it(oracle, found, note):
    view = busy_view()
    if oracle:
        with_report(view, oracle, b"x")
    item = find_canary("P01", ("census", "data"), done(view))
    assert (item.found, item.note) == (found, note)


def test_json_has_the_promised_keys():
    run = summarize_run("w", [summarize_stage(plan(), done(busy_view()), FOUND)], "r")
    run.failure = Failure("census", "ptstress run w", "r/failure-census")
    data = msgspec.to_builtins(run)
    assert data["schema"] == "ptstress.run/1"
    promised = (
        "verdict exit_code workload scheme build seed threads duration_s ops checked overlaps near_misses tables rcu debt "
        "canaries confidence racing_share failure"
    )
    assert set(promised.split()) <= set(data)
    for key, names in {
        "ops": "total per_second by_kind", "checked": "ops of violations", "overlaps": "total per_second by_pair",
        "tables": "peak_bytes end_bytes allocated freed reclaimed by_level", "rcu": "grace_periods max_age_ms max_backlog",
        "debt": "unlinked left max_tables max_gp_ms max_age_ms table_ms waits",
        "canaries": "planted found items", "failure": "oracle replay path",
    }.items():
        assert set(names.split()) <= set(data[key]), key


def test_debt_of_several_stages_is_their_sum_or_the_largest():
    one, other = Debt(10, 0, 5, 1.5, 2.5, 30.0, 4), Debt(7, 2, 6, 1.0, 9.0, 0.25, 0)
    assert pool_debt([one, other]) == Debt(17, 2, 6, 1.5, 9.0, 30.25, 4)


def test_tables_that_are_never_freed_are_seen_in_the_last_screen():
    view = busy_view()
    view.header["tables_unlinked"] = 3
    assert any(line.startswith("debt: 3 LEFT, at most 12 tables") for line in screen(summarize_stage(plan(), done(view), FOUND)))


def test_status_line_has_a_fixed_order_and_marks_trouble():
    view = busy_view()
    view.header["phase"], view.header["burst"], view.header["table_bytes"] = Phase.RACING, 7, 40960
    first = take_sample(view, 5.0)
    line = status_line("headline", first, None)
    assert re.findall(r"(\S+):", line) == ["t", "phase", "burst", "ops", "ops/s", "faults", "tables", "gp", "debt"]
    assert "!!!" not in line and "tables: 40 kB" in line
    assert status_line("headline", take_sample(view, 10.0), first).endswith("!!! no progress")
    view.header["nr_reports"] = 1
    assert "!!! 1 reports" in status_line("headline", take_sample(view, 10.0), None)


def test_description_has_the_reports_the_last_operations_and_the_way_back():
    view = with_report(busy_view(), Oracle.CENSUS, b"a table that was freed was not empty")
    outcome = Outcome("done", 1.0, view, ended(view), reports=tuple(view.reports()), last_operations=(("write(p3) = 0",), ()))
    text = describe_failure(summarize_stage(plan(), outcome, FOUND), outcome, "ptstress run w --seed 1")
    assert_golden("description.txt", text.rstrip("\n").split("\n"))


def test_folders_that_start_in_the_same_second_differ(tmp_path):
    paths = {ResultsFolder(tmp_path).path for _ in range(3)}
    assert len(paths) == 3
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d-\d{6}(-\d)?", path.name) for path in paths)


def test_a_failure_folder_holds_everything_to_look_at_it_again(tmp_path):
    folder = ResultsFolder(tmp_path)
    path = folder.write_failure("census", {"description.txt": b"d\n", "history.ptsh": encode_history(History((), task_pages=9))})
    again = folder.write_failure("census", {"description.txt": b"d\n"})
    assert sorted(p.name for p in path.iterdir()) == ["description.txt", "history.ptsh"]
    assert load_history(path).task_pages == 9
    assert again.name == "failure-census-2"


def test_status_line_names_the_reader_that_stalls_a_grace_period():
    view = busy_view()
    view.counters[1, Counter.RCU_STALL_NS] = 1_500_000_000
    view.counters[1, Counter.RCU_STALL_CPU] = 3
    view.counters[1, Counter.RCU_STALL_SITE] = Verb.WALK
    line = status_line("headline", take_sample(view, 5.0), None)
    assert line.endswith("!!! cpu 3, inside walk, stalls a grace period for 1500 ms")
