"""The one property: no oracle objects to any execution of a program, whatever runs it.

Hypothesis draws the whole example before anything starts (``examples``), or starts from one that a campaign
found (``shrink``). Either way the example runs in another process, so that a crash and a hang shrink, too.
"""

import time
from collections.abc import Sequence

from hypothesis import strategies as st
from msgspec import structs

from ptstress.errors import PtstressError
from ptstress.fuzz_containment import Executor, Stopped
from ptstress.fuzz_example import Failure, FuzzExample
from ptstress.program import Program
from ptstress.schemes import SCHEMES
from ptstress.shrink_program import Candidates, Knobs, simplify
from ptstress.spelling import shrink_spelled
from ptstress.strategies import TINY, Bits, knobs, programs


class FuzzFailed(AssertionError):
    """An example failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.signature}\nprogram: {failure.example.program.text()}\n{failure.detail}")
        self.failure = failure


def check(executor: Executor, example: FuzzExample) -> int:
    """The property. Raises ``FuzzFailed``. Returns how many operations were executed."""
    (trial,) = executor.run([example])
    if trial.failure:
        raise FuzzFailed(trial.failure)
    return trial.operations


@st.composite
def examples(
    draw: st.DrawFn, schedules: int, rounds: int = 0, schemes: Sequence[str] | None = None,
    geometries: Sequence[Bits] = TINY, bugs: tuple[str, ...] = (),
) -> FuzzExample:
    """A program of the common strategies, and how it is run. One example in four also races on threads."""
    scheme = draw(st.sampled_from(list(schemes) if schemes else [s.name for s in SCHEMES]))
    bits = draw(st.sampled_from(list(geometries)))
    return FuzzExample(
        program=draw(programs(bits, mms=3)), scheme=scheme, geometry=bits, knobs=draw(knobs()),
        seed=draw(st.integers(0, 2**32 - 1)), executions=schedules,
        rounds=rounds if draw(st.integers(0, 3)) == 3 else 0, bugs=bugs,
    )


def shrink(executor: Executor, failure: Failure, seconds: float) -> Failure:
    """The simplest example that is found in so much time, and which fails in the same way. Raises ``Stopped``."""
    alike = _Alike(executor, failure, time.monotonic() + seconds)
    given = failure.example
    candidates = Candidates(given.program, given.knobs, given.executions, alike.run, alike.enough)
    simplify(candidates)
    shrink_spelled(candidates, given.geometry)
    if alike.stopped:
        raise Stopped("stopped")
    return alike.simplest


class _Alike:
    """Runs simpler examples on an executor, and keeps the last that failed as ``failure`` did."""

    def __init__(self, executor: Executor, failure: Failure, deadline: float) -> None:
        self.executor, self.failure, self.deadline = executor, failure, deadline
        self.simplest = failure
        self.stopped = False

    def enough(self) -> bool:
        """Whether the time is over, or somebody said stop."""
        return self.stopped or time.monotonic() > self.deadline

    def run(self, program: Program, knobs: Knobs, executions: int) -> int | None:
        """As ``shrink_program.Run``."""
        given = self.failure.example
        # What fails on threads fails in its rounds, and not in schedules.
        schedules = given.executions if given.rounds else executions
        example = structs.replace(given, program=program, knobs=knobs, executions=schedules)
        try:
            (trial,) = self.executor.run([example])
        except Stopped:
            self.stopped = True
            return None
        except PtstressError:
            return None
        if trial.failure is None or trial.failure.signature != self.failure.signature:
            return None
        self.simplest = trial.failure
        return 1 if given.rounds else trial.executions
