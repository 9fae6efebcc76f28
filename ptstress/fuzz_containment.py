"""Runs examples in a process that may crash or hang, and makes of either a failure like any other.

The executor answers each example by itself, so the first one without an answer is the one that killed it.
An example takes milliseconds, a race that is hard to explain a few seconds of a cpu; one that takes ``hang_s`` hangs. Time
in which the executor was ready to run and got no cpu does not count. A new executor goes on with the rest.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from ptstress.driver import child_environment
from ptstress.errors import ExitCode, PtstressError, ResourceError, UnsupportedError, UsageError
from ptstress.fuzz_example import Failure, FuzzExample, Signature, Trial
from ptstress.fuzz_wire import Answer, Closed, Polish, Polished, Race, Raced, Ran, Reader, Refused, Request, Run, send

POLL_S = 0.05
HANG_S = 10.0
#: The search for a schedule of few preemptions takes longer than an example.
POLISH_S = 60.0
DYING_S = 10.0
CRASH, PROGRESS = "crash", "progress"
_ERRORS = MappingProxyType({ExitCode.RESOURCE: ResourceError, ExitCode.UNSUPPORTED: UnsupportedError})


def cpu_waits(pid: int) -> dict[str, int]:
    """For how many ns each thread of a process was ready to run and got no cpu until now; nothing of those that are gone."""
    waits = {}
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError, IndexError):
            waits[task.parent.name] = int(task.read_text().split()[1])
    return waits


def starved_s(before: dict[str, int], now: dict[str, int]) -> float:
    """For how long that thread waited for a cpu, between two ``cpu_waits``, which waited longest."""
    return max((ns - before.get(thread, 0) for thread, ns in now.items()), default=0) / 1e9


class Stopped(PtstressError):
    """Somebody asked to end while an example ran."""


class Executor:
    """A process that runs examples, started when it is first needed. ``with`` ends it.

    ``stopped`` is asked every ``POLL_S``; if it says so, what runs is given up with ``Stopped``.
    """

    def __init__(self, hang_s: float = HANG_S, stopped: Callable[[], bool] = lambda: False) -> None:
        self.hang_s = hang_s
        self.stopped = stopped
        self.restarts = 0
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def run(self, examples: Sequence[FuzzExample], deepen: bool = False) -> Iterator[Trial]:
        """One trial for each example, in order. Raises ``PtstressError`` if one cannot be run at all."""
        done = 0
        try:
            while done < len(examples):
                asked = self._ask(Run(list(examples[done:]), deepen))
                while done < len(examples):
                    answer = self._answer() if asked else None
                    trial = answer.trial if isinstance(answer, Ran) else Trial(failure=self._death(examples[done]))
                    done += 1
                    yield trial
                    if not isinstance(answer, Ran):
                        break
        finally:
            # Answers to what was given up must not be taken for those to the next question.
            if done < len(examples):
                self.close()

    def polish(self, failure: Failure) -> Failure:
        """The failure with replay string and story; as it was if its process did not survive that."""
        if failure.signature.oracle == CRASH or not self._ask(Polish(failure)):
            return failure
        answer = self._answer(POLISH_S)
        if isinstance(answer, Polished):
            return answer.failure
        self._death(failure.example)
        return failure

    def start(self) -> None:
        """Start the process now, so that it is ready when it is needed."""
        if self._process is None:
            self._start()

    def race(self, example: FuzzExample, times: int, seconds: float) -> Raced | None:
        """How often it fails on real threads, in so much time at most. ``None``: it killed or hung its process."""
        answer = self._answer(seconds) if self._ask(Race(example, times, seconds)) else None
        if not isinstance(answer, Raced):
            self._death(example)
            return None
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            stream.close()
        self._process = None

    def _ask(self, request: Request) -> bool:
        if self._process is None:
            self._start()
        try:
            send(self._process.stdin.fileno(), request)
        except Closed:
            return False
        return True

    def _answer(self, more_s: float = 0.0) -> Answer | None:
        """The next answer, or ``None`` if the process died or hangs. Raises ``Stopped`` and what it refused."""
        pid = self._process.pid
        waits = cpu_waits(pid)
        deadline = time.monotonic() + self.hang_s + more_s

        def give_up() -> bool:
            over = time.monotonic() - deadline
            return self.stopped() or (over > 0 and over > starved_s(waits, cpu_waits(pid)))

        try:
            answer = self._reader.wait(POLL_S, give_up)
        except Closed:
            # It is dying; a core dump may take a while.
            self._wait_for_end(DYING_S)
            return None
        if answer is None and self.stopped():
            self.close()
            raise Stopped("stopped")
        if isinstance(answer, Refused):
            raise _ERRORS.get(ExitCode(answer.exit_code), UsageError)(answer.error)
        return answer

    def _death(self, example: FuzzExample) -> Failure:
        """What became of the process, as a failure of the example that it was running."""
        process = self._process
        hung = not self._wait_for_end(0.1)
        self.close()
        self.restarts += 1
        if hung:
            what = "an operation never ends"
            return Failure(Signature(PROGRESS, 0, "", what), f"{PROGRESS}: {what}: no answer in {self.hang_s:g} s", example)
        if process.returncode >= 0:
            raise PtstressError(f"the executor failed: {self._last_words() or f'exit status {process.returncode}'}")
        name = signal.Signals(-process.returncode).name
        return Failure(Signature(CRASH, 0, "", name), f"{CRASH}: the process was killed by {name}", example)

    def _wait_for_end(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def _start(self) -> None:
        self._errors = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ptstress.fuzz_executor", str(os.getpid())],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0, env=child_environment(),
            )
        except OSError as error:
            raise ResourceError(f"an executor process is needed: {error.strerror}") from None
        self._reader = Reader(self._process.stdout.fileno(), Answer)
