"""Runs a job in a child process: execs it, waits interruptibly, samples its counters, and outlives it.

Counters, reports and rings lie in a memory file that both map, so a crash of the child loses nothing
that was recorded. The first SIGINT or SIGTERM asks for a clean end; the second kills the child.
"""

import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, MappingProxyType, TracebackType
from typing import Self

import msgspec
import numpy as np
from msgspec import structs

from ptstress.burst_state import BurstState, read_state
from ptstress.errors import ExitCode, PtstressError, ResourceError, UnsupportedError, UsageError
from ptstress.job import ChildResult, Job
from ptstress.hang import describe_hang
from ptstress.layout import Counter, Phase, SharedView, shared_bytes
from ptstress.memory import resident_kb
from ptstress.vocabulary import Verb

POLL_S = 0.02
# A child that was asked to stop checks its last burst, then gives that up, then is killed: a Ctrl-C is answered within a second.
CHECK_GRACE_S = 0.35
STOP_GRACE_S = 0.7
# A child that made a report ends at once; one that then stands still is taken to be deadlocked.
REPORT_GRACE_S = 5.0
HANG_S = 30.0
LAST_OPERATIONS = 8
_ERRORS = MappingProxyType({ExitCode.RESOURCE: ResourceError, ExitCode.UNSUPPORTED: UnsupportedError})


class Stopper:
    """Turns SIGINT and SIGTERM into a request to end. ``with`` installs and restores the handlers."""

    def __init__(self) -> None:
        self.requests = 0
        self.signal_name = ""
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.requests += 1
        self.signal_name = signal.Signals(number).name


