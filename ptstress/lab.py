"""One machine of an explored build with its explorer, and how an execution on it is judged."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from ptstress import get_include
from ptstress.bugs import find_bugs
from ptstress.builds import headers_hash
from ptstress.engine import load_engine, load_explorer
from ptstress.errors import ResourceError, UsageError
from ptstress.layout import SharedView, report_text, shared_bytes
from ptstress.outcome_table import OutcomeCount, OutcomeTable, no_table, outcome_table
from ptstress.program import Program, parse
from ptstress.races import race_text
from ptstress.schedule import Replay
from ptstress.schemes import find_scheme
from ptstress.story import operations_of
from ptstress.telling import UNREPORTED, Told, tell_failure
from ptstress.units import format_geometry, pages_of
from ptstress.vocabulary import Oracle

#: What may carry an execution: one thread with many stacks, or an OS thread for each worker.
CARRIERS = ("fibres", "threads")
MAX_STEPS = 20000
#: Policies that walk a tree, under one seed, and so end; and how often one of them stops a cpu, unless somebody says how often.
TREES = ("dfs", "dpor", "states")
PREEMPTIONS = 2
RING_EVENTS = 256
# Rare paths are frequent here, because a program has a handful of operations.
KNOBS: tuple[tuple[str, int | str], ...] = (
    ("need_resched", 2), ("gather_batch", 2), ("gather_alloc_fail", 4), ("trylock_fail", 8), ("walk_sleep", 4),
    ("backlog_max", 1), ("reuse", "lifo"),
)
ARENA = (("tables", 128), ("frames", 256), ("vmas", 64))


class Lab:
    """One machine of an explored build and its explorer; ``load`` gives it a program."""

    def __init__(
        self, scheme: str, geometry: tuple[int, ...], bugs: tuple[str, ...], knobs: dict, seed: int, build: str = "sched",
        arena: tuple[tuple[str, int], ...] = ARENA,
    ) -> None:
        find_bugs(bugs)
        self.scheme, self.bugs, self.knobs, self.build = scheme, bugs, knobs, build
        self.engine: ModuleType = load_engine(build)
        self.explorer_module = load_explorer()
        self.config = {
            **find_scheme(scheme).config(), "geometry": geometry, "ring_events": RING_EVENTS, "seed": seed,
            "bugs": list(bugs), "knobs": knobs, **dict(arena),
        }
        self.geometry = geometry
        self.shape = (0, 0)
        self.table: OutcomeTable = no_table("")
        self._tables: dict[Program, OutcomeTable] = {}

    @classmethod
    def of(cls, replay: Replay) -> "Lab":
        """The machine of a recorded execution, with its program. Raises ``UsageError``."""
        lab = cls(replay.scheme, replay.geometry, replay.bugs, dict(replay.knobs), replay.seed, replay.build)
        lab.load(parse(replay.program, "<replay string>"), judged=replay.judged)
        lab.explorer.memory.weaken(replay.weakened)
        return lab

    def load(self, program: Program, *, judged: bool = False) -> None:
        """Make ``program`` what is explored. Raises ``UsageError`` if it does not fit.

        ``judged``: what the oracles let pass is looked up among the outcomes that the model allows, if it has few enough.
        """
        prefix, branches = program.arrays()
        if program.suffix:
            raise UsageError("explore runs a prefix and branches: leave out the suffix, or make it part of a branch")
        if program.end_page() > pages_of(self.geometry):
            raise UsageError(
                f"the program names page p{program.end_page() - 1}: geometry {format_geometry(self.geometry)} "
                f"ends at p{pages_of(self.geometry) - 1}"
            )
        self.explorer = None
        shape = (len(branches), program.mms())
        if shape != self.shape:
            self._make_machine(*shape)
        self.table = self._table_of(program) if judged else no_table("")
        self.machine.program(prefix, branches, self.table.arrays())
        self.explorer = self.explorer_module.Explorer(self.machine.explorable())

    def _table_of(self, program: Program) -> OutcomeTable:
        """Computed once: a program is explored from many seeds."""
        if program not in self._tables:
            may_fail = bool(self.config["knobs"].get("alloc_fail"))
            self._tables[program] = outcome_table(program, self.scheme, self.geometry, may_fail)
        return self._tables[program]

    def record(self, program: Program, found: dict) -> Replay:
        """An execution that the explorer found, as a record. ``program``: what is loaded."""
        return Replay(
            fingerprint=fingerprint(self.scheme), program=program.text(), scheme=self.scheme, geometry=self.geometry,
            bugs=self.bugs, knobs=self.knobs, seed=found["seed"], choices=found["choices"], max_steps=found["max_steps"],
            outcome=found["outcome"], trace_hash=found["hash"], steps_only=found["steps_only"], build=self.build,
            judged=bool(self.table.rows),
        )

    def signature(self, outcome: str) -> tuple[str, int]:
        """Of the execution that ran last: oracle, and the first invariant that it broke, or 0."""
        reports = self.view.reports()
        return judge(outcome, reports)[0], next(iter(invariants_of(outcome, reports)), 0)

    def explain(self, replay: Replay) -> Told:
        """Run a failure once more, and tell it."""
        result = self.explorer.replay(**execution_of(replay))
        operations = [operations_of(self.view.recorded(w)) for w in range(self.shape[0])]
        # The first worker did the prefix too, before there was a schedule.
        operations[0] = operations[0][len(parse(replay.program).prefix) :]
        told = tell_failure(result, self.view.reports(), operations, self.machine.describe, self.geometry[0], self._race)
        if told.oracle != Oracle.MODEL.label:
            return told
        return replace(told, expected=tuple(self.table.expected(self.machine.outcome())))

    def outcomes(self) -> OutcomeCount:
        """How many outcomes of the loaded program are allowed, and how many of them it came to since it was loaded."""
        return OutcomeCount(len(self.table.rows), sum(self.machine.outcomes_seen()), self.table.note)

    def follow(self, choices: bytes, seed: int, max_steps: int, steps_only: bool) -> dict | None:
        """The failure that these choices lead to, where they can be made, or ``None``; ``preemptions`` in it are its own."""
        result = self.explorer.follow(choices, seed, max_steps=max_steps, steps_only=steps_only)
        return result["failure"] and result["failure"] | {"preemptions": result["preemptions"]}

    def repeat(self, replay: Replay, carriers: Iterable[str], times: int) -> tuple[dict[str, int], set[int]]:
        """Run an execution of the loaded program ``times`` on each of ``carriers``.

        Returns how often each came to the same outcome, and the hashes of all traces.
        """
        execution = execution_of(replay)
        runs = {
            "fibres": lambda: self.explorer.replay(**execution, trace=False),
            "threads": lambda: self.explorer.replay_threads(**execution),
        }
        again: dict[str, int] = {}
        hashes: set[int] = set()
        for carrier in carriers:
            results = [runs[carrier]() for _ in range(times)]
            again[carrier] = sum(r["outcome"] == replay.outcome for r in results)
            hashes.update(r["hash"] for r in results)
        return again, hashes

    def _race(self) -> str:
        """What raced in the explorer's last execution."""
        return race_text(self.explorer.races, self.explorer_module.source_name, self._name_of)

    def _name_of(self, address: int) -> str:
        offset = self.explorer.offset_of(address)
        return f"address {address:#x}" if offset is None else self.machine.describe(offset)

    def _make_machine(self, workers: int, mms: int) -> None:
        memory = bytearray(shared_bytes(workers, RING_EVENTS))
        try:
            self.machine = self.engine.Machine({**self.config, "workers": workers, "mms": mms}, memory)
        except ValueError as error:
            raise UsageError(f"engine: {error}") from None
        except (TypeError, OverflowError) as error:
            knobs = ", ".join(f"{name}={value!r}" for name, value in self.knobs.items())
            raise UsageError(f"engine: one of the knobs {knobs} has no value of its kind: {error}") from None
        except MemoryError as error:
            raise ResourceError(f"engine: {error or 'out of memory'}") from None
        self.view = SharedView(memory, workers, RING_EVENTS)
        self.shape = (workers, mms)


