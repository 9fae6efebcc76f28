"""Hunts mutants: each in a child process of its own, so that one that crashes or hangs ends itself only.

The children are forked from a process that has the engine loaded, so each begins in the same state, and what it finds depends on
nothing but the mutant, the jobs and the seed. Budgets are executions. Seconds end nothing but what hangs.
"""

import faulthandler
import os
import selectors
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from types import ModuleType

import msgspec
from msgspec import Struct

from ptstress.errors import PtstressError, ResourceError
from ptstress.lab import MAX_STEPS, Lab, invariants_of, judge
from ptstress.mutant_jobs import Job, Labs
from ptstress.mutant import Mutant
from ptstress.program import Program
from ptstress.schedule import Replay, encode

#: Executions of each job while it is measured which places it reaches; on the engine without a mutant they must be silent.
PROFILE = 12
#: A child says every so often that it gets on; one that has not for so long hangs.
HANG_S = 20.0
_POLL_S = 0.2
CRASH, HANG = "crash", "hang"


@dataclass(frozen=True)
class Round:
    """So many ``jobs`` with so many executions of a policy each. ``kind``: only such jobs."""

    policy: str
    executions: int
    jobs: int
    kind: str = ""


#: One after the other until one kills. Many programs come before many schedules of each: most mutants show in any of some.
#: The programs of bugs are few and have one race each, which may want many schedules.
ROUNDS = (
    Round("random", 12, 160), Round("random", 250, 60, "bug"), Round("pct", 24, 320), Round("pct", 250, 60, "bug"),
    Round("pos", 250, 60, "bug"), Round("random", 60, 240), Round("random", 100, 60, "scope"), Round("pos", 100, 120),
)
#: More of the same for what has outlived them and is not called equivalent: some windows are a step wide.
FURTHER = (
    Round("pct", 500_000, 2, "window"), Round("dfs", 2_000_000, 2, "window"),
    Round("pos", 1500, 4, "aim"), Round("random", 1500, 4, "aim"), Round("pct", 1500, 4, "aim"),
    Round("pos", 1000, 60, "bug"), Round("random", 1000, 60, "bug"), Round("pct", 1000, 80, "race"),
    Round("random", 1000, 80, "race"), Round("pos", 1000, 80, "race"), Round("random", 250, 240), Round("pct", 100, 320),
    Round("pos", 250, 240),
)
#: Jobs of one scheme among the first: a place that all schemes share is looked at under all of them.
OF_SCHEME = 12


class Verdict(Struct):
    """What became of one mutant. ``by``: the oracle, "crash" or "hang"; empty: it lived.

    ``executions``: until then. ``reached``: by how many jobs, without it. ``again``: its execution
    came again, the same in every step. ``control``: what as many executions of that job and policy reported without it.
    """

    number: int
    by: str = ""
    invariant: int = 0
    what: str = ""
    executions: int = 0
    reached: int = 0
    label: str = ""
    scheme: str = ""
    policy: str = ""
    program: str = ""
    replay: str = ""
    again: bool = False
    control: str = ""
    story: list[str] = []


class Profile(Struct):
    """The engine without a mutant. ``seen``: of each job, which part of its steps reached which place; ``failures``: there must
    be none.
    """

    seen: list[dict[int, float]]
    executions: int
    failures: list[str]


def profile(engine: ModuleType, jobs: Sequence[Job], seed: int, stopped: Callable[[], bool]) -> Profile:
    """Run every job without a mutant: what it reaches, and that nothing is reported."""
    labs = Labs(engine, seed)
    found = Profile([], 0, [])
    engine.mutant_switch(0)
    engine.mutant_seen()
    for job in jobs:
        if stopped():
            break
        result = labs.load(job).explorer.explore(
            policy="random", seed=seed, max_steps=MAX_STEPS, executions=PROFILE, progress=lambda _: stopped())
        found.executions += result["executions"]
        found.seen.append({number: seen / result["points"] for number, seen in enumerate(engine.mutant_seen()) if seen})
        if result["failure"]:
            found.failures.append(f"{job.label} under {job.scheme}: {result['failure']['outcome']}")
    return found


