"""The verb ``bench``: rows, their judgement and their forms. What something costs is never asserted."""

import json

import pytest

from ptstress import bench_schemes
from ptstress.bench import absent, choose, markdown_lines, measured, report_on, spread_of, terminal_table
from ptstress.bench_commands import GROUPS
from ptstress.bench_engine import bench_machine
from ptstress.bench_runs import MIX
from ptstress.bench_twin import load_twin
from ptstress.cli import main
from ptstress.engine import load_engine
from ptstress.errors import UsageError
from ptstress.layout import Counter
from ptstress.plan import Overrides, plan_run
from ptstress.workload import load_workload

ROW_FIELDS = {"name", "value", "unit", "reference", "ratio", "target", "met", "spread", "note"}


def test_a_row_is_the_median_and_its_ratio_is_the_median_of_ratios():
    row = measured("r", [2.0, 4.0, 30.0], "ns", references=[1.0, 4.0, 10.0], at_most=4)
    assert (row.value, row.reference, row.ratio) == (4.0, 4.0, 2.0)
    assert (row.target, row.met) == ("<= 4 ns", True)


@pytest.mark.parametrize(
    ("limits", "target", "met"),
    [
        ({}, "", None),
        ({"at_most": 3}, "<= 3 ns", False),
        ({"at_least": 3}, ">= 3 ns", True),
        ({"ratio_at_most": 1.5}, "ratio <= 1.5", False),
        ({"ratio_at_least": 1.5}, "ratio >= 1.5", True),
        ({"at_least": 3, "ratio_at_least": 2.5}, ">= 3 ns, ratio >= 2.5", False),
    ],
)
def test_a_target_is_text_and_met_only_as_a_whole(limits, target, met):
    row = measured("r", [4.0], "ns", references=[2.0], **limits)
    assert (row.target, row.met) == (target, met)


def test_spread_is_of_the_middle_half():
    assert spread_of([1.0, 2.0]) is None
    assert spread_of([5.0] * 9 + [500.0]) == 0.0
    assert spread_of([8.0, 9.0, 10.0, 11.0, 12.0]) == pytest.approx(0.15)


def test_a_noisy_row_is_named_and_an_absent_one_says_why():
    rows = [measured("calm", [10.0] * 5, "ns"), measured("wild", [1.0, 5.0, 10.0, 20.0, 40.0], "ns"),
            absent("gone", "ns", "no twin")]
    report = report_on([("g", lambda quick: rows)], True, lambda name: None)
    assert [w for w in report.warnings if "noisy" in w] == ["noisy, repetitions spread by more than 25%: wild"]
    lines = markdown_lines(report)
    assert any(line.startswith("| gone | - | ns |") and line.endswith("| no twin |") for line in lines)
    assert terminal_table(report).row_count == 3


def test_groups_are_chosen_by_name():
    assert choose([], GROUPS) == list(GROUPS)
    assert [name for name, _ in choose(["record", "operations"], GROUPS)] == ["operations", "record"]
    with pytest.raises(UsageError, match="bench 'frob': expected one of operations, threads"):
        choose(["frob"], GROUPS)


def test_json_has_the_documented_fields(capsys):
    assert main(["bench", "record", "--quick", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "ptstress.bench/1"
    assert {"machine", "kernel", "date", "version", "load", "warnings"} <= set(report)
    (row,) = report["rows"]
    assert set(row) == ROW_FIELDS and row["value"] > 0


def test_the_twin_does_the_work_of_the_engine():
    """Both do the same operations without a failure, over and over on few frames: they come back through grace periods."""
    pages, turns = 2048, 40
    twin = load_twin(8192, 64, 1 << 16)
    bench = bench_machine(load_engine("fast"), 1, 1 << 16, frames=8192, tables=64)
    for what, first, n in (("cycle", 0, turns), ("write", 0, pages), ("read", 0, 10_000), ("rcu", 0, 10_000)):
        assert min(twin.measure(what, first, pages, n)[:1] + bench.measure(what, [(first, pages, n)])[0][:1]) > 0
    assert bench.check() == 0


def test_workers_do_different_work_at_once():
    """Background goes on until the others are done; who waited and what queued up is in the counters."""
    bench = bench_machine(load_engine("fast"), 3, 1 << 16, frames=8192, tables=1024)
    before = bench.counters()[0, Counter.FAULTS]
    times = bench.together([("cycle", 0, 16, None), ("stall", 0, 1, 20), ("map", 1 << 18, 512, 0)], 16)
    assert [len(t) for t in times] == [3, 3, 3]
    assert bench.counters()[0, Counter.FAULTS] - before >= 16
    bench.together([("map", 1 << 18, 512, 5), ("walk", 0, 1024, None), ("cycle", 0, 512, None)])
    assert bench.counters()[0, Counter.FAULTS] > 0
    assert bench.check() == 0


def test_the_rows_of_schemes_are_named(monkeypatch):
    """Each in a fraction of a second: what they show is not looked at."""
    for name, small in (("QUICK_REPEATS", 1), ("ZAP_TURNS", 1), ("FAULT_TURNS", 1), ("QUICK_WALKS", 1), ("QUICK_STALL_MS", 5),
                        ("WALK_PAGES", 1024), ("SLEEPER_PAGES", 1024), ("SLEEPER_US", 500)):
        monkeypatch.setattr(bench_schemes, name, small)
    rows = list(bench_schemes.scheme_rows(True))
    assert [row.name for row in rows if row.target] == [
        "sync over never, DONTNEED of 256 pages, per page", "sync over never, DONTNEED of 1 page, per page",
        "faults in one VMA, rcu over vma_lock", "faults beside a mapper, rcu over mmap_lock",
        "fault behind a walk, mapper elsewhere, rcu", "tables that wait for a stalled reader"]
    assert all(row.value is not None for row in rows)


def test_the_mix_of_the_bench_is_a_workload():
    (stage,) = plan_run(load_workload(MIX), Overrides())
    assert set(stage.pairs) == {("write", "dontneed"), ("walk", "dontneed")}


def test_only_one_form_goes_to_stdout(capsys):
    assert main(["bench", "--markdown", "--json", "-"]) == 1
    assert "--markdown and --json - both write to stdout" in capsys.readouterr().err
