"""From a violation on threads to a schedule: ``python -m ptstress.reconstruct PARENT`` looks for one.

Small programs are made of what was in flight (``window``, ``renumber``) and explored until the oracle that objected on threads
objects again. It reads a ``Request`` from stdin and writes a ``Reconstruction`` as one line of JSON. In a process of its own,
because a broken engine may crash or hang it; it dies with its parent and leaves signals to it.
"""

import faulthandler
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import count

import msgspec
from msgspec import Struct

from ptstress.child import die_with_parent
from ptstress.history import History, decode_history
from ptstress.job import Job
from ptstress.lab import KNOBS, MAX_STEPS, Lab, fingerprint, judge
from ptstress.renumber import Small, small_program
from ptstress.results import Reconstruction
from ptstress.schedule import Replay, encode
from ptstress.window import Recorded, windows

MOST_PROGRAMS = 64
#: Schedules of each program in the first round; in each later one twice as many.
FIRST_EXECUTIONS = 100
#: In turns: each finds in few executions what the others miss.
POLICIES = ("random", "pct", "pos")
CRASH = "crash"


class Request(Struct):
    """What is asked. ``report``: the violation, as ``SharedView.reports`` has it. ``seconds``, ``executions``: None: no limit."""

    job: Job
    scheme: str
    report: dict[str, int | str]
    history: bytes
    seconds: float | None
    executions: int | None = None


def programs_of(history: History, report: Mapping[str, int | str], seed: int) -> Iterator[Small]:
    """Small programs of what was in flight, each once, the likeliest first."""
    recorded = Recorded(history)
    seen: set[Small] = set()
    for window in windows(recorded, report, seed):
        small = small_program(recorded, window, history.geometry)
        if small and small not in seen:
            seen.add(small)
            yield small
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
    return search.run(programs_of(decode_history(request.history, "history"), request.report, request.job.seed))


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

    def run(self, programs: Iterable[Small]) -> Reconstruction:
        """Until found: all programs in turns, in each round with twice as many schedules."""
        tried: list[Small] = []
        found = next(filter(None, self._rounds(programs, tried)), None) or Reconstruction()
        found.executions, found.programs = self.executions, len(tried)
        found.seconds = round(time.monotonic() - self.begin, 3)
        return found

    def _rounds(self, programs: Iterable[Small], tried: list[Small]) -> Iterator[Reconstruction | None]:
        """What each exploration finds, until the limits are reached. ``tried`` gets the programs, which are made when needed."""
        for turn in count():
            for number, small in enumerate(programs if turn == 0 else tried):
                if self._over():
                    return
                if turn == 0:
                    tried.append(small)
                policy = POLICIES[(turn + number) % len(POLICIES)]
                yield self._explore(small, policy, FIRST_EXECUTIONS << turn, self.seed + turn)
            if not tried:
                return

    def _over(self) -> bool:
        late = self.seconds is not None and time.monotonic() - self.begin >= self.seconds
        return late or (self.most is not None and self.executions >= self.most)

    def _explore(self, small: Small, policy: str, schedules: int, seed: int) -> Reconstruction | None:
        lab = self.labs.get(small.geometry)
        if lab is None:
            lab = self.labs[small.geometry] = Lab(self.scheme, small.geometry, self.bugs, self.knobs, self.seed)
        lab.load(small.program)
        left = None if self.seconds is None else max(0.0, self.begin + self.seconds - time.monotonic())
        result = lab.explorer.explore(policy=policy, seed=seed, executions=schedules, seconds=left, max_steps=MAX_STEPS)
        self.executions += result["executions"]
        failure = result["failure"]
        if not failure or self.oracle not in (judge(failure["outcome"], lab.view.reports())[0], CRASH):
            return None
        record = Replay(
            fingerprint=fingerprint(self.scheme), program=small.program.text(), scheme=self.scheme, geometry=small.geometry,
            bugs=self.bugs, knobs=self.knobs, seed=failure["seed"], choices=failure["choices"], max_steps=failure["max_steps"],
            outcome=failure["outcome"], trace_hash=failure["hash"], steps_only=failure["steps_only"],
        )
        told = lab.explain(record)
        return Reconstruction(
            replay=encode(record), oracle=told.oracle, what=told.what, program=record.program,
            story=[told.headline, "", *told.story, "", *told.expected],
        )


def main() -> int:
    """Do what the request on stdin says."""
    faulthandler.enable()
    die_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    request = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Request)
    sys.stdout.buffer.write(msgspec.json.encode(reconstruct(request)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
