"""Examines a failure that was found: makes it simpler, counts how often it fails, and asks when it became inevitable."""

import time
from collections.abc import Callable
from functools import partial

from msgspec import structs

from ptstress.causality import causality
from ptstress.driver import Stopper
from ptstress.errors import PtstressError, UsageError
from ptstress.evidence import Odds
from ptstress.exploring import ExploreFailure, describe_record
from ptstress.fuzz_containment import Executor, Stopped
from ptstress.fuzz_example import FuzzExample
from ptstress.lab import CARRIERS, Lab
from ptstress.program import parse
from ptstress.schedule import Replay, decode
from ptstress.shrinking import shrink
from ptstress.units import parse_duration
from ptstress.vocabulary import Oracle

SHRINK = "10s"
MOST_SHRINK_S = 60.0
#: Replays of the schedule, and races, which have no schedule. These are done for so long at most.
TIMES, RACES = 10, 1000
RACING_S = 3.0
#: A race takes microseconds, and a thread that goes on for so long behind the time of all races hangs.
HANG_S = 2.0
CAUSALITY_S = 3.0
#: Now and then a racing thread pauses where a rare interleaving opens, as workloads have it: once in so many such places.
DELAY_INTERVAL = 2


def shrink_seconds(text: str) -> float:
    """How long ``--shrink`` says. Raises ``UsageError``."""
    seconds = parse_duration(text)
    if not 0 < seconds <= MOST_SHRINK_S:
        raise UsageError(f"--shrink {text!r}: expected more than nothing and at most {MOST_SHRINK_S:.0f}s")
    return seconds


def examine(failure: ExploreFailure, policy: str, seconds: float) -> ExploreFailure:
    """The simplest failure that is found in so much time, and what is known of it. A stop gives what there is by then.

    ``policy``: that found it.
    """
    stopper = Stopper()

    def stopped() -> bool:
        return stopper.requests > 0

    found = decode(failure.replay)
    with stopper, Executor(HANG_S, stopped) as executor:
        if not _why_not_raced(found, failure.oracle):
            executor.start()
        record, shrunk = shrink(found, policy, seconds, stopped)
        lab = Lab.of(record)
        curve = None if stopped() else causality(lab, record, partial(_over, time.monotonic() + CAUSALITY_S, stopped))
        odds = None if stopped() else _odds(lab, record, failure.oracle, executor)
    simple = describe_record(lab, record, failure.executions_to_first)
    return structs.replace(simple, shrunk=shrunk, odds=odds, causality=curve)


def _why_not_raced(record: Replay, oracle: str) -> str:
    """Why nobody could count failures on threads; empty if one can."""
    if record.outcome in ("deadlock", "livelock"):
        return "a race that fails never ends"
    if oracle == Oracle.MODEL.label:
        return "the model judges explored executions only"
    return "threads do not tell a data race" if record.build != "sched" else ""


def _over(deadline: float, stopped: Callable[[], bool]) -> bool:
    return stopped() or time.monotonic() > deadline


def _odds(lab: Lab, record: Replay, oracle: str, executor: Executor) -> Odds:
    """How often it fails on its schedule, on each carrier, and without a schedule."""
    again, _ = lab.repeat(record, CARRIERS if record.outcome != "race" else CARRIERS[:1], TIMES)
    odds = Odds(again, TIMES, note=_why_not_raced(record, oracle))
    if odds.note:
        return odds
    example = FuzzExample(
        program=parse(record.program), scheme=record.scheme, geometry=record.geometry,
        knobs=record.knobs | {"delay_interval": DELAY_INTERVAL}, seed=record.seed, executions=0, bugs=record.bugs,
    )
    try:
        raced = executor.race(example, RACES, RACING_S)
    except Stopped:
        odds.note = "stopped"
    except PtstressError as error:
        odds.note = str(error)
    else:
        if raced is None:
            odds.note = "a race killed or hung its process"
        else:
            odds.races, odds.failed = raced.races, raced.failed
    return odds
