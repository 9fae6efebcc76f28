"""The verb ``bugs``: how fast each planted bug is found under each policy, and whether the clean engine is silent meanwhile.

*Directed*, a bug is looked for in its own program; *undirected*, in generated ones, knowing nothing of the bug but its scheme.
Each bug x mode x policy is one job for one of the workers, which are processes: one that crashes or hangs costs what it was at.
When all jobs of a scenario are done, it is known for how long the clean engine has to be silent there, and that is a job too.
"""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from msgspec import structs

from ptstress.bug import Bug
from ptstress.driver import Stopper, child_environment
from ptstress.engine import load_engine
from ptstress.errors import ExitCode, PtstressError, ResourceError, UnsupportedError, UsageError
from ptstress.exploring import ExploreFailure
from ptstress.failure_folder import failure_files
from ptstress.fuzz_wire import Closed, Reader, send
from ptstress.hunt_report import hunt_lines, hunt_status, long_table
from ptstress.hunt_summary import HuntSummary, Row, Silent, asked_for, reasons_of, total, verdict_of
from ptstress.hunt_wire import DIRECTED, Answer, Attempt, Clean, Hunt, Job, Over, Repeated, Scenario, Silence
from ptstress.results import ResultsFolder

REPLAYS = 10
POLL_S = 0.1
STATUS_S = 5.0
#: A worker that needs so much longer than its job may take hangs.
HANG_S = 60.0
#: So many that die one after the other, and none that says anything: it is not the bugs.
MOST_LOST = 12
_ERRORS = {ExitCode.RESOURCE: ResourceError, ExitCode.UNSUPPORTED: UnsupportedError}


@dataclass(frozen=True)
class HuntRequest:
    """The command line of ``bugs``.

    ``executions``: from each seed at most, ``None`` for any number; ``seconds``: of each bug in a mode under a policy, all seeds
    together, and of each scenario without bugs.
    """

    bugs: tuple[Bug, ...]
    policies: tuple[str, ...]
    modes: tuple[str, ...]
    seeds: int
    seed: int
    executions: int | None
    seconds: float
    workers: int
    results: Path
    command: str = "ptstress bugs"

    @property
    def all_seeds(self) -> list[int]:
        """From the first one on."""
        return list(range(self.seed, self.seed + self.seeds))


def hunt(request: HuntRequest, tell: Callable[[str], None]) -> HuntSummary:
    """Hunt all bugs; a report also when it is stopped. ``tell`` gets status lines. Raises ``PtstressError``."""
    load_engine("sched")
    folder = ResultsFolder(request.results)
    folder.write_testid(request.command, request.seed, load_engine("sched").flags())
    campaign = _Campaign(request, tell)
    with Stopper() as stopper:
        campaign.run(stopper)
    summary = campaign.summary(str(folder.path))
    folder.write_text("bugs.txt", "\n".join([*hunt_lines(summary), "", *long_table(summary)]) + "\n")
    folder.write_summary(summary)
    for silent in summary.clean:
        if silent.failure:
            keep_clean_failure(folder, silent.scenario, silent.failure)
    return summary


def keep_clean_failure(folder: ResultsFolder, scenario: Scenario, failure: ExploreFailure) -> None:
    """A folder for what the engine without bugs did. It runs once more here, so all else should be written by now."""
    about = f"found {scenario.mode} by bugs, policy {scenario.policy}, without a bug, at execution {failure.executions_to_first}"
    told, files = failure_files(failure.replay, [about])
    folder.write_failure(told.oracle, files)


@dataclass
class _Hand:
    """A worker process, its job, and what it has said of it: of a hunt, how many seeds, and whether one was to be repeated."""

    process: subprocess.Popen
    reader: Reader
    errors: BinaryIO
    job: Job | None = None
    deadline: float = 0.0
    attempts: int = 0
    repeats: bool = False


@dataclass
class _Scene:
    """A scenario: what is still looked for in it, and the clean engine's turn."""

    silent: Silent
    rows: list[Row] = field(default_factory=list)
    hunts_left: int = 0


