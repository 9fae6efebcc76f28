"""From a violation on threads to a schedule: ``python -m ptstress.reconstruct PARENT`` looks for one.

Small programs are made of what was in flight (``window``, ``renumber``) and explored until the oracle that objected on threads
objects again. It reads a ``Request`` from stdin and writes an ``Answer``. In a process of its own,
because a broken engine may crash or hang it; it dies with its parent and leaves signals to it.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count

import msgspec
from msgspec import Struct

from ptstress.child import begin_contained
from ptstress.errors import UsageError
from ptstress.failure_folder import DESCRIPTION, HISTORY, failure_files
from ptstress.history import History, decode_history
from ptstress.job import Job
from ptstress.lab import KNOBS, MAX_STEPS, Lab, judge
from ptstress.recorded_order import Acquisition, by_operation, order_of
from ptstress.renumber import Small, small_program
from ptstress.results import Reconstruction
from ptstress.schedule import Replay, encode
from ptstress.shrinking import shrink
from ptstress.vocabulary import Oracle
from ptstress.window import Recorded, windows

MOST_PROGRAMS = 128
#: Schedules of each program in the first round; in each later one twice as many.
FIRST_EXECUTIONS = 100
#: In turns: the order that was recorded, then what a record of another moment could have been. Each finds what the others miss.
POLICIES = ("recorded", "random", "recorded", "pct", "recorded", "pos")
UNGUIDED = ("random", "pct", "pos")
CRASH = "crash"
#: How long what was found is made simpler.
SHRINK_S = 5.0


class Request(Struct):
    """What is asked. ``report``: the violation, as ``SharedView.reports`` has it. ``seconds``, ``executions``: None: no limit.

    ``acquisitions``: of locks, from the flight recorders.
    """

    job: Job
    scheme: str
    report: dict[str, int | str]
    history: bytes
    seconds: float | None
    executions: int | None = None
    acquisitions: list[Acquisition] = []


class Answer(Struct):
    """What came of it, and what the failure's folder gets of the schedule."""

    found: Reconstruction
    files: dict[str, bytes]


def programs_of(
    history: History, report: Mapping[str, int | str], seed: int, acquisitions: Sequence[Acquisition] = (),
) -> Iterator[tuple[Small, bytes]]:
    """Small programs of what was in flight, each once, the likeliest first, with the order in which it happened."""
    recorded, locks = Recorded(history), by_operation(acquisitions)
    seen: set[Small] = set()
    for window in windows(recorded, report, seed):
        small = small_program(recorded, window, history.geometry)
        if small and small not in seen:
            seen.add(small)
            yield small, order_of(recorded, window, locks)
        if len(seen) == MOST_PROGRAMS:
            return


def knobs_of(knobs: Mapping[str, int | str]) -> dict[str, int | str]:
    """A run's knobs, with what they make rare made frequent: a program has a handful of operations."""
    frequent = dict(KNOBS)
    # A planted crash or hang is no bug of the engine, and would end the search.
    scaled = {name: frequent.get(name, value) for name, value in knobs.items() if value and not name.endswith("_plant")}
    if "walk_sleep" in scaled:
        scaled["walk_sleep"] = min(int(scaled["walk_sleep"]), int(knobs["walk_sleep"]))
    return {**scaled, "backlog_max": frequent["backlog_max"]}


def reconstruct(request: Request) -> Reconstruction:
    """Look for a schedule until one is found or the limits are reached. Raises ``PtstressError`` if there is no engine."""
    search = Search(
        request.scheme, tuple(request.job.config["bugs"]), knobs_of(request.job.config["knobs"]), request.job.seed,
        str(request.report["oracle"]), request.seconds, request.executions,
    )
    history = decode_history(request.history, "history")
    return search.run(programs_of(history, request.report, request.job.seed, request.acquisitions))


