"""Small scopes: programs of two threads, each explored to the end under every scheme.

A scope is a file: a program in an address space of a few pages, and how many preemptions an execution has at most. Within
them every interleaving of shared accesses is run, exactly once. A scope may name bugs, which it must find.
Each scope is explored twice: with plain stores that reach memory at once, and with ones that wait as long as their cpu may
keep them. Rare paths are no part of that: each is always taken, or never, as the scope's knobs say.

Without a bound there are too many interleavings, but many differ only in the order of steps that do not depend on each other.
One of each kind, a trace, is enough, and of some scopes the traces come to an end.
"""

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from msgspec import Struct

from ptstress.bugs import find_bug
from ptstress.errors import ExitCode, UsageError
from ptstress.explore_report import explore_lines
from ptstress.exploring import ExploreFailure, ExploreRequest, ExploreSummary, explore, keep_failure, seed_for_stores
from ptstress.program import parse
from ptstress.schemes import Scheme, find_scheme
from ptstress.texttable import flush_left, grid
from ptstress.tomlfile import load_toml
from ptstress.units import format_count, format_finding, format_seconds, parse_geometry
from ptstress.vocabulary import Verb
from ptstress.workload import Strict, find_file, packaged_scopes

#: Sequential consistency, and total store order at its worst.
STORES = ("eager", "late")
NO_SCANS = "it is about scans, and the scheme has none"
NOT_MEANT = "it is about what other schemes do"


class Scope(Strict):
    """A file. ``schemes``: that it is about, none for all; ``bugs``: that it finds, by scheme."""

    summary: str
    program: str
    geometry: str = "2x2x2"
    preemptions: int = 2
    schemes: list[str] = []
    knobs: dict[str, int | str] = {}
    bugs: dict[str, list[str]] = {}


class ScopeCell(Struct):
    """A scope under a scheme. ``executions``: for each kind of stores; ``exhausted``: every interleaving was run.

    ``traces``: that were run without a bound, all of them if ``all_traces``. ``note``: why none was.
    """

    scope: str
    scheme: str
    verdict: str
    preemptions: int = 0
    executions: dict[str, int] = {}
    exhausted: bool = False
    traces: int = 0
    all_traces: bool = False
    failure: ExploreFailure | None = None
    note: str = ""


class ScopeBug(Struct):
    """A bug that was planted in a scope. ``executions``: until it was found, with these ``stores``, or all."""

    scope: str
    scheme: str
    bug: str
    found: bool
    executions: int
    stores: str
    oracle: str = ""
    invariants: list[int] = []
    replay: str = ""


class ScopesSummary(Struct):
    """All of them."""

    verdict: str
    exit_code: int
    executions: int
    seconds: float
    cells: list[ScopeCell]
    bugs: list[ScopeBug]
    notes: list[str]
    results: str = ""
    schema: str = "ptstress.scopes/1"


def load_scopes(names: Iterable[str] = ()) -> dict[str, Scope]:
    """These scopes, or all that are packaged, by name. Raises ``UsageError``."""
    known = {path.stem: path for path in packaged_scopes()}
    paths = [_find(name, known) for name in dict.fromkeys(names)] or list(known.values())
    return {path.stem: _load(path) for path in paths}


def explore_scopes(
    scopes: dict[str, Scope], schemes: Sequence[Scheme], preemptions: int | None, traces: int, results: Path,
    tell: Callable[[str], None],
) -> ScopesSummary:
    """Explore every scope under every scheme, then find its bugs. ``preemptions``: in place of the scopes' own.

    ``traces``: so many without a bound, at most.
    """
    cells: list[ScopeCell] = []
    bugs: list[ScopeBug] = []
    seconds, stopped, kept = 0.0, False, ""
    for name, scope in scopes.items():
        for scheme in schemes:
            if note := why_not(scope, scheme):
                cells.append(ScopeCell(name, scheme.name, "cannot run", note=note))
                continue
            for bug in ("", *scope.bugs.get(scheme.name, [])):
                if stopped:
                    break
                seen = _explore(scope, scheme, bug, preemptions, 0 if bug else traces)
                seconds += sum(one.seconds for one in seen)
                stopped = seen[-1].stop_reason == "stopped"
                if bug:
                    bugs.append(_bug(name, bug, seen[-1]))
                    continue
                cells.append(_cell(name, seen))
                if seen[-1].failures:
                    kept = kept or str(keep_failure(seen[-1], results))
        tell(f"scopes  {name}: {format_count(sum(_total(c) for c in cells if c.scope == name))} interleavings")
    return _summary(cells, bugs, seconds, stopped, kept)


def why_not(scope: Scope, scheme: Scheme) -> str:
    """Why a scheme has nothing to do in a scope; empty: it has."""
    if scope.schemes and scheme.name not in scope.schemes:
        return NOT_MEANT
    program = parse(scope.program, "<scope>")
    scans = any(op.verb == Verb.SCAN for op in program.operations())
    return NO_SCANS if scans and not scheme.scans else ""


