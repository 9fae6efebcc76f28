"""What people read: the status line, the last screen of a run, the description of a failure."""

from collections.abc import Sequence
from types import MappingProxyType

from ptstress.driver import Outcome, Sample
from ptstress.errors import ExitCode
from ptstress.headline import headline, headline_of
from ptstress.layout import report_text
from ptstress.results import Canaries, Reconstruction, RunSummary, StageSummary
from ptstress.units import format_count, format_kb, format_seconds
from ptstress.verdict import failure_of

MAX_SCREEN = 12
SHOWN_PAIRS = 3
_ENDINGS = MappingProxyType({
    "done": "ended by itself", "hung": "hung and was killed", "killed": "did not end in time and was killed",
    "running": "still ran when this was written",
})


def status_line(name: str, now: Sample, before: Sample | None) -> str:
    """One line, always the same keys in the same order; ``!!!`` at its end on trouble."""
    age = now.age_s - (before.age_s if before else 0.0)
    rate = (now.ops - (before.ops if before else 0)) / age if age > 0 else 0.0
    trouble = []
    if now.reports:
        trouble.append(f"{now.reports} reports")
    if now.stall_ms:
        trouble.append(f"cpu {now.stall_cpu}, inside {now.stall_verb}, stalls a grace period for {now.stall_ms} ms")
    if before and now.ops == before.ops and now.burst == before.burst:
        trouble.append("no progress")
    line = (
        f"{name}  t: {format_seconds(now.age_s)}  phase: {now.phase.name.lower()}  burst: {now.burst}"
        f"  ops: {format_count(now.ops)}  ops/s: {format_count(rate)}  faults: {format_count(now.faults)}"
        f"  tables: {format_kb(now.table_bytes)}  gp: {format_count(now.grace_periods)}  debt: {format_count(now.debt)}"
    )
    return line + (f"  !!! {', '.join(trouble)}" if trouble else "")


def last_screen(workload: str, s: StageSummary, results: str, again: str) -> list[str]:
    """At most 12 lines: what happened, what it is worth, what to do next.

    ``again``: the workload as the command line takes it.
    """
    stage = "" if s.name == workload else f", stage {s.name}"
    replays = f", trace replayed {s.replays} times" if s.replays else ""
    lines = [
        f"verdict: {s.verdict.upper()} (exit {int(s.exit_code)})  {workload}{stage}{_because(s)}",
        f"scheme: {s.scheme} ({s.parts})  geometry: {s.geometry}  build: {s.build}  seed: {s.seed}",
        f"threads: {s.threads}  duration: {format_seconds(s.duration_s)}, {s.racing_share:.0%} of it racing{replays}",
        f"operations: {format_count(s.ops.total)} ({format_count(s.ops.per_second)}/s)  checked: "
        f"{checked_text(s)}, violations: {s.checked.violations}",
        f"overlaps: {_overlaps_text(s)}",
        f"near misses: {near_text(s)}",
        f"tables: {format_kb(s.tables.start_bytes)} before -> {format_kb(s.tables.peak_bytes)} peak -> "
        f"{format_kb(s.tables.end_bytes)} after  ({format_count(s.tables.reclaimed)} reclaimed)",
        f"canaries: {canaries_text(s.canaries)}",
        schedule_line(s.failure.schedule) if s.failure and s.failure.schedule else f"confidence: {s.confidence}",
        f"debt: {debt_text(s)}",
        f"results: {results}",
        f"next: {_next_step(again, s)}",
    ]
    return lines[:MAX_SCREEN]


def schedule_line(found: Reconstruction) -> str:
    """What came of looking for a schedule of what threads showed."""
    took = format_seconds(found.seconds)
    if found.replay:
        return f"reconstructed: at execution {found.executions:,}, {took}: {found.oracle} in {found.program}"
    tried = f"{format_count(found.executions)} executions of {found.programs} programs" if found.programs else "no program"
    return f"not reconstructed in {took}: {found.note or tried} (kept: history, flight)"


def debt_text(s: StageSummary | RunSummary) -> str:
    """What was unlinked and not free: how much at once, for how long, tables x time; and the grace periods behind it."""
    d = s.debt
    left = f"{format_count(d.left)} LEFT, " if d.left else ""
    return (
        f"{left}at most {format_count(d.max_tables)} tables at once, the oldest {format_seconds(d.max_age_ms / 1e3)} "
        f"(grace period after {format_seconds(d.max_gp_ms / 1e3)}), {format_count(d.table_ms)} table-ms  "
        f"grace periods: {format_count(s.rcu.grace_periods)}, worst {format_seconds(s.rcu.max_age_ms / 1e3)}"
    )


def comparison(run: RunSummary) -> list[str]:
    """After several stages: the verdict and one line of table bytes for each, at most 12 lines."""
    width = max(len(s.name) for s in run.stages)
    lines = [f"verdict: {run.verdict.upper()} (exit {int(run.exit_code)})  {run.workload}, {len(run.stages)} stages"]
    for s in run.stages[: MAX_SCREEN - 3]:
        lines.append(
            f"  {s.name:<{width}}  {s.scheme}: {s.verdict}, {format_count(s.ops.total)} operations, "
            f"{format_count(s.overlaps.total)} overlaps, tables {format_kb(s.tables.peak_bytes)} -> "
            f"{format_kb(s.tables.end_bytes)}"
        )
    lines.append(f"confidence: {run.confidence}")
    lines.append(f"results: {run.results}")
    return lines


