"""``python -m ptstress.child FD STATE``: runs one job on an engine, in a process of its own.

Reads the job as JSON from stdin, shares counters, reports and rings through the memory file FD and what a burst
began with through STATE, and writes its result as one line of JSON. It dies with its parent and leaves signals to it.
"""

import ctypes
import faulthandler
import gc
import mmap
import os
import signal
import sys
import time
from collections import deque
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np

from ptstress import __version__
from ptstress.burst_state import BurstState, write_state
from ptstress.engine import load_engine
from ptstress.errors import ExitCode, PtstressError
from ptstress.hang import Standstill
from ptstress.history import History, write_history
from ptstress.job import ChildResult, Job
from ptstress.layout import Counter, SharedView, shared_bytes
from ptstress.operation import Op, munmap, op_array
from ptstress.memory import resident_kb
from ptstress.meter import Meter
from ptstress.plan import operations_in, trace_streams
from ptstress.units import pages_of
from ptstress.vocabulary import Verb

PR_SET_PDEATHSIG = 1
ENOMEM = 12
MIN_BURST_MS = 5
CHECK_MS = 250
TRACE_STALL_S = 15.0


def main() -> int:
    """Run the job on stdin; the exit status is 0 if a result was written."""
    faulthandler.enable()
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    die_with_parent(job.parent)
    # The parent ends a run through the stop flag; a Ctrl-C reaches the whole foreground group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    result = _guarded(job, int(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    sys.stdout.buffer.flush()
    if result.reason == "stuck":
        # Workers still run inside the engine: its destructors would wait for them.
        os._exit(0)
    return 0


def begin_contained(parent: int) -> None:
    """What a process does first that another one watches and ends: it dies with it, and leaves signals to it."""
    faulthandler.enable()
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; end at once if it did. ``parent``: its pid."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if parent and os.getppid() != parent:
        os._exit(1)


def _guarded(job: Job, fd: int, state_fd: int) -> ChildResult:
    try:
        memory = mmap.mmap(fd, shared_bytes(job.workers, job.ring_events))
        engine = load_engine(job.build)
        return _Run(job, engine, memory, state_fd).run()
    except PtstressError as error:
        return ChildResult("error", error=str(error), exit_code=error.exit_code)
    except MemoryError as error:
        return ChildResult("error", error=f"engine: {error or 'out of memory'}", exit_code=ExitCode.RESOURCE)
    except ValueError as error:
        return ChildResult("error", error=f"engine: {error}", exit_code=ExitCode.USAGE)


