"""What people read of an exploration and of a replay: the last screen, and the story of what was found."""

from ptstress.causality import causality_lines
from ptstress.evidence import odds_lines, shrunk_lines
from ptstress.exploring import ExploreSummary
from ptstress.outcome_table import OutcomeCount
from ptstress.replaying import ReplaySummary
from ptstress.units import format_count, format_finding, format_seconds


def explore_lines(summary: ExploreSummary) -> list[str]:
    """The last screen, and the story if something was found."""
    s = summary
    lines = [
        f"verdict: {s.verdict.upper()} (exit {int(s.exit_code)})  explore under {s.scheme}, geometry {s.geometry}"
        + (f", bugs {' '.join(s.bugs)}" if s.bugs else ""),
        f"executions: {format_count(s.executions)} of {s.programs} programs in {format_seconds(s.seconds)} "
        f"({format_count(s.executions_per_second)}/s), {format_count(s.points_mean)} points each, "
        f"{format_count(s.distinct)} distinct, policy {s.policy}, seed {s.seed}",
        f"ended by: {s.stop_reason}{_all_text(s)}",
        *_outcome_lines(s.outcomes),
        *(f"note: {note}" for note in s.notes),
    ]
    for f in s.failures:
        lines += [
            f"failure: {format_finding(f.oracle, next(iter(f.invariants), 0))}: {f.what}, at execution {f.executions_to_first}",
            *shrunk_lines(f.shrunk), f"program: {f.program}", "", f.headline, "", *f.story, "", *f.expected, "",
            *_after(odds_lines(f.odds) + causality_lines(f.causality)), f"again: ptstress replay '{f.replay}'",
        ]
    return lines


def replay_lines(summary: ReplaySummary) -> list[str]:
    """How often the failure came again, and its story."""
    s = summary
    counts = ", ".join(f"{carrier} {count}/{s.of}" for carrier, count in s.reproduced.items())
    same = "same trace each time" if s.same_trace else "traces differ"
    return [
        f"verdict: {s.verdict.upper()} (exit {int(s.exit_code)})  {s.outcome} came again: {counts}; {same}",
        *([f"found: {s.oracle}: {s.what}"] if s.oracle else []), *(f"note: {note}" for note in s.notes),
        f"program: {s.program}", "", *([s.headline, ""] if s.headline else []), *s.story,
        *(["", *s.expected] if s.expected else []),
    ]


def _after(lines: list[str]) -> list[str]:
    return [*lines, ""] if lines else []


def _outcome_lines(outcomes: OutcomeCount | None) -> list[str]:
    if outcomes is None:
        return []
    if outcomes.note:
        return [f"outcomes: not computed: {outcomes.note}"]
    return [f"outcomes: {outcomes.allowed:,} allowed by the model, {outcomes.seen:,} seen"]


def _all_text(s: ExploreSummary) -> str:
    if s.estimate is None:
        return ""
    if not s.exhausted:
        return f", of about {format_count(s.estimate)} executions; --executions N goes on to more"
    if s.policy == "dpor":
        return f": all {s.executions - s.cut:,} Mazurkiewicz traces, stores eager, {s.cut:,} executions cut"
    if s.policy == "states":
        return f": all {s.states:,} states at which the order matters, stores eager"
    return f": all {s.executions:,} interleavings with at most {s.preemptions} preemptions, stores {s.stores}"
