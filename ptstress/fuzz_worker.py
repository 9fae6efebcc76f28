"""``python -m ptstress.fuzz_worker``: one worker of a campaign. It draws, mutates and shrinks; its executor runs.

Its assignment comes on stdin, what it sees goes to stdout, and what it must know meanwhile comes on stdin.
It dies with the coordinator, and its executor with it; it leaves signals to the coordinator.
"""

import signal
import sys
import time
from pathlib import Path

from msgspec import structs

from ptstress.child import die_with_parent
from ptstress.errors import PtstressError
from ptstress.fuzz_campaign import Campaign
from ptstress.fuzz_containment import Executor, Stopped
from ptstress.fuzz_example import Failure, FuzzExample, Signature, Trial
from ptstress.fuzz_property import shrink
from ptstress.fuzz_store import Store
from ptstress.fuzz_wire import (
    Again, Assignment, Closed, Done, Found, Known, Progress, Reader, Share, Stop, ToWorker, send, take_stdout,
)

SAY_EVERY_S = 0.25
#: Failures of more kinds are only counted: many faces of one mistake.
MOST_SHRUNK = 12
#: A failure found near the end may still be shrunk.
GRACE_S = 8.0
#: Of the corpus that others left.
CORPUS_SHARE = 200


class Worker:
    """Runs one share of a campaign."""

    def __init__(self, assignment: Assignment, orders: Reader, out: int) -> None:
        self.a = assignment
        self.orders, self.out = orders, out
        self.campaign = Campaign(
            assignment.seed, assignment.share, assignment.shares, assignment.schemes, assignment.geometries,
            assignment.bugs, assignment.knobs, assignment.schedules, assignment.rounds, assignment.race_every,
        )
        self.store = Store(Path(assignment.database))
        self.begin = time.monotonic()
        self.end = self.begin + assignment.seconds
        self.stop_asked = False
        self.known: set[Signature] = set()
        self.shrunk = 0
        self.executor = Executor(assignment.hang_s, self._stopped)
        self._clear()

    def run(self) -> None:
        """Until the time is over or somebody says stop."""
        try:
            self._revisit()
            while time.monotonic() < self.end:
                self._run_all(self.campaign.batch(), deepen=True)
        except Stopped:
            pass
        finally:
            self.executor.close()
            self._say()

    def _revisit(self) -> None:
        """What earlier campaigns and other workers left: failures first."""
        mine = slice(self.a.share, None, self.a.shares)
        old = [e for e in self.store.failures() if self._fits(e)][mine]
        for example in old:
            if self._run_all([example]) == [False]:
                self.store.drop_failure(example)
            if time.monotonic() > self.end:
                break
        corpus = [e for e in self.store.corpus() if e.geometry in self.campaign.corpus][mine][:CORPUS_SHARE]
        for example in corpus:
            self.campaign.keep(example.geometry, example.program)

    def _fits(self, example: FuzzExample) -> bool:
        return example.bugs == self.campaign.bugs and example.scheme in self.campaign.schemes

    def _run_all(self, examples: list[FuzzExample], deepen: bool = False) -> list[bool]:
        """Run these until the time is over or one fails in a new way, and take in what comes; whether each failed."""
        failures: list[Failure | None] = []
        trials = self.executor.run(examples, deepen)
        for example, trial in zip(examples, trials, strict=False):
            self._note(example, trial)
            failures.append(trial.failure)
            now = time.monotonic()
            if now - self.said_at > SAY_EVERY_S:
                self._say()
            if now > self.end or (trial.failure and trial.failure.signature not in self.known):
                break
        trials.close()
        for failure in failures:
            if failure is not None:
                self._failed(failure)
        return [failure is not None for failure in failures]

    def _note(self, example: FuzzExample, trial: Trial) -> None:
        share = self.schemes.setdefault(example.scheme, Share())
        share.programs += 1
        share.executions += trial.executions
        if self.campaign.is_new(example):
            share.digests.append(example.digest())
        new = self.campaign.note(example, trial)
        if new and trial.failure is None:
            self.store.keep_program(structs.replace(example, bugs=(), rounds=0))
        self.pairs += new
        self.counts["programs"] += 1
        for name in ("executions", "operations", "points", "unknown"):
            self.counts[name] += getattr(trial, name)
        for a, b, n in trial.overlaps:
            self.overlaps[a, b] = self.overlaps.get((a, b), 0) + n

    def _failed(self, failure: Failure) -> None:
        raw = failure.signature
        if raw in self.known:
            send(self.out, Again(raw, 1))
            return
        self.known.add(raw)
        self.store.keep_failure(failure.example)
        send(self.out, Found(raw, failure, final=False))
        left = self.end + GRACE_S - time.monotonic()
        if self.shrunk >= MOST_SHRUNK or left <= 0:
            return
        self.shrunk += 1
        simple = shrink(self.executor, failure, min(self.a.shrink_s, left))
        simple = self.executor.polish(simple)
        if simple.example != failure.example:
            self.store.keep_failure(simple.example)
            self.store.drop_failure(failure.example)
        send(self.out, Found(raw, simple, final=True))

    def _say(self) -> None:
        send(self.out, Progress(
            schemes=self.schemes, pairs=self.pairs, overlaps=[(a, b, n) for (a, b), n in self.overlaps.items()],
            restarts=self.executor.restarts - self.restarts_said, corpus=self.campaign.corpus_size(), **self.counts,
        ))
        self.restarts_said = self.executor.restarts
        self._clear()
        self._stopped()

    def _clear(self) -> None:
        self.said_at = time.monotonic()
        self.schemes: dict[str, Share] = {}
        self.pairs: list[tuple[str, str]] = []
        self.overlaps: dict[tuple[int, int], int] = {}
        self.counts = dict.fromkeys(("programs", "executions", "operations", "points", "unknown"), 0)

    restarts_said = 0

    def _stopped(self) -> bool:
        """Read what the coordinator says; whether it says stop."""
        try:
            self.orders.fill(0)
        except Closed:
            self.stop_asked = True
        while (order := self.orders.next()) is not None:
            if isinstance(order, Stop):
                self.stop_asked = True
            elif isinstance(order, Known):
                self.known.add(order.signature)
        return self.stop_asked


def main() -> int:
    """Do what the assignment on stdin says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    orders = Reader(sys.stdin.fileno(), ToWorker)
    out = take_stdout()
    try:
        assignment = orders.wait(1.0, lambda: False)
        die_with_parent(assignment.parent)
        Worker(assignment, orders, out).run()
        send(out, Done())
    except Closed:
        return 0
    except PtstressError as error:
        send(out, Done(str(error), int(error.exit_code)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