def hunt(
    engine: ModuleType, mutants: Sequence[Mutant], jobs: Sequence[Job], seen: Sequence[dict[int, float]], seed: int, workers: int,
    stopped: Callable[[], bool], rounds_of: Callable[[Mutant], Sequence[Round]], story: bool = False,
) -> Iterator[Verdict]:
    """One verdict for each mutant, in the order in which they come; those that are under way when it is stopped get none."""
    waiting = deque(mutants)
    running: dict[int, _Child] = {}
    with selectors.DefaultSelector() as selector:
        try:
            while (waiting or running) and not stopped():
                while waiting and len(running) < workers:
                    child = _start(engine, waiting.popleft(), jobs, seen, seed, rounds_of, story)
                    running[child.pipe] = child
                    selector.register(child.pipe, selectors.EVENT_READ)
                for key, _ in selector.select(_POLL_S):
                    running[key.fd].read()
                for child in [c for c in running.values() if c.over or c.hangs]:
                    selector.unregister(child.pipe)
                    del running[child.pipe]
                    yield child.verdict()
        finally:
            for child in running.values():
                child.end()


class _Child:
    """A child process, and what it has said."""

    def __init__(self, mutant: Mutant, reached: int, process: int, pipe: int) -> None:
        self.mutant, self.reached, self.process, self.pipe = mutant, reached, process, pipe
        self.said = b""
        self.over = False
        self.last = time.monotonic()

    @property
    def hangs(self) -> bool:
        return time.monotonic() - self.last > HANG_S

    def read(self) -> None:
        """Take what there is: a dot for each job that is done, then the verdict."""
        more = os.read(self.pipe, 1 << 16)
        self.over = not more
        self.said += more
        self.last = time.monotonic()

    def end(self) -> int:
        """End it if it has not; its wait status."""
        if not self.over:
            os.kill(self.process, signal.SIGKILL)
        os.close(self.pipe)
        return os.waitpid(self.process, 0)[1]

    def verdict(self) -> Verdict:
        """What it said, or what became of it."""
        hung, status = not self.over, self.end()
        text = self.said.lstrip(b".")
        if not hung and os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            verdict = msgspec.json.decode(text, type=Verdict)
        elif hung:
            verdict = Verdict(self.mutant.number, HANG, what=f"no job was done in {HANG_S:g} s")
        elif os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            verdict = Verdict(self.mutant.number, CRASH, what=f"the process was ended by {name}")
        else:
            # That is no answer of the engine's.
            raise PtstressError(f"the process that hunted {self.mutant.id} failed: exit status {os.WEXITSTATUS(status)}")
        verdict.reached = self.reached
        return verdict


def rank(mutant: Mutant, jobs: Sequence[Job], seen: Sequence[dict[int, float]]) -> list[Job]:
    """The jobs that reach the place of a mutant while they race, those first that come there most often for what they cost.

    Programs that somebody wrote and generated ones take turns. No scheme has all of the first of these, and no program of those.
    """
    number = mutant.number
    # What nobody reached in so short a time somebody may reach; and who is written for it will.
    all_may = not any(number in of_job for of_job in seen)
    dense = sorted(((of_job.get(number, 0.0), -i) for i, of_job in enumerate(seen)
                    if jobs[i].function in ("", mutant.function) and (all_may or jobs[i].function or number in of_job)),
                   reverse=True)
    written: list[tuple[int, Job]] = []
    first: list[Job] = []
    rest: list[Job] = []
    of_scheme: Counter[str] = Counter()
    of_program: Counter[Program] = Counter()
    for _, i in dense:
        job = jobs[-i]
        if job.written:
            written.append((of_program[job.program], job))
            of_program[job.program] += 1
        else:
            of_scheme[job.scheme] += 1
            (first if of_scheme[job.scheme] <= OF_SCHEME else rest).append(job)
    turns = zip_longest((job for _, job in sorted(written, key=lambda one: one[0])), first + rest)
    return [job for turn in turns for job in turn if job is not None]


