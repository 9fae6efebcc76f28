"""What is told of a failed execution: its headline, its story, what was expected."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from ptstress.headline import Report, expected, headline
from ptstress.layout import report_text
from ptstress.story import Ending, Operation, tell
from ptstress.story_progress import TIMES, Cycle, cycles_of, told_of, waiters_of
from ptstress.story_slice import Focus, focus_of, names_a_thing, pair_of, slice_of, speaks
from ptstress.story_steps import Step, read_steps, table_names
from ptstress.vocabulary import Oracle

#: What outcomes that nobody reports are called, and the invariant that they break.
UNREPORTED = MappingProxyType({
    "deadlock": ("no worker can run", 48), "livelock": ("the workers go on for ever", 47),
    "diverged": ("the program did not follow the recorded choices", 0),
})
_RACED_WORD = re.compile(r"data race on ([^:]+):")
#: What does not say what kind of lock it is.
_LOCK_KIND = re.compile(r" of \w+_table \d+| \d+$| of m\d+$")
_RACED_FUNCTION = re.compile(r" in (\w+) \(")


@dataclass(frozen=True)
class Told:
    """A failure in words. ``what``: one line, with numbers; ``headline``: without, the same for the same failure.

    ``steps`` and ``operations``: all that the execution was, for those who tell it in another way.
    """

    oracle: str
    invariant: int
    what: str
    headline: str
    expected: tuple[str, ...]
    story: tuple[str, ...]
    steps: tuple[Step, ...] = ()
    operations: tuple[tuple[Operation, ...], ...] = ()


def tell_failure(
    replayed: dict, reports: Sequence[Report], operations: Sequence[Sequence[Operation]], describe: Callable[[int], str],
    leaf_bits: int, race: Callable[[], str] = lambda: "data race",
) -> Told:
    """The failure of an execution that ``Explorer.replay`` has traced. ``leaf_bits``: of a page number, in a pte_table.

    ``race``: says which data race there was. It comes first, as it often caused the others.
    """
    steps = read_steps(replayed["trace"], describe)
    outcome, report = replayed["outcome"], _telling(reports)
    if outcome == "race":
        told = _raced(race(), steps, operations)
    elif report is None:
        told = _unended(outcome, steps, replayed["pending"], operations, describe)
    else:
        told = _reported(report, outcome, steps, operations, leaf_bits)
    return replace(told, steps=told.steps or tuple(steps), operations=tuple(map(tuple, operations)))


def _reported(
    report: Report, outcome: str, steps: Sequence[Step], operations: Sequence[Sequence[Operation]], leaf_bits: int
) -> Told:
    focus = focus_of(report, outcome, steps, leaf_bits)
    kept = slice_of(steps, focus)
    oracle, invariant, what = str(report["oracle"]), int(report["invariant"]), report_text(report)
    failed, other = pair_of(steps, kept, focus)
    line = headline(oracle, report, outcome, [failed or str(report["verb"]), other], table_names(steps))
    ending = Ending(what if focus.fibre is not None else f"at rest: {what}", focus.fibre)
    story = tell(kept, operations, [ending], results=focus.page is not None or oracle == Oracle.MODEL.label)
    return Told(oracle, invariant, what, line, tuple(expected(oracle, invariant, what)), tuple(story))


def _raced(what: str, steps: Sequence[Step], operations: Sequence[Sequence[Operation]]) -> Told:
    """A race as ``races.race_text`` says it."""
    word = _RACED_WORD.match(what)
    focus = Focus(None, words={word[1]} if word else set())
    story = tell(slice_of(steps, focus), operations, [Ending(what)])
    line = headline("race", None, "data race", [found[1] for found in _RACED_FUNCTION.finditer(what)])
    return Told("race", 0, what, line, tuple(expected("race", 0, what)), tuple(story))


def _telling(reports: Sequence[Report]) -> Report | None:
    """The first report, or of the same cpu and oracle the first that names a thing: a count says less."""
    same = [r for r in reports if r["oracle"] == reports[0]["oracle"]]
    return next((r for r in same if names_a_thing(r)), same[0]) if same else None


def _unended(
    outcome: str, steps: Sequence[Step], pending: Sequence[dict], operations: Sequence[Sequence[Operation]],
    describe: Callable[[int], str],
) -> Told:
    focus = focus_of(None, outcome, steps, 0)
    text, invariant = UNREPORTED.get(outcome, (outcome, 0))
    waiters = waiters_of(steps, pending, describe) if outcome == "deadlock" else []
    cycles = cycles_of(steps) if outcome == "livelock" else []
    where = [_verb(operations, w.cpu) for w in waiters] or [_function(c, operations) for c in cycles]
    repeats = [f"CPU{c.cpu} repeats {len(c.steps)} steps in {name}" for c, name in zip(cycles, where, strict=False)]
    locks = " and ".join(sorted({_LOCK_KIND.sub("", w.lock) for w in waiters}))
    what = f"{outcome}: {'; '.join([*map(str, waiters), *repeats]) or text}"
    kept = slice_of(_through(steps, cycles, 0), focus)
    story = tell(kept, operations, [Ending(what)] if not cycles else [], cycles=[(told_of(c), _again(c)) for c in cycles])
    return Told(
        "progress", invariant, what, headline("progress", None, f"{outcome} on {locks}" if locks else outcome, where),
        tuple(expected("progress", invariant, what)), tuple(story), tuple(_through(steps, cycles, TIMES)),
    )


def _again(cycle: Cycle) -> str:
    return f"and again {cycle.times - 1:,} times"


def _function(cycle: Cycle, operations: Sequence[Sequence[Operation]]) -> str:
    """The function that most steps of a cycle are in, but for what serves all of them; else the operation."""
    names = [s.func for s in cycle.steps if speaks(s)]
    if names:
        return max(dict.fromkeys(names), key=names.count)
    return _verb(operations, cycle.cpu) or cycle.steps[-1].func


def _verb(operations: Sequence[Sequence[Operation]], cpu: int) -> str:
    """What a cpu is at when the execution ends; empty if it is at nothing."""
    going = [o.text.partition("(")[0] for o in operations[cpu] if o.end is None] if cpu < len(operations) else []
    return going[-1] if going else ""


def _through(steps: Sequence[Step], cycles: Sequence[Cycle], times: int) -> list[Step]:
    """Steps before those that repeat, and of these the first ``times`` rounds; all of a cpu that does not repeat."""
    left = {c.cpu: sum(s.fibre == c.cpu for s in steps) - (c.times - times) * len(c.steps) for c in cycles}
    kept = []
    for s in steps:
        if left.get(s.fibre, 1) > 0:
            kept.append(s)
        if s.fibre in left:
            left[s.fibre] -= 1
    return kept
