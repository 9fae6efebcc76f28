"""``python -m ptstress.fuzz_executor PARENT``: runs examples in a process of its own, which may crash or hang.

Requests come on stdin, answers go to stdout. Whoever started it watches it, and starts another if it dies
(``fuzz_containment``). It dies with its parent and leaves signals to it.
"""

import re
import sys
import time
from collections import OrderedDict
from functools import partial

import numpy as np
from msgspec import structs

from ptstress.child import begin_contained
from ptstress.errors import PtstressError
from ptstress.fuzz_example import Failure, FuzzExample, Signature, Trial, explored_signature
from ptstress.fuzz_wire import (
    Answer, Closed, Polish, Polished, Race, Raced, Ran, Reader, Refused, Request, Run, send, take_stdout,
)
from ptstress.lab import CARRIERS, MAX_STEPS, Lab, judge
from ptstress.reconstruct import Search
from ptstress.renumber import Small
from ptstress.results import Reconstruction
from ptstress.schedule import encode
from ptstress.shrink_schedule import simplest_schedule
from ptstress.trial import SmallMachine
from ptstress.vocabulary import Oracle

#: Machines that are kept for the next example.
KEPT = 8
#: Something new was seen: so many times more schedules, for as long as there is more of it.
DEEPER = 2
MOST_DEEPER = 4
#: A schedule with few preemptions is looked for so long.
SCHEDULE_S = 10.0
REPEATS = 10
#: No further race of one example begins after so many seconds: the parent takes long silence for a hang.
RACING_S = 2.0
RACE_ATTEMPTS = 2000
#: How long to look for a schedule of what threads showed.
SCHEDULE_S = 10.0
ON_THREADS = "threads"


class Trier:
    """Runs examples on engines of this process."""

    def __init__(self) -> None:
        self._labs: OrderedDict[tuple, Lab] = OrderedDict()
        self._threads: OrderedDict[tuple, SmallMachine] = OrderedDict()
        self._pairs = None

    def run(self, example: FuzzExample, deepen: bool = False) -> Trial:
        """Explore the example; if nothing is found, race it on threads. Raises ``PtstressError``."""
        trial = Trial()
        lab = self._lab(example)
        lab.load(example.program)
        size = sum(1 for _ in example.program.operations())
        seed, executions = example.seed, example.executions
        for _ in range(1 + (MOST_DEEPER if deepen else 0)):
            new = self._explore(lab, structs.replace(example, seed=seed, executions=executions), size, trial)
            if trial.failure or not new:
                break
            seed, executions = seed + 1, DEEPER * example.executions
        matrix = np.asarray(lab.machine.overlaps())
        trial.overlaps = [(int(a), int(b), int(matrix[a, b])) for a, b in np.argwhere(matrix)]
        if trial.failure is None and example.rounds:
            self._race(example, size, trial)
        return trial

    def polish(self, failure: Failure) -> Failure:
        """The failure with a schedule of few preemptions, its replay string and its story."""
        example = failure.example
        if example.rounds:
            return self._polish_race(failure)
        lab = self._lab(example)
        lab.load(example.program)
        same = partial(_is_alike, lab, failure)
        found = lab.explorer.explore(
            seed=example.seed, executions=example.executions, max_steps=MAX_STEPS, wanted=same)["failure"]
        if found is None:
            return failure
        deadline = time.monotonic() + SCHEDULE_S
        simplest = simplest_schedule(lab, found, same, lambda: time.monotonic() > deadline)
        record = lab.record(example.program, simplest)
        told = lab.explain(record)
        again, _ = lab.repeat(record, CARRIERS, REPEATS)
        return structs.replace(
            failure, detail=f"{told.oracle}: {told.what}", replay=encode(record),
            headline=told.headline, story=told.story,
            repeats=", ".join(f"{carrier} {count}/{REPEATS}" for carrier, count in again.items()),
        )

    def race(self, example: FuzzExample, times: int, seconds: float) -> Raced:
        """How often it fails on threads that nobody schedules."""
        machine = self._thread_machine(example)
        deadline = time.monotonic() + seconds
        races = failed = 0
        while races < times and time.monotonic() < deadline:
            failed += machine.race_fails(example.program, example.seed + races)
            races += 1
        return Raced(races, failed)

    def _explore(self, lab: Lab, example: FuzzExample, size: int, trial: Trial) -> int:
        """Adds what came to ``trial``; returns how many pairs were new here."""
        if self._pairs is None:
            self._pairs = lab.explorer_module.SitePairs()
        before = len(self._pairs)
        result = lab.explorer.explore(
            seed=example.seed, executions=example.executions, max_steps=MAX_STEPS, pairs=self._pairs
        )
        trial.executions += result["executions"]
        trial.operations += result["executions"] * size
        trial.points += result["points"]
        trial.pairs += [(_place(first), _place(second)) for first, second in self._pairs.since(before)]
        if found := result["failure"]:
            oracle, what = judge(found["outcome"], lab.view.reports())
            signature = explored_signature(oracle, what, lab.view.reports(), found["outcome"])
            exact = structs.replace(example, executions=found["index"] + 1, rounds=0)
            trial.failure = Failure(signature, f"{oracle}: {what}", exact)
        return len(self._pairs) - before

    def _race(self, example: FuzzExample, size: int, trial: Trial) -> None:
        machine = self._thread_machine(example)
        begin = time.monotonic()
        for number in range(example.rounds):
            if time.monotonic() - begin > RACING_S:
                return          # explaining what was seen may take seconds, which is no hang
            verdict = machine.race(example.program, example.seed + number)
            trial.executions += 1
            trial.operations += size
            trial.unknown += verdict.verdict == "unknown"
            if verdict.verdict == "violation":
                signature = Signature(verdict.oracle, 0, ON_THREADS, _without_numbers(verdict.detail))
                trial.failure = Failure(signature, f"{verdict.oracle}: {verdict.detail}", example)
                return

    def _polish_race(self, failure: Failure) -> Failure:
        example = failure.example
        machine = self._thread_machine(example)
        for attempt in range(RACE_ATTEMPTS):
            verdict = machine.race(example.program, example.seed + attempt)
            if verdict.verdict == "violation":
                found = self._schedule_of(failure, verdict.oracle)
                if found.replay:
                    return structs.replace(
                        failure, detail=f"{found.oracle}: {found.what}", replay=found.replay, story=tuple(found.story),
                        repeats=f"on threads after {attempt + 1} rounds, reconstructed at execution {found.executions:,}",
                    )
                lines = [f"CPU{w}: {line}" for w in range(machine.workers) for line in machine.view.last_operations(w, 16)]
                return structs.replace(
                    failure, detail=f"{verdict.oracle}: {verdict.detail}", story=tuple(lines),
                    repeats=f"on threads after {attempt + 1} rounds",
                )
        return structs.replace(failure, repeats=f"on threads not in {RACE_ATTEMPTS} rounds")

    def _schedule_of(self, failure: Failure, oracle: str) -> Reconstruction:
        """Of a violation on threads. The model judges schedules of programs with few outcomes only."""
        example = failure.example
        if oracle == Oracle.MODEL.label:
            lab = self._lab(example)
            lab.load(example.program, judged=True)
            if lab.table.note:
                return Reconstruction()
        search = Search(example.scheme, example.bugs, example.knobs, example.seed, oracle, SCHEDULE_S, None)
        return search.run([(Small(example.program, example.geometry), b"")])

    def _lab(self, example: FuzzExample) -> Lab:
        key = (example.scheme, example.geometry, example.bugs, tuple(example.knobs.items()))
        if key not in self._labs:
            self._labs[key] = Lab(example.scheme, example.geometry, example.bugs, dict(example.knobs), example.seed)
        return _kept(self._labs, key)

    def _thread_machine(self, example: FuzzExample) -> SmallMachine:
        workers, mms = len(example.program.branches), example.program.mms()
        key = (example.scheme, example.geometry, example.bugs, tuple(example.knobs.items()), workers, mms)
        if key not in self._threads:
            self._threads[key] = SmallMachine(
                "stress", example.scheme, example.geometry, workers, example.knobs, example.bugs, mms
            )
        return _kept(self._threads, key)


