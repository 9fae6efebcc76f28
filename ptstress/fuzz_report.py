"""What people read of a fuzz campaign: the status line, the last screen, the matrix, a failure's description."""

from ptstress.errors import ExitCode
from ptstress.failure_folder import DESCRIPTION, description, failure_files
from ptstress.fuzz_example import Failure
from ptstress.fuzz_summary import FuzzSummary, Tally
from ptstress.units import format_count, format_geometry, format_seconds
from ptstress.vocabulary import OPERATIONS

SHOWN_FAILURES = 3


def fuzz_status(tally: Tally, age_s: float) -> str:
    """One line, always the same keys."""
    programs = sum(w.programs for w in tally.workers)
    operations = sum(w.operations for w in tally.workers)
    restarts = sum(w.restarts for w in tally.workers)
    trouble = [f"{len(tally.failures)} failures"] * bool(tally.failures) + [f"{restarts} restarts"] * bool(restarts)
    return (
        f"fuzz  t: {format_seconds(age_s)}  programs: {format_count(programs)}  distinct: {format_count(tally.distinct)}"
        f"  ops/s: {format_count(operations / age_s if age_s else 0)}  pairs: {format_count(len(tally.pairs))}"
        f"  corpus: {format_count(sum(w.corpus for w in tally.workers))}" + (f"  !!! {', '.join(trouble)}" if trouble else "")
    )


def fuzz_screen(s: FuzzSummary) -> list[str]:
    """At most twelve lines, what was run under each scheme, and the matrix of overlaps."""
    lines = [
        f"verdict: {s.verdict.upper()} (exit {int(s.exit_code)})  fuzz{_because(s)}",
        f"schemes: {' '.join(s.schemes)}  geometries: {' '.join(s.geometries)}  profile: {s.profile}  seed: {s.seed}"
        + (f"  bugs: {' '.join(s.bugs)}" if s.bugs else ""),
        f"programs: {_parts([w.programs for w in s.workers], s.programs)}  distinct: "
        f"{_parts([w.distinct for w in s.workers], s.distinct, 'in union')}{_restarts(s)}",
        f"executions: {format_count(s.executions)} ({format_count(s.executions_per_second)}/s)  operations: "
        f"{format_count(s.operations)} ({format_count(s.operations_per_second)}/s) in {format_seconds(s.duration_s)}",
        f"pairs: {format_count(s.coverage.pairs)}  at each tenth of the time: "
        f"{' '.join(format_count(n) for n in s.coverage.growth)}",
        f"overlaps: {format_count(s.overlaps.total)}  "
        f"{', '.join(f'{p} {format_count(n)}' for p, n in list(s.overlaps.by_pair.items())[:3])}",
    ]
    lines += [f"failure: {f.signature}  ({f.count} times, {f.repeats or 'not repeated'})" for f in s.failures[:SHOWN_FAILURES]]
    if len(s.failures) > SHOWN_FAILURES:
        lines[-1] += f"  and {len(s.failures) - SHOWN_FAILURES} more"
    lines += [f"note: {note}" for note in s.notes]
    lines += [f"results: {s.results}", f"next: {_next(s)}"]
    return [*lines, *fuzz_schemes(s), *fuzz_matrix(s)]


def fuzz_schemes(s: FuzzSummary) -> list[str]:
    """What was run under each scheme."""
    width = max([len("scheme"), *(len(scheme.name) for scheme in s.by_scheme)])
    lines = ["", f"{'scheme':<{width}}  executions   programs   distinct   failures"]
    for one in s.by_scheme:
        counts = (one.executions, one.programs, one.distinct, one.failures)
        lines.append(f"{one.name:<{width}}  {counts[0]:>10,}" + "".join(f"  {n:>9,}" for n in counts[1:]))
    return lines


def fuzz_matrix(s: FuzzSummary) -> list[str]:
    """How often two operations met on one table, verb by verb. ``.``: never."""
    verbs = [verb.label for verb in OPERATIONS]
    width = max(map(len, verbs))
    lines = ["", f"{'overlaps':<{width}}" + "".join(f"  {name:>9}" for name in verbs)]
    for row, a in enumerate(verbs):
        met = [s.overlaps.by_pair.get(f"{a}/{b}", 0) for b in verbs[row:]]
        cells = [" " * 11] * row + [f"  {format_count(n) if n else '.':>9}" for n in met]
        lines.append(f"{a:<{width}}{''.join(cells)}")
    return lines


def fuzz_files(failure: Failure, again: str, count: int) -> dict[str, bytes]:
    """The files of a failure's folder: those of any failure that a replay string repeats, or what threads left."""
    e = failure.example
    how = f"raced on threads {e.rounds} times" if e.rounds else f"explored under {e.executions} schedules"
    knobs = ", ".join(f"{name} {value}" for name, value in e.knobs.items() if value)
    about = [
        f"found by fuzz, {how}, seed {e.seed}", f"knobs: {knobs}", f"came {count} times; repeated: {failure.repeats or 'no'}",
    ]
    if failure.replay:
        return failure_files(failure.replay, about)[1]
    bugs = f", bugs {' '.join(e.bugs)}" if e.bugs else ""
    about = [
        f"oracle: {failure.signature.oracle}", f"    {failure.detail}",
        f"under {e.scheme}, geometry {format_geometry(e.geometry)}{bugs}", *about, f"program: {e.program.text()}",
    ]
    return {
        DESCRIPTION: description(failure.name, failure.story, (), about, again).encode(),
        "program.txt": f"{e.program.text()}\n".encode(), "replay.txt": f"{again}\n".encode(),
    }


def _because(s: FuzzSummary) -> str:
    stopped = ", stopped early" if s.stop_reason == "stopped" else ""
    if s.failures:
        kinds = f"{len(s.failures)} distinct failure{'s' * (len(s.failures) > 1)}"
        return f": {kinds}, first {s.failures[0].oracle}: {s.failures[0].what}{stopped}"
    if s.exit_code == ExitCode.UNTRUSTWORTHY:
        nothing = ": nothing found, in too few executions" if s.overlaps.total else ": no two operations ever met"
        return (": the planted bug was not found" if s.bugs else nothing) + stopped
    return f": nothing found{stopped}"


def _parts(each: list[int], total: int, what: str = "") -> str:
    """``4,812 (2,400 + 2,412)``."""
    text = format_count(total) + (f" {what}" if what and len(each) > 1 else "")
    return text + (f" ({' + '.join(format_count(n) for n in each)})" if 1 < len(each) <= 8 else "")


def _restarts(s: FuzzSummary) -> str:
    restarts, lost = sum(w.restarts for w in s.workers), sum(w.lost for w in s.workers)
    text = f"  executors that died: {restarts}" if restarts else ""
    return text + (f"  workers lost: {lost}" if lost else "")


def _next(s: FuzzSummary) -> str:
    if s.failures:
        return f"read {s.failures[0].path}/description.txt; again: its last line"
    if s.exit_code == ExitCode.UNTRUSTWORTHY:
        return "a longer --duration, or the geometry and scheme that the bug needs" if s.bugs else "a longer --duration"
    half = s.coverage.growth[len(s.coverage.growth) // 2 - 1] if s.coverage.growth else 0
    still = s.coverage.pairs > half * 1.02
    return "a longer --duration: new pairs were still coming" if still else "saturated: other --geometry or more verbs bring more"