def scope_lines(s: ScopesSummary) -> list[str]:
    """The last screen: verdict, how many interleavings each scope has, and what it took to find each bug."""
    names, schemes = (list(dict.fromkeys(getattr(cell, field) for cell in s.cells)) for field in ("scope", "scheme"))
    first = next((cell for cell in s.cells if cell.failure), None)
    ran = [cell for cell in s.cells if not cell.note]
    because = f": {first.failure.oracle}: {first.failure.what}" if first else f": {s.notes[0]}" if s.notes else ""
    lines = [
        f"verdict: {s.verdict.upper()} (exit {int(s.exit_code)})  {len(names)} scopes, {len(ran)} scopes x schemes{because}",
        f"interleavings: {s.executions:,} in {format_seconds(s.seconds)}, each run once  "
        f"bugs: found {sum(bug.found for bug in s.bugs)} of {len(s.bugs)} planted",
    ]
    if first:
        lines += [f"program under {first.scheme}: {first.failure.program}", f"again: ptstress replay '{first.failure.replay}'",
                  f"results: {s.results}"]
    most = "most-preemptions"
    texts = {(cell.scope, most): str(cell.preemptions) for cell in ran}
    texts |= {(cell.scope, cell.scheme): _count(cell) for cell in s.cells}
    lines += ["", *grid(names, [most, *schemes], texts), *_trace_lines(s.cells, schemes)]
    found = [[bug.bug, bug.scheme, bug.scope, _found(bug)] for bug in s.bugs]
    return [*lines, *[""] * bool(found), *flush_left(found)]


def _find(name: str, known: dict[str, Path]) -> Path:
    path = find_file(name, ".toml") if name not in known else known[name]
    if path is None:
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected a TOML file, or one of {', '.join(known)}"
        raise UsageError(f"scope {name!r}: no such file or packaged scope: {hint}")
    return path


def _load(path: Path) -> Scope:
    scope, _ = load_toml(path, Scope)
    parse(scope.program, str(path))
    parse_geometry(scope.geometry)
    for name in (*scope.schemes, *scope.bugs):
        find_scheme(name)
    for bug in (bug for bugs in scope.bugs.values() for bug in bugs):
        find_bug(bug)
    return scope


def _explore(scope: Scope, scheme: Scheme, bug: str, preemptions: int | None, traces: int) -> list[ExploreSummary]:
    """One exploration for each kind of stores, and one of traces, up to one that was not silent or not whole."""
    seen: list[ExploreSummary] = []
    ways: list[tuple[str, str, int | None]] = [("dfs", stores, None) for stores in STORES]
    for policy, stores, executions in ways + [("dpor", STORES[0], traces)] * bool(traces):
        request = ExploreRequest(
            scope.program, scheme.name, parse_geometry(scope.geometry), (bug,) if bug else (), executions, None,
            seed_for_stores(stores), policy, scope.preemptions if preemptions is None else preemptions,
            tuple(scope.knobs.items()),
        )
        seen.append(explore(request, lambda line: None))
        if not seen[-1].exhausted:
            break
    return seen


def _cell(name: str, seen: list[ExploreSummary]) -> ScopeCell:
    bounded = [one for one in seen if one.policy == "dfs"]
    unbounded = next((one for one in seen if one.policy == "dpor"), None)
    failure = next(iter(seen[-1].failures), None)
    whole = all(one.exhausted for one in bounded)
    return ScopeCell(
        name, seen[-1].scheme, "violation" if failure else "pass" if whole else "unknown", bounded[0].preemptions or 0,
        {one.stores: one.executions for one in bounded}, whole, unbounded.distinct if unbounded else 0,
        unbounded.exhausted if unbounded else False, failure,
    )


def _bug(name: str, bug: str, seen: ExploreSummary) -> ScopeBug:
    failure = next(iter(seen.failures), None)
    if failure is None:
        return ScopeBug(name, seen.scheme, bug, False, seen.executions, seen.stores)
    return ScopeBug(
        name, seen.scheme, bug, failure.oracle in find_bug(bug).oracles, failure.executions_to_first, seen.stores,
        failure.oracle, failure.invariants, failure.replay,
    )


def _total(cell: ScopeCell) -> int:
    return sum(cell.executions.values())


def _summary(cells: list[ScopeCell], bugs: list[ScopeBug], seconds: float, stopped: bool, results: str) -> ScopesSummary:
    notes = ["stopped before the end"] * stopped
    notes += [f"{bug.bug} was not found in {bug.scope} under {bug.scheme}" for bug in bugs if not bug.found]
    failed = any(cell.failure for cell in cells)
    code = ExitCode.VIOLATION if failed else ExitCode.UNTRUSTWORTHY if notes else ExitCode.PASS
    verdict = "violation" if failed else "unknown" if notes else "pass"
    return ScopesSummary(verdict, code, sum(map(_total, cells)), round(seconds, 3), cells, bugs, notes, results)


def _count(cell: ScopeCell) -> str:
    if cell.note:
        return "-"
    return f"{_total(cell):,}" + ("" if cell.exhausted else "!" if cell.failure else "?")


def _trace_lines(cells: Sequence[ScopeCell], schemes: Sequence[str]) -> list[str]:
    """Where all traces were run: how many there are."""
    texts = {(cell.scope, cell.scheme): f"{cell.traces:,}" for cell in cells if cell.all_traces}
    if not texts:
        return []
    ran = sum(not cell.note for cell in cells)
    return ["", f"without a bound, all traces where they came to an end ({len(texts)} of {ran}):",
            *grid(list(dict.fromkeys(name for name, _ in texts)), schemes, texts)]


def _found(bug: ScopeBug) -> str:
    if not bug.found:
        return f"NOT FOUND in {bug.executions:,} interleavings with {bug.stores} stores"
    finding = format_finding(bug.oracle, next(iter(bug.invariants), 0))
    return f"at interleaving {bug.executions:,}: {finding}" + f", stores {bug.stores}" * (bug.stores != STORES[0])


