"""What people read of a hunt: status lines, one table for each mode, totals, and what is missing."""

from collections.abc import Callable, Sequence
from math import isfinite

from ptstress.compare_statistics import Estimate
from ptstress.hunt_summary import CLEAN_TIMES, HuntSummary, PolicyTotal, Row, Silent
from ptstress.texttable import flush_left
from ptstress.units import format_count, format_finding, format_seconds

MOST_NAMED = 12
#: Of medians with their intervals, and of the lowest and the highest of what they are the median of.
_FIGURES = ("executions to first", "all", "seconds to first", "found by", "again", "clean")


def hunt_status(rows: Sequence[Row], waiting: int, seconds: float) -> str:
    """One line while it runs."""
    begun = [row for row in rows if row.attempts]
    executions = sum(attempt.executions for row in rows for attempt in row.attempts)
    return (
        f"bugs  {format_seconds(seconds)}: {len(begun)} of {len(rows)} bugs x modes x policies begun, "
        f"{sum(row.found > 0 for row in begun)} found, {waiting} jobs wait, {format_count(executions)} executions"
    )


def hunt_lines(s: HuntSummary) -> list[str]:
    """The last screen."""
    loud = [silent for silent in s.clean if not silent.silent]
    because = f": the clean engine: {_loud_text(loud[0])}" if loud else ""
    lines = [
        f"verdict: {s.verdict.upper()} (exit {int(s.exit_code)})  {s.bugs} bug{'s' * (s.bugs > 1)}, {' and '.join(s.modes)}, "
        f"{s.seeds} seeds from {s.seed} on, {format_seconds(s.duration_s)}{because}"
    ]
    for silent in loud:
        failure = silent.failure
        lines += [f"again: ptstress replay '{failure.replay}'"] if failure else []
    for mode in s.modes:
        lines += ["", *flush_left(_table(mode, s))]
    lines += ["", *flush_left([_total_words(total) for total in s.totals]), *_missed(s.totals), _clean_text(s.clean)]
    lines += [f"not trusted: {_shortened(reason)}" for reason in s.reasons]
    return [*lines, f"results: {s.results}"]


def long_table(s: HuntSummary) -> list[str]:
    """A line for each bug, mode and policy, with all intervals."""
    return flush_left([["bug", "mode", "policy", "scheme", "found", *_FIGURES], *(_words(row, s) for row in s.rows)])


def _table(mode: str, s: HuntSummary) -> list[list[str]]:
    """A line for each bug: the first policy with everything, of the others how many seeds and the median."""
    first, *others = s.policies
    rows = {(row.bug, row.scenario.policy): row for row in s.rows if row.mode == mode}
    lines = [[mode, "scheme", first, *_FIGURES, *others]]
    for bug in dict.fromkeys(bug for bug, _ in rows):
        row = rows[bug, first]
        words = _words(row, s)
        lines.append([bug, row.scenario.scheme, *words[4:], *(_short(rows[bug, policy]) for policy in others)])
    return lines


def _words(row: Row, s: HuntSummary) -> list[str]:
    return [
        row.bug, row.mode, row.scenario.policy, row.scenario.scheme, _found_text(row), _estimate_text(row.executions, _count),
        _range_text(row), _estimate_text(row.seconds, format_seconds), _oracles_text(row), _again_text(row),
        _silence_text(row, s.clean),
    ]


def _found_text(row: Row) -> str:
    """From how many of all seeds; in brackets, if it was fewer, how many were tried."""
    tried = len(row.attempts)
    return f"{row.found}/{row.seeds}" + (f" ({tried} tried)" if tried < row.seeds else "")


def _short(row: Row) -> str:
    return f"{row.found}/{row.seeds} {_count(row.executions.median) if row.executions else '-'}"


def _estimate_text(value: Estimate | None, form: Callable[[float], str]) -> str:
    if value is None:
        return "-"
    if value.interval is None:
        return form(value.median)
    high = form(value.interval.high) if isfinite(value.interval.high) else "?"
    return f"{form(value.median)} ({form(value.interval.low)} to {high})"


def _range_text(row: Row) -> str:
    found = [attempt.executions for attempt in row.attempts if attempt.found]
    return f"{_count(min(found))} to {_count(max(found))}" if found else "-"


def _count(n: float) -> str:
    return f"{n:.1f}" if n < 10 and n != int(n) else format_count(n)


def _oracles_text(row: Row) -> str:
    """The oracle that found it most often, with its invariant, and how many others did; and wrong ones."""
    names = row.oracles
    number = next((a.invariant for a in row.attempts if a.found and a.oracle == names[0]), 0) if names else 0
    others = [f"+{len(names) - 1}"] if len(names) > 1 else []
    by = [format_finding(names[0], number)] if names else []
    return " ".join([*by, *others, *(f"NOT {name}" for name in row.wrong)]) or "-"


def _again_text(row: Row) -> str:
    again = row.repeated
    if again is None:
        return "-"
    counts = "+".join(str(count) for count in again.on.values())
    return f"{counts or '0'}/{again.of}" + ("" if again.same or not again.on else " other steps")


def _silence_text(row: Row, clean: Sequence[Silent]) -> str:
    silent = next(silent for silent in clean if silent.scenario == row.scenario)
    if not silent.run:
        return "-"
    if not silent.silent:
        return "VIOLATION"
    return "silent, all" if silent.exhausted else f"silent, {format_count(row.clean)} x" if row.clean else "silent"


def _loud_text(silent: Silent) -> str:
    failure = silent.failure
    where = f"{silent.scenario.mode}, {silent.scenario.policy}, {silent.scenario.scheme}"
    if failure is None:
        return f"{silent.crash} ({where})"
    return f"{format_finding(failure.oracle, next(iter(failure.invariants), 0))}: {failure.what} ({where})"


def _total_words(total: PolicyTotal) -> list[str]:
    return [
        total.mode, total.policy, f"{total.every} of {total.bugs} bugs from every seed", f"{total.found} from any",
        f"{format_count(total.executions)} executions", f"in {format_seconds(total.seconds)} of searching",
    ]


def _missed(totals: Sequence[PolicyTotal]) -> list[str]:
    return [f"missed {total.mode} by {total.policy}: {_shortened(', '.join(total.missed))}" for total in totals if total.missed]


def _clean_text(clean: Sequence[Silent]) -> str:
    ran = [silent for silent in clean if silent.run]
    whole = sum(silent.enough for silent in ran)
    return (
        f"without bugs: {sum(silent.silent for silent in ran)} of {len(ran)} scenarios silent in "
        f"{format_count(sum(silent.executions for silent in ran))} executions; {whole} of {len(clean)} for "
        f"{CLEAN_TIMES} x the median of their bugs, or to the end"
    )


def _shortened(text: str) -> str:
    names = text.split(", ")
    return text if len(names) <= MOST_NAMED else f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