@dataclass(frozen=True)
class Sample:
    """What a run looks like now. ``ops`` so far; ``age_s`` since its start; ``debt``: tables that are unlinked and not free;
    ``rss_kb``: of the child, 0 if unknown.
    """

    age_s: float
    phase: Phase
    burst: int
    ops: int
    faults: int
    table_bytes: int
    grace_periods: int
    stall_ms: int
    stall_cpu: int
    stall_verb: str
    reports: int
    debt: int = 0
    rss_kb: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a job ended: ``done`` (the child says how), ``crashed``, ``hung``, ``killed`` (by the second
    signal, or because it did not stop in time) or ``skipped``; ``running`` if it did not end yet. ``state``: what
    the burst in the rings began with.
    """

    kind: str
    wall_s: float
    view: SharedView
    result: ChildResult | None = None
    signal_name: str = ""
    message: str = ""
    last_operations: tuple[tuple[str, ...], ...] = ()
    reports: tuple[dict[str, int | str], ...] = field(default=())
    state: BurstState | None = None


def run_job(
    job: Job,
    stopper: Stopper,
    on_sample: Callable[[Sample], None] | None = None,
    interval_s: float = 5.0,
    hang_s: float = HANG_S,
    on_report: Callable[[Outcome], None] | None = None,
) -> Outcome:
    """Run ``job`` to its end. Raises ``PtstressError`` if it cannot be run: memory, build, configuration.

    ``on_report`` is called once, as soon as the child has made a report, with an outcome of kind ``running``.
    """
    size = shared_bytes(job.workers, job.ring_events)
    fd = _memory_file("ptstress-shared", size)
    try:
        memory = mmap.mmap(fd, size)
        view = SharedView(memory, job.workers, job.ring_events)
        return _Child(job, fd, view, on_report).wait(stopper, on_sample, interval_s, hang_s)
    finally:
        os.close(fd)


def no_outcome(job: Job) -> Outcome:
    """The outcome of a job that was never started because the user had stopped the run."""
    memory = bytearray(shared_bytes(job.workers, job.ring_events))
    return Outcome("skipped", 0.0, SharedView(memory, job.workers, job.ring_events))


def take_sample(view: SharedView, age_s: float, rss_kb: int = 0) -> Sample:
    """The run as its counters show it. ``stall_*``: the reader that held up a grace period for longest."""
    stalls = view.counters[:, Counter.RCU_STALL_NS]
    seen_by = int(stalls.argmax())
    return Sample(
        age_s=age_s,
        phase=view.phase,
        burst=view.field("burst"),
        ops=sum(view.ops_by_verb().values()),
        faults=view.total(Counter.FAULTS),
        table_bytes=view.field("table_bytes"),
        grace_periods=view.total(Counter.GRACE_PERIODS),
        stall_ms=int(stalls[seen_by]) // 1_000_000,
        stall_cpu=int(view.counters[seen_by, Counter.RCU_STALL_CPU]),
        stall_verb=Verb(int(view.counters[seen_by, Counter.RCU_STALL_SITE])).label,
        reports=view.field("nr_reports"),
        debt=view.field("tables_unlinked"),
        rss_kb=rss_kb,
    )


class _Child:
    def __init__(self, job: Job, fd: int, view: SharedView, on_report: Callable[[Outcome], None] | None) -> None:
        self.view = view
        self.on_report = on_report
        self.begin = time.monotonic()
        self.worker_ops = view.worker_ops()
        self.worker_moved_at = [self.begin] * view.workers
        self.stdout = _memory_file("ptstress-stdout", 0)
        self.state = _memory_file("ptstress-state", 0)
        self.stderr = _memory_file("ptstress-stderr", 0)
        stdin = _memory_file("ptstress-job", 0)
        os.write(stdin, msgspec.json.encode(structs.replace(job, parent=os.getpid())))
        os.lseek(stdin, 0, os.SEEK_SET)
        try:
            self.process = subprocess.Popen(
                # -P: the package that runs here, not one that lies in the current folder.
                [sys.executable, "-P", "-m", "ptstress.child", str(fd), str(self.state)],
                stdin=stdin, stdout=self.stdout, stderr=self.stderr, pass_fds=(fd, self.state), env=child_environment(),
            )
        except OSError as error:
            raise ResourceError(f"a child process is needed: {error.strerror}") from None
        finally:
            os.close(stdin)

    def wait(
        self, stopper: Stopper, on_sample: Callable[[Sample], None] | None, interval_s: float, hang_s: float
    ) -> Outcome:
        """Until the child has ended, by itself or by force."""
        try:
            forced = self._watch(stopper, on_sample, interval_s, hang_s)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
        try:
            return self._outcome(forced)
        finally:
            os.close(self.stdout)
            os.close(self.stderr)
            os.close(self.state)

    def _watch(
        self, stopper: Stopper, on_sample: Callable[[Sample], None] | None, interval_s: float, hang_s: float
    ) -> str:
        """Returns ``hung`` or ``killed`` if the child must be killed, else an empty text."""
        last_progress, moved_at, stop_at = self.view.progress(), self.begin, 0.0
        next_sample, reported = self.begin + interval_s, False
        while True:
            try:
                self.process.wait(POLL_S)
                return ""
            except subprocess.TimeoutExpired:
                now = time.monotonic()
            if stopper.requests and not stop_at:
                stop_at = now
                self.view.request_stop()
            if stop_at and now - stop_at > CHECK_GRACE_S:
                self.view.request_stop(at_once=True)
            if stopper.requests > 1 or (stop_at and now - stop_at > STOP_GRACE_S):
                return "killed"
            progress = self.view.progress()
            if progress != last_progress:
                last_progress, moved_at = progress, now
                self._note_moves(now)
            elif now - moved_at > (min(hang_s, REPORT_GRACE_S) if reported else hang_s):
                return "hung"
            if not reported and self.view.field("nr_reports"):
                reported = True
                if self.on_report:
                    self.on_report(self._so_far("running"))
            if on_sample and now >= next_sample:
                next_sample = now + interval_s
                on_sample(take_sample(self.view, now - self.begin, resident_kb(pid=self.process.pid)))

    def _note_moves(self, now: float) -> None:
        """Remember when each worker ended an operation last: a hang shows how long it stands."""
        ops = self.view.worker_ops()
        for worker, (n, before) in enumerate(zip(ops, self.worker_ops, strict=True)):
            if n != before:
                self.worker_moved_at[worker] = now
        self.worker_ops = ops

    def _so_far(self, kind: str, **fields: object) -> Outcome:
        """The outcome with what the shared memory holds."""
        state = read_state(self.state)
        return Outcome(
            kind, time.monotonic() - self.begin, self.view,
            state=state if state and state.burst == self.view.field("burst") else None,
            reports=tuple(self.view.reports()),
            last_operations=tuple(
                tuple(self.view.last_operations(w, LAST_OPERATIONS)) for w in range(self.view.workers)
            ),
            **fields,
        )

    def _hang(self) -> str:
        now = time.monotonic()
        return "; ".join(describe_hang(self.view, [now - moved for moved in self.worker_moved_at]))

    def _outcome(self, forced: str) -> Outcome:
        code = self.process.returncode
        output, errors = _read_all(self.stdout), _read_all(self.stderr)
        result = _decode(output) if not forced else None
        if forced:
            return self._so_far(forced, message=self._hang())
        if result is not None and result.reason == "error":
            raise _ERRORS.get(result.exit_code, UsageError)(result.error)
        if result is not None:
            return self._so_far("done", result=result, message=self._hang() if result.stuck else "")
        if code < 0:
            return self._so_far("crashed", signal_name=signal.Signals(-code).name, message=errors.strip())
        last_line = (errors.strip().splitlines() or [f"exit status {code}"])[-1]
        raise PtstressError(f"the child failed: {last_line}")


def _memory_file(name: str, size: int) -> int:
    try:
        fd = os.memfd_create(name)
        os.ftruncate(fd, size)
    except OSError as error:
        raise ResourceError(f"a memory file of {size >> 20} MiB is needed: {error.strerror}") from None
    return fd


def child_environment() -> dict[str, str]:
    """Of a child that is to import the package that runs here. numpy's threads would spin beside the racing ones."""
    package_parent = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, (package_parent, os.environ.get("PYTHONPATH"))))
    return {"OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path}


def _read_all(fd: int) -> str:
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0).decode("utf-8", "replace")


def _decode(output: str) -> ChildResult | None:
    lines = output.strip().splitlines()
    if not lines:
        return None
    try:
        return msgspec.json.decode(lines[-1], type=ChildResult)
    except msgspec.DecodeError:
        return None


def overlap_matrix(result: ChildResult | None) -> np.ndarray:
    """Meetings of two operations on one table, by verb and verb; zeros if the child could not tell."""
    if result is None or not result.overlaps:
        return np.zeros((0, 0), dtype=np.uint64)
    return np.array(result.overlaps, dtype=np.uint64)
