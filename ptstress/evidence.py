"""What is known of a failure beyond that it happened: what is left of it, how likely it is, and what made it so."""

from msgspec import Struct

from ptstress.units import format_seconds


class Size(Struct, frozen=True):
    """What there is to understand. ``preemptions``: how often a cpu was stopped that could have gone on."""

    threads: int
    operations: int
    preemptions: int
    points: int


class Shrunk(Struct):
    """A failure that was made simpler: its sizes before and after, and the replay string of what was found.

    ``programs``: simpler ones that were tried; ``whole``: nothing simpler was left to try when it ended.
    """

    was: Size
    size: Size
    replay: str
    programs: int
    seconds: float
    whole: bool


class Odds(Struct):
    """How often it fails. ``schedule``: of ``times`` on this very schedule, by carrier.

    ``races``: on real threads, which nobody schedules; ``failed`` of them. ``note``: why there were none, or no more.
    """

    schedule: dict[str, int]
    times: int
    races: int = 0
    failed: int = 0
    note: str = ""


class Step(Struct):
    """Of an execution, counted from 1: where the ``choice``-th choice led. ``before``, ``after``: how likely the failure was."""

    step: int
    choice: int
    text: str
    before: float
    after: float


class Causality(Struct):
    """How likely a failure was when so many choices had been made, ``(choices, share that failed)``, of ``samples`` walks each.

    ``inevitable``: the step from which on all failed, if it is known; ``turn``: the one that made most of the difference.
    Either is ``None`` if it was so from the start.
    """

    samples: int
    choices: int
    points: list[tuple[int, float]]
    inevitable: Step | None
    turn: Step | None


def shrunk_lines(shrunk: Shrunk | None) -> list[str]:
    """What was left out."""
    if shrunk is None:
        return []
    rest = "" if shrunk.whole else ", and there may be a simpler one: --shrink TIME goes on for longer"
    return [f"shrunk: from {_size_text(shrunk.was)} to {_size_text(shrunk.size)} in {format_seconds(shrunk.seconds)}{rest}"]


def odds_lines(odds: Odds | None) -> list[str]:
    """How often it fails."""
    if odds is None:
        return []
    least = 100 * min(odds.schedule.values()) // odds.times
    races = f"{odds.failed:,} of {odds.races:,} on threads" if odds.races else f"not raced on threads: {odds.note}"
    return [f"odds: fails {least} % on this schedule; {races}"]


def _size_text(size: Size) -> str:
    parts = ((size.threads, "thread"), (size.operations, "operation"), (size.preemptions, "preemption"))
    return ", ".join(f"{n} {name}{'s' * (n != 1)}" for n, name in parts)