def execution_of(replay: Replay) -> dict:
    """What the explorer needs to repeat it."""
    return {"choices": replay.choices, "seed": replay.seed, "max_steps": replay.max_steps, "steps_only": replay.steps_only}


def judge(outcome: str, reports: list[dict], race: Callable[[], str] = lambda: "data race") -> tuple[str, str]:
    """Oracle and one line for an outcome. ``race`` says which one there was; it comes first, as it often caused the others."""
    if outcome == "race":
        return "race", race()
    if reports:
        return str(reports[0]["oracle"]), report_text(reports[0])
    return "progress", f"{outcome}: {UNREPORTED[outcome][0]}" if outcome in UNREPORTED else outcome


def invariants_of(outcome: str, reports: list[dict]) -> list[int]:
    """Numbers of the invariants that an execution broke, as its reports or else its outcome says, each once."""
    numbers = [int(r["invariant"]) for r in reports] if reports else [UNREPORTED.get(outcome, ("", 0))[1]]
    return [n for n in dict.fromkeys(numbers) if n]


def fingerprint(scheme: str) -> str:
    """Of the engine's sources and of other packages' policies: choices mean nothing to code with other schedule points."""
    digest = hashlib.blake2b(headers_hash(Path(get_include())).encode(), digest_size=8)
    for policy in find_scheme(scheme).plugged:
        found = find_spec(f"{policy}_sched")
        digest.update(Path(found.origin).read_bytes() if found and found.origin else b"")
    return digest.hexdigest()
