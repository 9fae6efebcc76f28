"""The rules that policies live by, and for each the bug that breaks it: what catches it, explored and on threads."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from msgspec import Struct

from ptstress.bugs import find_bug
from ptstress.canary import CANARY_SECONDS, plant
from ptstress.driver import Outcome, Stopper
from ptstress.errors import ExitCode, UsageError
from ptstress.exploring import DEFAULT_GEOMETRY, ExploreRequest, explore
from ptstress.plan import Overrides
from ptstress.replaying import replay
from ptstress.texttable import flush_left
from ptstress.units import format_finding, parse_geometry
from ptstress.verdict import find_canary

EXECUTIONS = 20_000
REPEATS = 3


@dataclass(frozen=True)
class Rule:
    """``text``: what must be done; ``bug``: does not, under ``scheme``, or else under the bug's own."""

    text: str
    bug: str
    scheme: str = ""

    @property
    def under(self) -> str:
        """The scheme that it is shown under."""
        return self.scheme or find_bug(self.bug).scheme


RULES = (
    # -- freeing a table -------------------------------------------------------------------------------------------
    Rule("who let go of a table's lock looks at all of its entries again before it frees the table", "P01"),
    Rule("who holds a table's lock only tries its parent's", "M15-lock-order"),
    Rule("a table is unlinked with all of its entries none, those of the zero page too", "M08-zero"),
    Rule("who takes back the zero page flushes before it gives the locks back", "M10-zero"),
    Rule("an unlinked table is freed after a grace period, which an IPI is not", "M08-ipi"),
    # -- scans -----------------------------------------------------------------------------------------------------
    Rule("what a scan saw without locks is a hint, and looked at again with them", "M01-scan"),
    Rule("a scan pins the mm that it took from the list", "M07-scan"),
    Rule("exit waits for whoever is in the mm", "M07-exit"),
    # -- page tables without mmap_lock -----------------------------------------------------------------------------
    Rule("who installs a table looks under the parent's lock whether the parent is still attached", "M01-install"),
    Rule("R11: a fault looks at its VMA's sequence after it has taken the table's lock", "M04-r11"),
    Rule("teardown takes the lock of each table that it takes down", "M02-teardown"),
    Rule("an upper table is empty when it is freed, and that is looked at under its lock", "M01-upper"),
    # -- walks that sleep ------------------------------------------------------------------------------------------
    Rule("nobody sleeps inside RCU", "M15-sleep"),
    Rule("who has slept looks under the table's lock whether the table is still attached", "M01-relock"),
    Rule("a reference is taken to a table that has one, not to one whose last one is gone", "M01-ref"),
    Rule("SRCU is left by the index that it was entered with", "M13-srcu"),
    Rule("a device is told that an invalidation is over when everything is flushed", "M03-notifier", "seed-srcu"),
)


class Caught(Struct):
    """``effort``: executions, or seconds on threads, until it was found. ``replayed``: that it came again each time."""

    found: bool
    effort: float = 0.0
    oracle: str = ""
    invariant: int = 0
    replay: str = ""
    replayed: bool = False


class RuleShown(Struct):
    """A rule, its bug, and what caught it."""

    rule: str
    bug: str
    scheme: str
    explored: Caught
    threads: Caught


class RulesSummary(Struct):
    """All of them."""

    verdict: str
    exit_code: int
    rules: list[RuleShown]
    schema: str = "ptstress.rules/1"


def find_rules(bugs: Iterable[str]) -> list[Rule]:
    """The rules that these bugs break; all if none is named. Raises ``UsageError``."""
    known = {rule.bug: rule for rule in RULES}
    for bug in bugs:
        if bug not in known:
            raise UsageError(f"rule of bug {bug!r}: expected one of {', '.join(known)}")
    return [known[bug] for bug in dict.fromkeys(bugs)] or list(RULES)


def show_rules(rules: Iterable[Rule], threads: int, seed: int, tell: Callable[[str], None]) -> RulesSummary:
    """Plant each rule's bug: it must be found under explored schedules and come again, and be found on threads."""
    shown: list[RuleShown] = []
    with Stopper() as stopper:
        for rule in rules:
            if stopper.requests:
                break
            tell(f"rules  {rule.bug} under {rule.under}")
            explored = _explored(rule, seed)
            shown.append(RuleShown(rule.text, rule.bug, rule.under, explored, _on_threads(rule, threads, seed, stopper)))
    whole = not stopper.requests and all(r.explored.found and r.explored.replayed and r.threads.found for r in shown)
    code = ExitCode.PASS if whole else ExitCode.UNTRUSTWORTHY
    return RulesSummary("pass" if whole else "unknown", code, shown)


def rule_lines(s: RulesSummary) -> list[str]:
    """The last screen."""
    both = sum(r.explored.found and r.threads.found for r in s.rules)
    rows = [["rule", "bug", "scheme", "explored", "on threads"]]
    rows += [[r.rule, r.bug, r.scheme, _text(r.explored, "execution {:,.0f}"), _text(r.threads, "{:.1f} s")] for r in s.rules]
    return [
        f"verdict: {s.verdict.upper()} (exit {int(s.exit_code)})  {both} of {len(s.rules)} bugs found both ways", "",
        *flush_left(rows),
    ]


def _explored(rule: Rule, seed: int) -> Caught:
    bug = find_bug(rule.bug)
    request = ExploreRequest(
        bug.program, rule.under, parse_geometry(DEFAULT_GEOMETRY), (bug.id,), EXECUTIONS, None, seed, "random")
    summary = explore(request, lambda line: None)
    if not summary.failures:
        return Caught(False, summary.executions)
    failure = summary.failures[0]
    again = replay(failure.replay, "both", REPEATS)
    return Caught(
        failure.oracle in bug.oracles, failure.executions_to_first, failure.oracle, next(iter(failure.invariants), 0),
        failure.replay, again.same_trace and set(again.reproduced.values()) == {REPEATS},
    )


def _on_threads(rule: Rule, threads: int, seed: int, stopper: Stopper) -> Caught:
    bug = find_bug(rule.bug)
    overrides = Overrides(rule.under, None, threads, CANARY_SECONDS, seed, "stress", (bug.id,))
    outcome = plant(bug, overrides, stopper)
    item = find_canary(bug.id, bug.oracles, outcome)
    return Caught(item.found, item.seconds, item.oracle, _invariant(outcome, item.oracle))


def _invariant(outcome: Outcome, oracle: str) -> int:
    return next((int(r["invariant"]) for r in outcome.reports if r["oracle"] == oracle), 0)


def _text(caught: Caught, effort: str) -> str:
    how = effort.format(caught.effort)
    return f"{how}: {format_finding(caught.oracle, caught.invariant)}" if caught.found else f"NOT FOUND, {how}"
