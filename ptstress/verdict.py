"""From a child's outcome to the summary of a stage, and from stages to the summary of a run.

The rule: a violation is never hidden, and a pass needs proof that the run could have failed.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from ptstress.driver import Outcome, overlap_matrix
from ptstress.errors import ExitCode
from ptstress.layout import DEBT_UNIT_NS, MAX_LEVELS, NEAR_MISSES, Counter, SharedView, report_text
from ptstress.plan import StagePlan
from ptstress.results import (
    Canaries, CanaryItem, Checked, Debt, Failure, Ops, Overlaps, Rcu, RunSummary, StageSummary, Tables,
)
from ptstress.units import format_count, format_geometry
from ptstress.vocabulary import LEVEL_NAMES, Oracle, Verb

# Worst first: what a run of several stages ends with.
_SEVERITY = (ExitCode.VIOLATION, ExitCode.KILLED, ExitCode.UNTRUSTWORTHY, ExitCode.PASS)
VERDICTS = {
    ExitCode.PASS: "pass", ExitCode.VIOLATION: "violation", ExitCode.KILLED: "killed",
    ExitCode.UNTRUSTWORTHY: "unknown",
}
RULE_OF_THREE = 3.0


def summarize_stage(plan: StagePlan, outcome: Outcome, canaries: Canaries) -> StageSummary:
    """The summary of one stage; its failure folder is filled in by the caller."""
    view, result = outcome.view, outcome.result
    by_kind = view.ops_by_verb()
    total = sum(by_kind.values())
    seconds = result.wall_s if result and result.wall_s else outcome.wall_s
    race_s = result.race_ns / 1e9 if result else 0.0
    checked = _checked(outcome, total)
    overlaps = _overlaps(plan, overlap_matrix(result), race_s or seconds)
    code, notes = _judge(plan, outcome, checked, overlaps, canaries)
    return StageSummary(
        name=plan.name,
        verdict=VERDICTS[code],
        exit_code=code,
        scheme=plan.scheme.name,
        parts=plan.scheme.parts,
        build=plan.job.build,
        geometry=format_geometry(plan.geometry),
        seed=plan.job.seed,
        threads=plan.threads,
        duration_s=round(seconds, 3),
        ops=Ops(total, round(total / seconds, 1) if seconds else 0.0, by_kind),
        checked=checked,
        overlaps=overlaps,
        near_misses={c.name.lower(): view.total(c) for c in NEAR_MISSES},
        tables=_tables(outcome),
        rcu=_rcu(view),
        debt=_debt(view),
        canaries=canaries,
        confidence=confidence(checked.violations, overlaps.total),
        racing_share=round(race_s / seconds, 3) if seconds else 0.0,
        replays=result.replays if result else 0,
        reason=result.reason if result else outcome.kind,
        notes=[*notes, *plan.notes],
    )


def _rcu(view: SharedView) -> Rcu:
    """Grace periods of all domains, SRCU included."""
    worst_ns = max(view.total(Counter.RCU_GP_MAX_NS), view.total(Counter.SRCU_GP_MAX_NS))
    return Rcu(
        view.total(Counter.GRACE_PERIODS) + view.total(Counter.SRCU_PERIODS), round(worst_ns / 1e6, 3),
        max(view.total(Counter.RCU_BACKLOG_MAX), view.total(Counter.SRCU_BACKLOG_MAX)),
    )


def _debt(view: SharedView) -> Debt:
    gp_ms, age_ms, sum_ms = (
        round(view.total(counter) * DEBT_UNIT_NS / 1e6, 3)
        for counter in (Counter.DEBT_GP_MAX, Counter.DEBT_AGE_MAX, Counter.DEBT_AGE_SUM)
    )
    return Debt(
        unlinked=view.total(Counter.TABLES_UNLINKED), left=view.field("tables_unlinked"), max_tables=view.total(Counter.DEBT_MAX),
        max_gp_ms=gp_ms, max_age_ms=age_ms, table_ms=sum_ms, waits=view.total(Counter.RCU_BACKPRESSURE),
    )


def pool_debt(debts: Collection[Debt]) -> Debt:
    """Of several runs: sums and maxima."""
    return Debt(
        **{name: sum(getattr(d, name) for d in debts) for name in ("unlinked", "left", "waits")},
        **{name: max(getattr(d, name) for d in debts) for name in ("max_tables", "max_gp_ms", "max_age_ms")},
        table_ms=round(sum(d.table_ms for d in debts), 3),
    )


def confidence(violations: int, overlaps: int) -> str:
    """What a run without failures is worth: the rule of three, 95 %."""
    if violations:
        return f"none: {violations} violation{'s' * (violations > 1)} in {format_count(overlaps)} overlaps"
    if not overlaps:
        return "none: no overlaps, nothing could race"
    return f"0 failures in {format_count(overlaps)} overlaps: rate < {RULE_OF_THREE / overlaps:.1e} (95 %)"


def summarize_run(workload: str, stages: list[StageSummary], results: str) -> RunSummary:
    """The summary of a run of one or more stages."""
    code = worst(ExitCode(s.exit_code) for s in stages)
    return RunSummary(
        verdict=VERDICTS[code],
        exit_code=code,
        workload=workload,
        scheme=", ".join(dict.fromkeys(s.scheme for s in stages)),
        build=stages[0].build,
        seed=stages[0].seed,
        stages=stages,
        results=results,
        **pool(stages),
    )


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """What several parts end with together."""
    return min(codes, key=_SEVERITY.index, default=ExitCode.PASS)


def pool(stages: Sequence[StageSummary]) -> dict[str, Any]:
    """The fields of several stages, or several slices of one, that have a sum, a mean or a largest."""
    seconds = sum(s.duration_s for s in stages)
    total = sum(s.ops.total for s in stages)
    checked = Checked(*(sum(getattr(s.checked, f) for s in stages) for f in ("ops", "of", "violations")))
    meetings = sum(s.overlaps.total for s in stages)
    items = {(s.scheme, i.bug): i for s in stages for i in s.canaries.items}
    return {
        "threads": max(s.threads for s in stages),
        "duration_s": round(seconds, 3),
        "ops": Ops(total, round(total / seconds, 1) if seconds else 0.0, _add(s.ops.by_kind for s in stages)),
        "checked": checked,
        "overlaps": Overlaps(
            meetings, round(sum(s.overlaps.per_second * s.duration_s for s in stages) / seconds, 1) if seconds else 0.0,
            _add(s.overlaps.by_pair for s in stages), _add(s.overlaps.named for s in stages),
        ),
        "near_misses": _add(s.near_misses for s in stages),
        "tables": Tables(
            stages[0].tables.start_bytes, max(s.tables.peak_bytes for s in stages), stages[-1].tables.end_bytes,
            *(sum(getattr(s.tables, f) for s in stages) for f in ("allocated", "freed", "reclaimed")),
            by_level={
                level: _add(s.tables.by_level.get(level, {}) for s in stages)
                for level in dict.fromkeys(level for s in stages for level in s.tables.by_level)
            },
        ),
        "rcu": Rcu(
            sum(s.rcu.grace_periods for s in stages), max(s.rcu.max_age_ms for s in stages),
            max(s.rcu.max_backlog for s in stages),
        ),
        "debt": pool_debt([s.debt for s in stages]),
        "canaries": Canaries(
            len(items), sum(i.found for i in items.values()), list(items.values()), stages[0].canaries.note
        ),
        "confidence": confidence(checked.violations, meetings),
        "racing_share": round(sum(s.racing_share * s.duration_s for s in stages) / seconds, 3) if seconds else 0.0,
        "failure": next((s.failure for s in stages if s.failure), None),
    }


def find_canary(bug: str, oracles: tuple[str, ...], outcome: Outcome) -> CanaryItem:
    """Whether a companion run found its bug, and by which oracle."""
    seconds = round(outcome.wall_s, 3)
    seen = list(dict.fromkeys(str(r["oracle"]) for r in outcome.reports))
    right = [oracle for oracle in seen if oracle in oracles]
    if right:
        return CanaryItem(bug, True, right[0], seconds)
    if seen:
        return CanaryItem(bug, False, seen[0], seconds, f"found by {seen[0]}, expected {' or '.join(oracles)}")
    note = "survived" if outcome.kind == "done" else f"the companion {outcome.kind}"
    return CanaryItem(bug, False, "", seconds, note)


def _judge(
    plan: StagePlan, outcome: Outcome, checked: Checked, overlaps: Overlaps, canaries: Canaries
) -> tuple[ExitCode, list[str]]:
    if checked.violations:
        return ExitCode.VIOLATION, []
    if outcome.kind in ("crashed", "hung"):
        how = f"by {outcome.signal_name}" if outcome.signal_name else f"hung: {outcome.message}"
        return ExitCode.KILLED, [f"the child was killed {how}" if outcome.kind == "crashed" else f"the child {how}"]
    doubts = []
    if outcome.kind == "killed":
        doubts.append("the child did not end in time and was killed")
    if outcome.kind == "skipped":
        doubts.append("stopped before it began")
    if checked.ops < checked.of:
        doubts.append(f"{format_count(checked.of - checked.ops)} operations were not checked")
    doubts += [f"no {pair} ever met on a table" for pair, count in overlaps.named.items() if count == 0]
    doubts += [f"canary {i.bug}: {i.note}" for i in canaries.items if not i.found]
    return (ExitCode.UNTRUSTWORTHY, doubts) if doubts else (ExitCode.PASS, [])


def _checked(outcome: Outcome, total: int) -> Checked:
    result, view = outcome.result, outcome.view
    stuck = 1 if result and result.stuck and not outcome.reports else 0
    violations = max(view.field("nr_reports"), len(outcome.reports)) + stuck
    if result is None:
        # Nobody says what the last check covered: what was recorded before it is all that is sure.
        return Checked(0, total, violations)
    return Checked(min(result.checked, result.raced), result.raced, violations)


def _overlaps(plan: StagePlan, matrix: np.ndarray, seconds: float) -> Overlaps:
    by_pair: dict[str, int] = {}
    for a, b in np.argwhere(matrix):
        pair = f"{Verb(a).label}/{Verb(b).label}"
        mirrored = f"{Verb(b).label}/{Verb(a).label}"
        name = mirrored if mirrored in by_pair or _is_named(plan, mirrored) else pair
        by_pair[name] = by_pair.get(name, 0) + int(matrix[a, b])
    by_pair = dict(sorted(by_pair.items(), key=lambda item: -item[1]))
    total = sum(by_pair.values())
    named = {"/".join(pair): by_pair.get("/".join(pair), 0) for pair in plan.pairs}
    return Overlaps(total, round(total / seconds, 1) if seconds else 0.0, by_pair, named)


def _is_named(plan: StagePlan, pair: str) -> bool:
    return tuple(pair.split("/")) in plan.pairs


def _tables(outcome: Outcome) -> Tables:
    view, result = outcome.view, outcome.result
    allocated = view.row(Counter.TABLES_ALLOCATED, MAX_LEVELS)
    freed = view.row(Counter.TABLES_FREED, MAX_LEVELS)
    by_level = {
        name: {"allocated": a, "freed": f} for name, a, f in zip(LEVEL_NAMES, allocated, freed, strict=True) if a or f
    }
    end = result.table_bytes_end if result and result.reason != "stuck" else view.field("table_bytes")
    start = result.table_bytes_start if result else 0
    return Tables(
        start_bytes=start,
        peak_bytes=max(view.total(Counter.TABLE_BYTES_PEAK), start, end),
        end_bytes=end,
        allocated=sum(allocated),
        freed=sum(freed),
        reclaimed=view.total(Counter.TABLES_RECLAIMED),
        by_level=by_level,
    )


def _add(counts) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for key, n in one.items():
            total[key] = total.get(key, 0) + n
    return total


def oracle_of(outcome: Outcome) -> str:
    """Who found the failure: the first report's oracle, else the watchdog; nobody finds a crash."""
    if outcome.reports:
        return str(outcome.reports[0]["oracle"])
    return "crash" if outcome.kind == "crashed" else Oracle.PROGRESS.label


def failure_of(outcome: Outcome, replay: str, path: str) -> Failure:
    """The stage's first failure as the summary shows it."""
    if outcome.reports:
        what = report_text(outcome.reports[0])
    elif outcome.kind == "crashed":
        what = f"the child was killed by {outcome.signal_name}"
    else:
        what = outcome.message or "workers did not come back"
    return Failure(oracle_of(outcome), replay, path, what)
