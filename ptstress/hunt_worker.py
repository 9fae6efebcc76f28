"""``python -m ptstress.hunt_worker PARENT``: does the jobs of ``ptstress bugs`` in a process of its own, which may crash or hang.

Jobs come on stdin, answers go to stdout. It dies with its parent, which also ends it when somebody says stop.
"""

import sys
from collections.abc import Callable

from msgspec import Struct

from ptstress.bugs import find_bug
from ptstress.child import begin_contained
from ptstress.errors import PtstressError
from ptstress.exploring import DEFAULT_GEOMETRY, ExploreRequest, describe, lab_for, search
from ptstress.fuzz_wire import Closed, Reader, send, take_stdout
from ptstress.hunt_wire import Answer, Attempt, Clean, Hunt, Job, Over, Repeated, Scenario, Silence
from ptstress.lab import Lab, invariants_of, judge
from ptstress.replaying import replay
from ptstress.units import parse_geometry

WAIT_S = 60.0


class Hunter:
    """Does jobs on the engine of this process; ``say`` gets the answers."""

    def __init__(self, say: Callable[[Answer], None]) -> None:
        self.say = say
        self._key: tuple = ()
        self._lab: Lab | None = None

    def do(self, job: Job) -> None:
        """The whole job. Raises ``PtstressError`` if it cannot be done."""
        (self._hunt if isinstance(job, Hunt) else self._clean)(job)

    def _hunt(self, job: Hunt) -> None:
        bug = find_bug(job.bug)
        left, replays = job.seconds, job.replays
        for position, seed in enumerate(job.seeds):
            request = _request(job.scenario, (bug.id,), job.executions, left / (len(job.seeds) - position), seed)
            lab = self._lab_for(request)
            total, found = search(lab, request, _never)
            left -= total.seconds
            if found is None:
                self.say(Attempt(seed, False, total.executions, total.seconds))
                continue
            outcome, reports = found.execution["outcome"], lab.view.reports()
            oracle, _ = judge(outcome, reports)
            right = oracle in bug.oracles
            self.say(Attempt(
                seed, right, total.executions, total.seconds, oracle, next(iter(invariants_of(outcome, reports)), 0)))
            if right and replays:
                failure = describe(lab, found, total.executions)
                again = replay(failure.replay, "both", replays)
                self.say(Repeated(failure.replay, again.reproduced, replays, again.same_trace))
                replays = 0

    def _clean(self, job: Clean) -> None:
        left, seconds = job.executions, job.seconds
        for position, seed in enumerate(job.seeds):
            more = len(job.seeds) - position
            request = _request(job.scenario, (), -(-left // more), max(seconds, 0.0) / more, seed)
            lab = self._lab_for(request)
            total, found = search(lab, request, _never)
            left -= total.executions
            seconds -= total.seconds
            failure = describe(lab, found, total.executions) if found else None
            self.say(Silence(total.executions, total.seconds, total.exhausted, failure))
            if failure or left <= 0:
                return

    def _lab_for(self, request: ExploreRequest) -> Lab:
        """The machine of the last request, if that was for the same one."""
        key = (request.scheme, request.bugs)
        if self._lab is None or key != self._key:
            self._lab, self._key = lab_for(request), key
        return self._lab


def _request(
    scenario: Scenario, bugs: tuple[str, ...], executions: int | None, seconds: float, seed: int
) -> ExploreRequest:
    geometry = parse_geometry(DEFAULT_GEOMETRY)
    return ExploreRequest(
        scenario.program or None, scenario.scheme, geometry, bugs, executions, seconds, seed, scenario.policy)


def _never() -> bool:
    return False


def main() -> int:
    """Do jobs until stdin ends."""
    begin_contained(int(sys.argv[1]))
    jobs = Reader(sys.stdin.fileno(), Job)
    answers = take_stdout()

    def say(answer: Struct) -> None:
        send(answers, answer)

    hunter = Hunter(say)
    try:
        while True:
            job = jobs.wait(WAIT_S, lambda: False)
            try:
                hunter.do(job)
                say(Over())
            except Closed:
                raise
            except PtstressError as error:
                say(Over(str(error), int(error.exit_code)))
            except MemoryError as error:
                say(Over(f"engine: {error or 'out of memory'}", 3))
    except Closed:
        return 0


if __name__ == "__main__":
    sys.exit(main())