def main() -> int:
    """Answer requests until stdin ends."""
    begin_contained(int(sys.argv[1]))
    requests = Reader(sys.stdin.fileno(), Request)
    answers = take_stdout()
    trier = Trier()
    try:
        while True:
            request = requests.wait(60.0, lambda: False)
            _answer(trier, request, answers)
    except Closed:
        return 0


def _answer(trier: Trier, request: Request, answers: int) -> None:
    try:
        if isinstance(request, Run):
            for example in request.examples:
                _say(answers, Ran(trier.run(example, request.deepen)))
        elif isinstance(request, Polish):
            _say(answers, Polished(trier.polish(request.failure)))
        elif isinstance(request, Race):
            _say(answers, trier.race(request.example, request.times, request.seconds))
    except PtstressError as error:
        if isinstance(error, Closed):
            raise
        _say(answers, Refused(str(error), int(error.exit_code)))
    except MemoryError as error:
        _say(answers, Refused(f"engine: {error or 'out of memory'}", 3))


def _say(answers: int, answer: Answer) -> None:
    send(answers, answer)


def _kept(cache: OrderedDict, key: tuple) -> object:
    """The entry, which is now the youngest; the oldest goes when there are too many."""
    cache.move_to_end(key)
    if len(cache) > KEPT:
        _, oldest = cache.popitem(last=False)
        if isinstance(oldest, SmallMachine):
            oldest.machine.stop()
    return cache[key]


def _place(site: tuple[str, int, str]) -> str:
    file, line, kind = site
    return f"{file}:{line} {kind}"


def _is_alike(lab: Lab, failure: Failure, outcome: str) -> bool:
    """Whether the execution that ran last, and had this outcome, is the same failure."""
    reports = lab.view.reports()
    oracle, what = judge(outcome, reports)
    return explored_signature(oracle, what, reports, outcome) == failure.signature


def _without_numbers(text: str) -> str:
    return re.sub(r"\b(0x[0-9a-f]+|\d+)\b", "#", re.sub(r"\bp\d+", "p#", text)).partition("\n")[0][:96]


if __name__ == "__main__":
    sys.exit(main())
