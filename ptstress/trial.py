"""One small program, run and judged: on real threads, or as the explorer ran it last.

Three verdicts, as the model gives them: ``ok``, ``violation``, ``unknown``; unknown is never ok.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ptstress.engine import load_engine
from ptstress.errors import ResourceError, UsageError
from ptstress.layout import SharedView, report_text, shared_bytes
from ptstress.model import AddressSpaces, Explanation, Follower, Observation, explain
from ptstress.model.compare import PAGE_GUARD
from ptstress.model.explain_case import GUARD
from ptstress.observe import observations
from ptstress.operation import op_array
from ptstress.program import Program
from ptstress.schemes import NEVER, find_scheme
from ptstress.vocabulary import Oracle

RING_EVENTS = 1024
ARENA = (("tables", 256), ("frames", 2048), ("vmas", 512))
#: Rare paths are frequent: a program has a handful of operations only.
RARE: tuple[tuple[str, int | str], ...] = (
    ("need_resched", 3), ("gather_batch", 3), ("gather_alloc_fail", 3), ("trylock_fail", 3), ("walk_sleep", 2),
    ("reuse", "lifo"),
)


class Verdict(NamedTuple):
    """Of one race. ``oracle``: who objects, empty if nobody does; ``detail``: what is wrong or unknown."""

    verdict: str
    oracle: str = ""
    detail: str = ""


class SmallMachine:
    """A ``Machine`` of ``build``, with the memory that it records to."""

    def __init__(
        self, build: str, scheme: str, bits: tuple[int, ...], workers: int = 1,
        knobs: Mapping[str, int | str] | None = None, bugs: Sequence[str] = (), mms: int = 1,
    ) -> None:
        memory = bytearray(shared_bytes(workers, RING_EVENTS))
        found = find_scheme(scheme)
        config = {
            **found.config(), "geometry": bits, "workers": workers, "mms": mms, "ring_events": RING_EVENTS,
            "seed": 1, "bugs": list(bugs), "knobs": dict(RARE if knobs is None else knobs), **dict(ARENA),
        }
        self.bits = bits
        # Which tables are left changes no result: where nothing says, the model keeps them all.
        self.reclaim = found.modelled or NEVER
        self.lockless = found.lockless
        self.workers = workers
        self.mms = mms
        try:
            self.machine: Any = load_engine(build).Machine(config, memory)
        except ValueError as error:
            raise UsageError(f"engine: {error}") from None
        except MemoryError as error:
            raise ResourceError(f"engine: {error or 'out of memory'}") from None
        self.view = SharedView(memory, workers, RING_EVENTS)

    def space(self) -> AddressSpaces:
        """The model of the empty machine."""
        return AddressSpaces(self.bits, self.reclaim, self.mms)

    def emptied(self, seed: int = 1) -> Any:
        """The machine, with an empty address space and no threads: those of a race stay until then."""
        self.machine.stop()
        self.machine.reset(seed)
        return self.machine

    def race(self, program: Program, seed: int, may_fail: bool = False) -> Verdict:
        """Run ``program`` once on real threads; oracles and model judge. Its suffix is not run.

        ``may_fail``: allocations fail, as the knobs say.
        """
        machine = self.emptied(seed)
        follower = Follower(self.space())
        events, _ = machine.serial(op_array(program.prefix))
        for op, seen in zip(program.prefix, observations(events), strict=True):
            if difference := follower.follow(op, seen):
                return Verdict("violation", Oracle.MODEL.label, difference)
        try:
            events = machine.race(program.arrays()[1], seed)
        except RuntimeError as error:
            return Verdict("violation", Oracle.PROGRESS.label, str(error))
        if machine.check():
            first = self.view.reports()[0]
            return Verdict("violation", str(first["oracle"]), report_text(first))
        seen = [observations(lines) for lines in events]
        final = self.final_pages()
        return judged(explain(follower.space, program.branches, seen, final, may_fail=may_fail, lockless=self.lockless))

    def race_fails(self, program: Program, seed: int) -> bool:
        """As ``race``, by the oracles alone: asking the model takes longer than the race."""
        machine = self.emptied(seed)
        machine.serial(op_array(program.prefix))
        try:
            machine.race(program.arrays()[1], seed)
        except RuntimeError:
            return True
        return bool(machine.check())

    def judge_recorded(self, program: Program) -> Verdict:
        """Does the model explain the execution of ``program`` that was recorded last?"""
        space = self.space()
        for op in program.prefix:
            space.apply(op)
        seen = [self._recorded(worker, len(ops)) for worker, ops in enumerate(program.branches)]
        return judged(explain(space, program.branches, seen, self.final_pages(), known=False, lockless=self.lockless))

    def final_pages(self) -> dict[int, tuple[int, int]]:
        """Present pages and guard markers, as ``explain`` takes them."""
        rows: np.ndarray = self.machine.snapshot()["pages"]
        guards = {int(r["page"]): GUARD[:2] for r in rows if r["state"] == PAGE_GUARD}
        return {int(r["page"]): (int(r["incarnation"]), int(r["value"])) for r in rows} | guards

    def _recorded(self, worker: int, count: int) -> Sequence[Observation]:
        """The last ``count`` operations of a worker; a prefix that it did comes before."""
        seen = observations(self.view.recorded(worker))
        return seen[len(seen) - count :] if count <= len(seen) else seen


def judged(explanation: Explanation) -> Verdict:
    """The model's explanation as a verdict."""
    if explanation.verdict == "ok":
        return Verdict("ok")
    return Verdict(explanation.verdict, Oracle.MODEL.label, explanation.detail)