def canaries_text(canaries: Canaries) -> str:
    """``found 4 of 4 planted (P01 census 0.1 s, ...)``."""
    if not canaries.planted:
        return canaries.note or "none planted"
    items = ", ".join(
        f"{i.bug} {i.oracle} {format_seconds(i.seconds)}" if i.found else f"{i.bug} NOT FOUND" for i in canaries.items
    )
    note = f"; {canaries.note}" if canaries.note else ""
    return f"found {canaries.found} of {canaries.planted} planted ({items}){note}"


def describe_failure(stage: StageSummary, outcome: Outcome, replay: str) -> str:
    """``description.txt``: what was found, the last operations of each worker, how to run it again."""
    line = headline_of(outcome.reports[0]) if outcome.reports else unreported(outcome)
    how = f"was killed by {outcome.signal_name}" if outcome.signal_name else _ENDINGS[outcome.kind]
    lines = [line, "", f"{stage.name}: {stage.verdict} under {stage.scheme} ({stage.parts}); the child {how}", ""]
    for r in outcome.reports:
        invariant = f" (I{int(r['invariant']):02d})" if r["invariant"] else ""
        lines.append(f"oracle: {r['oracle']}{invariant}")
        lines.append(f"    {report_text(r)}")
        lines.append(
            f"    worker {r['cpu']}, {r['verb']}, its operation {r['seq']}, address {int(r['addr']):#x}, "
            f"stamp {r['stamp']}"
        )
    if outcome.kind in ("hung", "killed") or (outcome.result and outcome.result.stuck):
        lines.append("oracle: progress")
        stuck = outcome.result.stuck if outcome.result else []
        lines.append(f"    {outcome.message or 'workers that did not come back: ' + ', '.join(map(str, stuck))}")
    if outcome.kind == "crashed" and outcome.message:
        lines += ["The child's last words:", *(f"    {line}" for line in outcome.message.splitlines())]
    lines += ["", *last_operations(outcome.last_operations), "", f"again: {replay}"]
    return "\n".join(lines) + "\n"


def unreported(outcome: Outcome) -> str:
    """The headline of a child that crashed or hung, without its addresses and times."""
    if outcome.kind == "crashed":
        return f"BUG: crash: {failure_of(outcome, '', '').what}"
    return headline("progress", None, "deadlock" if "deadlock: " in outcome.message else "no progress", ())


def last_operations(workers: Sequence[Sequence[str]]) -> list[str]:
    """The last recorded operations of each worker, oldest first."""
    lines = ["Last recorded operations of each worker, oldest first:"]
    for number, operations in enumerate(workers):
        lines.append(f"  worker {number}: {'nothing recorded' if not operations else ''}".rstrip())
        lines += [f"    {operation}" for operation in operations]
    return lines


def _because(s: StageSummary) -> str:
    if s.failure:
        return f": {s.failure.oracle}: {s.failure.what.splitlines()[0] if s.failure.what else ''}"
    notes = [*s.notes, "stopped early"] if s.reason == "stopped" else s.notes
    return f": {notes[0]}{f' (and {len(notes) - 1} more)' if len(notes) > 1 else ''}" if notes else ""


def checked_text(s: StageSummary | RunSummary) -> str:
    """Operations that got a verdict, of those done."""
    whole = s.checked.ops == s.checked.of
    return f"{'all ' if whole else ''}{format_count(s.checked.ops)} of {format_count(s.checked.of)}"


def _overlaps_text(s: StageSummary) -> str:
    o = s.overlaps
    shown = dict(o.named)
    for pair, count in o.by_pair.items():
        if len(shown) < SHOWN_PAIRS:
            shown.setdefault(pair, count)
    pairs = ", ".join(f"{pair} {format_count(count)}" for pair, count in shown.items())
    return f"{format_count(o.total)} ({format_count(o.per_second)}/s racing)" + (f"  {pairs}" if pairs else "")


def near_text(s: StageSummary | RunSummary) -> str:
    """Near misses by their names."""
    n = s.near_misses
    names = (("failed maps", "map_failed"), ("lost rechecks", "recheck_lost"), ("failed trylocks", "trylock_failed"),
             ("slow detaches", "slow_detach"), ("contended locks", "lock_contended"))
    return ", ".join(f"{format_count(n.get(key, 0))} {name}" for name, key in names)


def _next_step(workload: str, s: StageSummary) -> str:
    if s.failure and s.failure.schedule and s.failure.schedule.replay:
        return f"read {s.failure.path}/story.txt; the schedule: sh {s.failure.path}/replay.txt; again: {s.failure.replay}"
    if s.exit_code == ExitCode.VIOLATION and s.failure:
        return f"read {s.failure.path}/description.txt; again: {s.failure.replay}"
    if s.exit_code == ExitCode.KILLED and s.failure:
        return f"read {s.failure.path}/description.txt"
    if s.exit_code == ExitCode.UNTRUSTWORTHY:
        return "more threads, or a longer run" if s.threads > 1 else "give it threads: one thread races with nobody"
    # Every workload discards frames; the other bugs need operations that it may not have.
    return f"ptstress run {workload} --bug M10-frame  (see it fail), or ptstress explore --bug P01"
