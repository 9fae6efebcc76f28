"""The verb ``fuzz``: starts workers, adds up what they say, keeps what they find, and ends in time.

Every process dies with the one that started it. A worker that dies is replaced; an executor that dies is a
finding of its worker. The first Ctrl-C stops everything within a second, and the campaign still reports.
"""

import os
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from ptstress.bugs import find_bugs
from ptstress.driver import Stopper, child_environment
from ptstress.engine import load_engine
from ptstress.errors import ExitCode, PtstressError, ResourceError, UnsupportedError, UsageError
from ptstress.fuzz_campaign import GEOMETRIES
from ptstress.fuzz_example import EXAMPLE, spell
from ptstress.fuzz_profiles import Profile
from ptstress.fuzz_report import fuzz_files, fuzz_screen, fuzz_status
from ptstress.fuzz_store import FOLDER, Store
from ptstress.fuzz_summary import Coverage, FuzzFailure, FuzzSummary, Kept, Tally, verdict_of
from ptstress.fuzz_wire import Again, Assignment, Closed, Done, Found, FromWorker, Known, Progress, Reader, Stop, send
from ptstress.results import ResultsFolder
from ptstress.schemes import SCHEMES, find_scheme, unmodelled
from ptstress.units import format_geometry

POLL_S = 0.1
STOP_GRACE_S = 0.7
#: Beyond the duration: shrinking what was found last.
END_GRACE_S = 20.0
STATUS_S = 5.0
MOST_LOST = 10


@dataclass(frozen=True)
class FuzzRequest:
    """The command line of ``fuzz``. ``geometry``: ``None`` for several; ``knobs``: in place of drawn ones.

    ``executions``: under each scheme; so many are enough, and fewer are no pass. 0: the time alone counts.
    ``until``: asked what was seen so far; a true answer ends the campaign before its time is over.
    """

    workers: int
    seconds: float
    seed: int
    profile: Profile
    results: Path
    schemes: tuple[str, ...] = ()
    executions: int = 0
    geometry: tuple[int, ...] | None = None
    bugs: tuple[str, ...] = ()
    database: Path | None = None
    knobs: dict[str, int | str] = field(default_factory=dict)
    hang_s: float = 10.0
    command: str = ""
    until: Callable[[Tally], bool] = lambda tally: False

    @property
    def scheme_names(self) -> list[str]:
        """Those that are run: the ones that were asked for, or all of ours."""
        return list(self.schemes) or [scheme.name for scheme in SCHEMES]

    def missing(self, tally: Tally) -> list[str]:
        """Schemes that have not had their executions."""
        return [s.name for s in tally.by_scheme(self.scheme_names) if s.executions < self.executions]


def fuzz(request: FuzzRequest, tell: Callable[[str], None]) -> FuzzSummary:
    """Run the campaign. ``tell`` gets status lines. Raises ``PtstressError`` if it cannot run."""
    find_bugs(request.bugs)
    for name in request.schemes:
        find_scheme(name)
    load_engine("sched")
    load_engine("stress")
    database = request.database or request.results / FOLDER
    Store(database)
    folder = ResultsFolder(request.results)
    folder.write_testid(request.command or "ptstress fuzz", request.seed, load_engine("sched").flags())
    coordinator = _Coordinator(request, database, tell)
    with Stopper() as stopper:
        coordinator.run(stopper)
    if coordinator.error and not coordinator.tally.failures:
        raise coordinator.error
    summary = _summary(request, coordinator, folder, database)
    folder.write_summary(summary)
    return summary


def fuzz_lines(summary: FuzzSummary) -> list[str]:
    """The last screen."""
    return fuzz_screen(summary)