class _Campaign:
    def __init__(self, request: HuntRequest, tell: Callable[[str], None]) -> None:
        self.request = request
        self.tell = tell
        self.rows: dict[tuple[str, Scenario], Row] = {}
        self.scenes: dict[Scenario, _Scene] = {}
        self.jobs: deque[Job] = deque()
        self.hands: list[_Hand] = []
        self.lost = 0
        self.begin = time.monotonic()
        self.duration_s = 0.0
        self.stop_reason = ""
        for mode in request.modes:
            for bug in request.bugs:
                for policy in request.policies:
                    self._add(bug, Scenario(bug.program if mode == DIRECTED else "", bug.scheme, policy))

    def run(self, stopper: Stopper) -> None:
        """Until all jobs are done, or somebody says stop."""
        next_status = self.begin + STATUS_S
        try:
            while self._give_out():
                if stopper.requests:
                    self.stop_reason = "stopped"
                    break
                busy = {hand.reader.fd: hand for hand in self.hands if hand.job is not None}
                for fd in select.select(list(busy), [], [], POLL_S)[0]:
                    self._listen(busy[fd])
                now = time.monotonic()
                for hand in [hand for hand in self.hands if hand.job is not None and now > hand.deadline]:
                    self._lose(hand, "hang")
                if now >= next_status:
                    next_status = now + STATUS_S
                    self.tell(hunt_status(list(self.rows.values()), len(self.jobs), now - self.begin))
        finally:
            for hand in self.hands:
                _end(hand)
        self.duration_s = time.monotonic() - self.begin

    def summary(self, results: str) -> HuntSummary:
        """What was seen so far."""
        r, rows = self.request, list(self.rows.values())
        clean = [scene.silent for scene in self.scenes.values()]
        for row in rows:
            row.close(self.scenes[row.scenario].silent)
        reasons = reasons_of(rows, clean, self.stop_reason)
        verdict, code = verdict_of(reasons, clean)
        return HuntSummary(
            verdict=verdict, exit_code=code, reasons=reasons, bugs=len(r.bugs), policies=list(r.policies), modes=list(r.modes),
            seeds=r.seeds, seed=r.seed, duration_s=round(self.duration_s, 3), stop_reason=self.stop_reason,
            totals=[total(policy, mode, rows) for mode in r.modes for policy in r.policies], rows=rows, clean=clean,
            results=results,
        )

    def _add(self, bug: Bug, scenario: Scenario) -> None:
        row = Row(bug.id, scenario.mode, scenario, self.request.seeds)
        self.rows[bug.id, scenario] = row
        scene = self.scenes.setdefault(scenario, _Scene(Silent(scenario)))
        scene.rows.append(row)
        scene.hunts_left += 1
        r = self.request
        self.jobs.append(Hunt(bug.id, scenario, r.all_seeds, r.executions, r.seconds, REPLAYS))

    def _give_out(self) -> bool:
        """A job for everybody who has none. Whether anybody works."""
        while self.jobs:
            idle = next((hand for hand in self.hands if hand.job is None), None)
            if idle is None:
                if len(self.hands) == self.request.workers:
                    break
                idle = _start()
                self.hands.append(idle)
            job = self.jobs.popleft()
            idle.job, idle.attempts, idle.repeats = job, 0, False
            idle.deadline = time.monotonic() + job.seconds + HANG_S
            try:
                send(idle.process.stdin.fileno(), job)
            except Closed:
                self._lose(idle, "")
        return any(hand.job is not None for hand in self.hands)

    def _listen(self, hand: _Hand) -> None:
        try:
            hand.reader.fill(0)
        except Closed:
            self._lose(hand, "")
            return
        while (answer := hand.reader.next()) is not None:
            self._take(hand, answer)

    def _take(self, hand: _Hand, answer: Answer) -> None:
        job = hand.job
        scene = self.scenes[job.scenario]
        self.lost = 0
        if isinstance(answer, Attempt):
            row = self.rows[job.bug, job.scenario]
            row.attempts.append(answer)
            hand.attempts += 1
            hand.repeats = answer.found and row.repeated is None
        elif isinstance(answer, Repeated):
            self.rows[job.bug, job.scenario].repeated = answer
            hand.repeats = False
        elif isinstance(answer, Silence):
            _add_silence(scene.silent, answer)
        elif answer.error:
            raise _ERRORS.get(ExitCode(answer.exit_code), UsageError)(answer.error)
        else:
            self._done(hand, scene)

    def _done(self, hand: _Hand, scene: _Scene) -> None:
        job, hand.job = hand.job, None
        if isinstance(job, Hunt):
            scene.hunts_left -= 1
            if scene.hunts_left == 0:
                self._queue_clean(scene)

    def _queue_clean(self, scene: _Scene) -> None:
        scene.silent.asked = asked_for(scene.rows)
        self.jobs.append(Clean(scene.silent.scenario, self.request.all_seeds, scene.silent.asked, self.request.seconds))

    def _lose(self, hand: _Hand, how: str) -> None:
        """A worker crashed or hangs: that is what became of the seed that it was at. Another one goes on behind it."""
        words = _end(hand)
        self.hands.remove(hand)
        if hand.process.returncode >= 0 and not how:
            raise PtstressError(f"a worker failed: {words or f'exit status {hand.process.returncode}'}")
        how = how or f"crash by {signal.Signals(-hand.process.returncode).name}"
        self.lost += 1
        if self.lost == MOST_LOST:
            raise PtstressError(f"{self.lost} workers died before they said anything, the last one: {how}")
        job, scene = hand.job, self.scenes[hand.job.scenario]
        if isinstance(job, Clean):
            scene.silent.run, scene.silent.crash = True, how
            return
        row = self.rows[job.bug, job.scenario]
        rest = job.seeds[hand.attempts :]
        if hand.repeats:
            row.repeated = Repeated(of=job.replays)
        elif rest:
            row.attempts.append(Attempt(rest.pop(0), False, 0, 0.0, how))
        spent = sum(attempt.seconds for attempt in row.attempts)
        again = structs.replace(
            job, seeds=rest, seconds=max(self.request.seconds - spent, 0.0), replays=0 if row.repeated else job.replays)
        hand.job = again
        if rest:
            self.jobs.appendleft(again)
        else:
            self._done(hand, scene)


def _start() -> _Hand:
    errors = tempfile.TemporaryFile()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ptstress.hunt_worker", str(os.getpid())], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=errors, bufsize=0, env=child_environment(),
        )
    except OSError as error:
        raise ResourceError(f"a worker process is needed: {error.strerror}") from None
    return _Hand(process, Reader(process.stdout.fileno(), Answer), errors)


def _end(hand: _Hand) -> str:
    """See to it that the process is gone; the last line of its stderr."""
    if hand.process.poll() is None:
        hand.process.kill()
    hand.process.wait()
    hand.process.stdin.close()
    hand.process.stdout.close()
    with hand.errors as errors:
        errors.seek(0)
        lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""


def _add_silence(silent: Silent, more: Silence) -> None:
    silent.exhausted = more.exhausted and (silent.exhausted or not silent.run)
    silent.run = True
    silent.executions += more.executions
    silent.seconds = round(silent.seconds + more.seconds, 3)
    silent.failure = silent.failure or more.failure