class Search:
    """Explores programs in rounds. Its time begins when it is made."""

    def __init__(
        self, scheme: str, bugs: tuple[str, ...], knobs: dict[str, int | str], seed: int, oracle: str,
        seconds: float | None, executions: int | None,
    ) -> None:
        self.scheme = scheme
        self.bugs = bugs
        self.knobs = knobs
        self.seed = seed
        self.oracle = oracle
        self.begin = time.monotonic()
        self.seconds = seconds
        self.most = executions
        self.executions = 0
        self.labs: dict[tuple[int, ...], Lab] = {}

    def run(self, programs: Iterable[tuple[Small, bytes]]) -> Reconstruction:
        """Until found: all programs in turns, in each round with twice as many schedules. Each comes with its recorded order."""
        tried: list[tuple[Small, bytes]] = []
        found = next(filter(None, self._rounds(programs, tried)), None) or Reconstruction()
        found.executions, found.programs = self.executions, len(tried)
        found.seconds = round(time.monotonic() - self.begin, 3)
        return found

    def _rounds(
        self, programs: Iterable[tuple[Small, bytes]], tried: list[tuple[Small, bytes]]
    ) -> Iterator[Reconstruction | None]:
        """What each exploration finds, until the limits are reached. ``tried`` gets the programs, which are made when needed."""
        for turn in count():
            for number, (small, order) in enumerate(programs if turn == 0 else tried):
                if self._over():
                    return
                if turn == 0:
                    tried.append((small, order))
                policy = POLICIES[(turn + number) % len(POLICIES)] if order else UNGUIDED[(turn + number) % len(UNGUIDED)]
                yield self._explore(small, order, policy, FIRST_EXECUTIONS << turn, self.seed + turn)
            if not tried:
                return

    def _over(self) -> bool:
        late = self.seconds is not None and time.monotonic() - self.begin >= self.seconds
        return late or (self.most is not None and self.executions >= self.most)

    def _explore(self, small: Small, order: bytes, policy: str, schedules: int, seed: int) -> Reconstruction | None:
        lab = self.labs.get(small.geometry)
        if lab is None:
            lab = self.labs[small.geometry] = Lab(self.scheme, small.geometry, self.bugs, self.knobs, self.seed)
        lab.load(small.program, judged=self.oracle == Oracle.MODEL.label)
        left = None if self.seconds is None else max(0.0, self.begin + self.seconds - time.monotonic())
        result = lab.explorer.explore(
            policy=policy, seed=seed, executions=schedules, seconds=left, max_steps=MAX_STEPS, order=order,
            wanted=lambda outcome: self.oracle in (CRASH, judge(outcome, lab.view.reports())[0]))
        self.executions += result["executions"]
        failure = result["failure"]
        if not failure:
            return None
        return _told(_simplest(lab.record(small.program, failure)))


def _simplest(record: Replay) -> Replay:
    """With the fewest operations and preemptions that were found in time."""
    try:
        return shrink(record, UNGUIDED[0], SHRINK_S)[0]
    except UsageError:
        return record


def _told(record: Replay) -> Reconstruction:
    told = Lab.of(record).explain(record)
    return Reconstruction(
        replay=encode(record), oracle=told.oracle, what=told.what, program=record.program,
        story=[told.headline, "", *told.story, "", *told.expected],
    )


def schedule_files(replay: str) -> dict[str, bytes]:
    """What a folder with what threads left gets of a schedule; ``replay.txt`` then runs that."""
    _, files = failure_files(replay)
    return {"story.txt": files[DESCRIPTION]} | {
        name: data for name, data in files.items() if name not in (DESCRIPTION, HISTORY)}


def main() -> int:
    """Do what the request on stdin says."""
    begin_contained(int(sys.argv[1]))
    request = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Request)
    found = reconstruct(request)
    sys.stdout.buffer.write(msgspec.msgpack.encode(Answer(found, schedule_files(found.replay) if found.replay else {})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
