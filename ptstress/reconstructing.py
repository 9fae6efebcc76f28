"""Looks for a schedule of a violation that threads showed, beside them or after them; see ``reconstruct``.

The search runs in a process of its own, bounded in time, and is given up as soon as somebody asks to stop.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import msgspec

from ptstress.driver import Outcome, child_environment
from ptstress.errors import ResourceError
from ptstress.history import encode_history
from ptstress.failures import history_of
from ptstress.flight import read_flight
from ptstress.plan import StagePlan
from ptstress.reconstruct import SHRINK_S, Answer, Request
from ptstress.recorded_order import Acquisition
from ptstress.results import Reconstruction
from ptstress.verdict import oracle_of

SECONDS = 20.0
#: Signals that a process sends itself when it is broken; by others it is killed.
_BROKEN = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE")
POLL_S = 0.05
#: A search that goes on for so long after its time hangs.
GRACE_S = 5.0


def is_of_the_engine(outcome: Outcome) -> bool:
    """Whether what happened may come of the engine: a child that somebody killed did not."""
    return outcome.kind != "crashed" or bool(outcome.reports) or outcome.signal_name in _BROKEN


def request_of(plan: StagePlan, outcome: Outcome, seconds: float | None, executions: int | None = None) -> Request:
    """What to look for: the first violation, or where the workers stood."""
    if outcome.reports:
        report = dict(outcome.reports[0])
    else:
        busy = [w for w in range(outcome.view.workers) if outcome.last_operations[w] and _in_flight(outcome.last_operations[w])]
        report = {"oracle": oracle_of(outcome), "cpu": busy[0] if busy else 0, "verb": "", "addr": 0, "a": 0, "b": 0, "stamp": 0}
    locks = [Acquisition(e.worker, e.seq, e.stamp) for e in read_flight(outcome.view).entries if e.kind == "lock"]
    history = encode_history(history_of(plan, outcome))
    return Request(plan.job, plan.scheme.name, report, history, seconds, executions, locks)


def look_for_schedule(request: Request, stopped: Callable[[], bool], tick: Callable[[], None] = lambda: None) -> Answer:
    """The schedule, or how much was tried. ``tick`` is called all the time while it goes on."""
    begin = time.monotonic()
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(msgspec.msgpack.encode(request))
        stdin.seek(0)
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ptstress.reconstruct", str(os.getpid())],
                stdin=stdin, stdout=stdout, stderr=stderr, env=child_environment(),
            )
        except OSError as error:
            raise ResourceError(f"a process to look for a schedule is needed: {error.strerror}") from None
        limit = None if request.seconds is None else begin + request.seconds + SHRINK_S + GRACE_S
        note = _wait(process, limit, stopped, tick)
        stdout.seek(0)
        stderr.seek(0)
        answer = _decode(stdout.read()) if not note and process.returncode == 0 else None
        if answer:
            return answer
        if not note and process.returncode < 0:
            note = f"the search was killed by {signal.Signals(-process.returncode).name}"
        lines = stderr.read().decode("utf-8", "replace").strip().splitlines() or [f"exit status {process.returncode}"]
        note = note or f"the search failed: {lines[-1]}"
        return Answer(Reconstruction(seconds=round(time.monotonic() - begin, 3), note=note), {})


def _wait(
    process: subprocess.Popen, limit: float | None, stopped: Callable[[], bool], tick: Callable[[], None]
) -> str:
    """Until it has ended; returns why it was ended, if it was."""
    try:
        while True:
            try:
                process.wait(POLL_S)
                return ""
            except subprocess.TimeoutExpired:
                tick()
            if stopped():
                return "stopped"
            if limit is not None and time.monotonic() > limit:
                return "the search hung"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _in_flight(operations: tuple[str, ...]) -> bool:
    return operations[-1].endswith("in flight")


def _decode(output: bytes) -> Answer | None:
    try:
        return msgspec.msgpack.decode(output, type=Answer)
    except msgspec.DecodeError:
        return None