class _Run:
    def __init__(self, job: Job, engine: ModuleType, memory: mmap.mmap, state_fd: int) -> None:
        expected = engine.shared_bytes(job.workers, job.ring_events)
        if expected != len(memory):
            raise ValueError(f"build {job.build} shares {expected} bytes, the parent {len(memory)}: rebuild")
        self.job = job
        self.engine = engine
        self.view = SharedView(memory, job.workers, job.ring_events)
        config = {**job.config, "geometry": tuple(job.config["geometry"]), "measure": job.measure}
        self.machine = engine.Machine(config, memory)
        self.trace = trace_streams(job.trace, job.trace_workers) if job.trace else []
        self.race_ns = self.check_ns = self.bursts = self.replays = self.raced = self.checked = 0
        self.burst_ms = job.burst_ms
        self.stuck: list[int] = []
        self.trace_moves = Standstill(TRACE_STALL_S)
        self.table_bytes_start = 0
        self.meter = Meter(engine, job.duration_s) if job.measure else None
        self.state_fd = state_fd
        self.recorded: deque[tuple[BurstState, list[np.ndarray]]] = deque(maxlen=job.history_bursts)

    def run(self) -> ChildResult:
        """The whole job. May raise what the engine raises for a bad configuration."""
        begin = time.monotonic()
        reason = self._race(begin + self.job.duration_s)
        if reason != "stuck":
            if self.recorded:
                self._write_history()
            self.machine.stop()
            # A clean end shows what stays when all is given back; a broken mm is left as found.
            if reason in ("duration", "finished"):
                write_state(self.state_fd, None)
                self._serial(self.job.closing)
            if reason != "violation":
                self.machine.check()
            if self.view.field("nr_reports"):
                reason = "violation"
        return ChildResult(
            reason=reason,
            wall_s=time.monotonic() - begin,
            race_ns=self.race_ns,
            check_ns=self.check_ns,
            bursts=self.bursts,
            replays=self.replays,
            raced=self.raced,
            checked=self.checked,
            stuck=self.stuck,
            overlaps=np.asarray(self.machine.overlaps()).astype(np.uint64).tolist(),
            table_bytes_start=self.table_bytes_start,
            table_bytes_end=self.machine.table_bytes,
            flags=dict(self.engine.flags()),
            rss_kb=resident_kb("VmHWM"),
            measured=self.meter.measured(self.machine.latencies()) if self.meter and reason != "stuck" else None,
        )

    def _race(self, deadline: float) -> str:
        """Bursts until something ends the run. Returns the reason."""
        self._begin()
        gc.freeze()
        while True:
            left_ms = int((deadline - time.monotonic()) * 1000)
            before = self._progress()
            state = BurstState(self.view.field("burst") + 1, *self.machine.state())
            write_state(self.state_fd, state)
            burst = self.machine.burst(max(MIN_BURST_MS, min(self.burst_ms, left_ms)))
            self._account(burst, before)
            if self.stuck:
                return "stuck"
            if self.job.history:
                self.recorded.append((state, list(self.view.history().values())))
            if self.view.field("nr_reports"):
                write_state(self.state_fd, replace(state, final=self.machine.state()[1]))
                return "violation"
            if self.view.field("stop"):
                return "stopped"
            over = time.monotonic() >= deadline
            if self._trace_is_stuck():
                return "stuck"
            if self.trace and not self._behind():
                self.replays += 1
                if over:
                    return "finished"
                self.machine.stop()
                self._serial([munmap(0, pages_of(self.machine.config["geometry"]))])
                self._begin()
            # A replay that has begun goes on to its end: half of one says nothing about tables.
            elif over and not self.trace:
                return "duration"

    def _behind(self) -> list[int]:
        """Workers that have not done their whole part of the trace; the others beside them never end."""
        done = self.view.counters[: len(self.trace), Counter.STREAM_DONE]
        return [w for w, (n, ops) in enumerate(zip(done, self.trace, strict=True)) if n < operations_in(ops)]

    def _trace_is_stuck(self) -> bool:
        """The workers beside a trace go on although the trace itself does not."""
        done = int(self.view.counters[: len(self.trace), Counter.STREAM_DONE].sum())
        if self.trace and self.trace_moves.lasts(done, time.monotonic()):
            self.stuck = self._behind()
        return bool(self.stuck)

    def _write_history(self) -> None:
        """The last bursts as one history: what lies between two of them changed nothing, or they are not shown together."""
        while len(self.recorded) > 1 and self.replays:
            self.recorded.popleft()         # a trace that begins again unmaps everything in between
        geometry = tuple(self.machine.config["geometry"])
        rings = [np.concatenate(ring) for ring in zip(*(rings for _, rings in self.recorded), strict=True)]
        first = self.recorded[0][0]
        write_history(Path(self.job.history), History(
            tuple(rings), first.maps, first.pages, self.machine.state()[1], pages_of(geometry), geometry,
            f"ptstress {__version__}, build {self.job.build}, seed {self.job.seed}, "
            f"bursts {first.burst} to {self.view.field('burst')}"))

    def _begin(self) -> None:
        self._serial(self.job.setup)
        # What was done so far is no part of the first burst.
        self.machine.check()
        self.table_bytes_start = self.machine.table_bytes
        if not self.bursts:
            self.view.counters[:, Counter.TABLE_BYTES_PEAK] = 0         # the setup's, which is no part of the race
        if self.meter:
            self.meter.start(self.table_bytes_start)
        mixes = [mix.stream() for mix in self.job.mixes]
        self.machine.start([("ops", ops) for ops in self.trace] + mixes)

    def _serial(self, ops: list[Op]) -> None:
        """One after the other. A scan goes on until it finds nothing that it has to look at."""
        for scans, group in groupby(ops, lambda op: op.verb is Verb.SCAN):
            some = list(group)
            if scans:
                while self._looked_at(some[0]):
                    pass
                continue
            found, _ = self.machine.replay_serial(op_array(some))
            for op, status in zip(some, found.tolist(), strict=True):
                if status == -ENOMEM and op.verb not in (Verb.DONTNEED, Verb.FREE):
                    raise MemoryError(f"{op} found no memory: give the arena more")
                if status not in (0, -ENOMEM):
                    raise ValueError(f"{op} failed with {status}")

    def _looked_at(self, scan: Op) -> int:
        """Scan once. Returns how many pages it looked at."""
        events, _ = self.machine.serial(op_array([scan]))
        return int(events["end"][0] - events["start"][0])

    def _progress(self) -> tuple[int, int]:
        """Operations done, and operations that the data oracle has judged, so far."""
        return sum(self.view.ops_by_verb().values()), self.machine.checked()[0]

    def _account(self, burst: dict, before: tuple[int, int]) -> None:
        ops, checked = (now - then for now, then in zip(self._progress(), before, strict=True))
        self.raced += ops
        # A stop waits for the check of a burst: keep that short, whatever it costs on this machine.
        check_ms = max(1, burst["check_ns"] // 1_000_000)
        fitting = self.burst_ms * CHECK_MS // check_ms
        self.burst_ms = max(MIN_BURST_MS, min(self.job.burst_ms, 2 * self.burst_ms, fitting))
        self.checked += checked
        self.race_ns += int(burst["race_ns"])
        self.check_ns += int(burst["check_ns"])
        self.bursts += 1
        if self.meter:
            self.meter.after_burst(int(burst["race_ns"]), burst["table_bytes"])
        self.stuck = [int(w) for w in burst["stuck"]]


if __name__ == "__main__":
    sys.exit(main())