def _start(
    engine: ModuleType, mutant: Mutant, jobs: Sequence[Job], seen: Sequence[dict[int, float]], seed: int,
    rounds_of: Callable[[Mutant], Sequence[Round]], story: bool,
) -> _Child:
    """A child that hunts one mutant."""
    ranked = rank(mutant, jobs, seen)
    reader, writer = os.pipe()
    parent = os.getpid()
    try:
        process = os.fork()
    except OSError as error:
        raise ResourceError(f"a process for a mutant is needed: {error.strerror}") from None
    if process:
        os.close(writer)
        return _Child(mutant, sum(mutant.number in of_job for of_job in seen), process, reader)
    code = 1
    try:
        os.close(reader)
        # Both go to the whole group. The parent ends its children; who lost it ends with the next dot.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        faulthandler.disable()              # a crash is a mutant's answer, and nothing for the screen
        verdict = _hunt_one(engine, mutant, ranked, seed, rounds_of(mutant), story, lambda: _alive(writer, parent))
        os.write(writer, msgspec.json.encode(verdict))
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)


def _alive(writer: int, parent: int) -> None:
    os.write(writer, b".")
    if os.getppid() != parent:
        os._exit(1)


def _hunt_one(
    engine: ModuleType, mutant: Mutant, ranked: Sequence[Job], seed: int, rounds: Sequence[Round], story: bool,
    alive: Callable[[], None],
) -> Verdict:
    verdict = Verdict(mutant.number)
    labs = Labs(engine, seed)
    engine.mutant_switch(mutant.number)
    weakened = [(mutant.file.removesuffix(".pxd"), line) for line in mutant.weakened]
    for number, turn in enumerate(rounds):
        for job in [job for job in ranked if turn.kind in ("", job.kind)][: turn.jobs]:
            alive()
            lab = labs.load(job)
            lab.explorer.memory.weaken(weakened)
            result = _explore(lab, job, turn.policy, seed + 1 + number, turn.executions, alive)
            verdict.executions += result["executions"]
            if found := result["failure"]:
                _killed(verdict, lab, job, turn, found, story)
                engine.mutant_switch(0)
                without = _explore(labs.load(job), job, turn.policy, seed + 1 + number, found["index"] + 1, alive)["failure"]
                verdict.control = f"{job.label} under {job.scheme}: {without['outcome']}" if without else ""
                return verdict
    return verdict


def _explore(lab: Lab, job: Job, policy: str, seed: int, executions: int, alive: Callable[[], None]) -> dict:
    bounds = {"dfs": {"preemption_bound": job.preemptions}, "pct": {"depth": job.preemptions + 1 if job.function else None}}
    return lab.explorer.explore(policy=policy, seed=seed, max_steps=MAX_STEPS, executions=executions,
                                progress=lambda _: alive(), **bounds.get(policy, {}))


def _killed(verdict: Verdict, lab: Lab, job: Job, turn: Round, found: dict, story: bool) -> None:
    again = lab.explorer.replay(
        found["choices"], found["seed"], trace=False, max_steps=found["max_steps"], steps_only=found["steps_only"])
    reports = lab.view.reports()
    record = Replay(
        fingerprint="mutant", program=job.program.text(), scheme=job.scheme, geometry=job.geometry, knobs=dict(job.knobs),
        seed=found["seed"], choices=found["choices"], max_steps=found["max_steps"], outcome=found["outcome"],
        trace_hash=found["hash"], steps_only=found["steps_only"],
    )
    verdict.by, verdict.what = judge(found["outcome"], reports)
    verdict.invariant = next(iter(invariants_of(found["outcome"], reports)), 0)
    verdict.again = again["outcome"] == found["outcome"] and again["hash"] == found["hash"]
    verdict.label, verdict.scheme, verdict.policy = job.label, job.scheme, turn.policy
    verdict.program, verdict.replay = job.program.text(), encode(record)
    if story:
        verdict.story = lab.explain(record).story