class _Hand:
    """A worker process."""

    def __init__(self, number: int, assignment: Assignment) -> None:
        self.number = number
        self.done = False
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ptstress.fuzz_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                bufsize=0, env=child_environment(),
            )
        except OSError as error:
            raise ResourceError(f"a worker process is needed: {error.strerror}") from None
        self.reader = Reader(self.process.stdout.fileno(), FromWorker)
        self.tell(assignment)

    def tell(self, message: Assignment | Known | Stop) -> None:
        """Say something, if it still listens."""
        try:
            send(self.process.stdin.fileno(), message)
        except Closed:
            pass

    def end(self) -> None:
        """See to it that it is gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class _Coordinator:
    def __init__(self, request: FuzzRequest, database: Path, tell: Callable[[str], None]) -> None:
        self.request = request
        self.database = database
        self.tell = tell
        self.tally = Tally(request.workers)
        self.begin = time.monotonic()
        self.hands: list[_Hand] = []
        self.lost = 0
        self.error: PtstressError | None = None
        self.stop_reason = "duration"
        self.duration_s = 0.0

    def run(self, stopper: Stopper) -> None:
        """Until all workers are done."""
        try:
            self.hands = [_Hand(number, self._assignment(number)) for number in range(self.request.workers)]
            self._watch(stopper)
        finally:
            for hand in self.hands:
                hand.end()
        self.duration_s = time.monotonic() - self.begin

    def _watch(self, stopper: Stopper) -> None:
        stop_at, next_status = 0.0, self.begin + STATUS_S
        while busy := [hand for hand in self.hands if not hand.done]:
            ready = select.select([hand.reader.fd for hand in busy], [], [], POLL_S)[0]
            for hand in busy:
                if hand.reader.fd in ready:
                    self._listen(hand)
            now = time.monotonic()
            if not stop_at and (reason := self._why_stop(stopper, now)):
                stop_at, self.stop_reason = now, reason
                self._tell_all(Stop())
            if stop_at and now - stop_at > STOP_GRACE_S:
                return
            if now >= next_status:
                next_status = now + STATUS_S
                self.tell(fuzz_status(self.tally, now - self.begin))

    def _why_stop(self, stopper: Stopper, now: float) -> str:
        """Why the workers must be told to end; empty while they need not."""
        if stopper.requests:
            return "stopped"
        if self.request.until(self.tally) or (self.request.executions and not self.request.missing(self.tally)):
            return "enough"
        late = now - self.begin > self.request.seconds + END_GRACE_S + self.request.hang_s
        return self.stop_reason if late else ""

    def _listen(self, hand: _Hand) -> None:
        try:
            hand.reader.fill(0)
        except Closed:
            self._replace(hand)
            return
        while (message := hand.reader.next()) is not None:
            if isinstance(message, Progress):
                self.tally.progress(hand.number, message)
            elif isinstance(message, Found):
                if self.tally.found(message):
                    self.tell(f"fuzz  found: {message.failure.signature}")
                    self._tell_all(Known(message.raw), but=hand)
            elif isinstance(message, Again):
                self.tally.again(message)
            elif isinstance(message, Done):
                hand.done = True
                if message.error:
                    self._fail(message)

    def _replace(self, hand: _Hand) -> None:
        """A worker died without a word."""
        hand.end()
        self.lost += 1
        self.tally.workers[hand.number].lost += 1
        left = self.begin + self.request.seconds - time.monotonic()
        if self.lost > MOST_LOST:
            raise PtstressError(f"{self.lost} workers died; the last one with status {hand.process.returncode}")
        if left <= 0:
            hand.done = True
            return
        again = structs.replace(self._assignment(hand.number), seed=self.request.seed + self.lost, seconds=left)
        self.hands[self.hands.index(hand)] = _Hand(hand.number, again)

    def _fail(self, message: Done) -> None:
        kinds = {ExitCode.RESOURCE: ResourceError, ExitCode.UNSUPPORTED: UnsupportedError}
        self.error = self.error or kinds.get(ExitCode(message.exit_code), UsageError)(message.error)
        self._tell_all(Stop())

    def _tell_all(self, message: Known | Stop, but: _Hand | None = None) -> None:
        for hand in self.hands:
            if hand is not but and not hand.done:
                hand.tell(message)

    def _assignment(self, number: int) -> Assignment:
        r = self.request
        return Assignment(
            parent=os.getpid(), seed=r.seed, share=number, shares=r.workers, schemes=list(r.schemes),
            geometries=[r.geometry] if r.geometry else [], bugs=list(r.bugs), knobs=r.knobs, seconds=r.seconds,
            schedules=r.profile.schedules, rounds=r.profile.rounds, race_every=r.profile.race_every,
            shrink_s=r.profile.shrink_s, hang_s=r.hang_s, database=str(self.database),
        )


def _summary(request: FuzzRequest, coordinator: _Coordinator, folder: ResultsFolder, database: Path) -> FuzzSummary:
    tally, seconds = coordinator.tally, coordinator.duration_s
    failures = [_keep(folder, kept, number) for number, kept in enumerate(tally.distinct_failures(), start=1)]
    met = tally.met(seconds)
    missing = request.missing(tally)
    verdict, code = verdict_of(len(failures), met.total, len(request.bugs), len(missing))
    few = f"fewer than the {request.executions:,} executions that were asked for: {', '.join(missing)}" if missing else ""
    geometries = [request.geometry] if request.geometry else list(dict.fromkeys(GEOMETRIES))
    executions = sum(w.executions for w in tally.workers)
    operations = sum(w.operations for w in tally.workers)
    return FuzzSummary(
        verdict=verdict, exit_code=code, schemes=request.scheme_names,
        geometries=[format_geometry(g) for g in geometries], bugs=list(request.bugs), profile=request.profile.name,
        seed=request.seed, duration_s=round(seconds, 3), workers=tally.workers,
        programs=sum(w.programs for w in tally.workers), distinct=tally.distinct, executions=executions,
        executions_per_second=round(executions / seconds, 1), operations=operations,
        operations_per_second=round(operations / seconds, 1), points=tally.points, unknown=tally.unknown,
        coverage=Coverage(len(tally.pairs), tally.growth(seconds)), overlaps=met, failures=failures,
        stop_reason=coordinator.stop_reason, results=str(folder.path), database=str(database),
        by_scheme=tally.by_scheme(request.scheme_names),
        notes=[note for note in [few, unmodelled(request.schemes)] if note],
    )


def _keep(folder: ResultsFolder, kept: Kept, number: int) -> FuzzFailure:
    """Write a failure's folder."""
    failure, title = kept.failure, f"{kept.failure.signature.oracle}-{number}"
    path = folder.path / f"failure-{title}"
    again = f"ptstress replay '{failure.replay}'" if failure.replay else f"ptstress again {shlex.quote(str(path))}"
    files = fuzz_files(failure, again, kept.count) | {EXAMPLE: spell(failure.example) + b"\n"}
    written = folder.write_failure(title, files)
    return FuzzFailure(
        failure.name, failure.signature.oracle, again, str(written), failure.example.program.text(),
        failure.example.scheme, failure.detail.partition(": ")[2], kept.count, failure.repeats,
    )
