"""Small machines of an engine build, and how to run programs on them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ptstress.engine import load_engine
from ptstress.layout import SharedView, shared_bytes
from ptstress.model import AddressSpace, Explanation, Follower, Observation, explain
from ptstress.observe import observations
from ptstress.operation import op_array
from ptstress.program import Program
from ptstress.schemes import find_scheme

RING_EVENTS = 1024
#: Rare paths are frequent: a program has a handful of operations only.
RARE: dict[str, int | str] = {"need_resched": 3, "gather_batch": 3, "trylock_fail": 3, "reuse": "lifo"}


class SmallMachine:
    """A ``Machine`` of ``build``, with the memory that it records to."""

    def __init__(
        self, build: str, scheme: str, bits: tuple[int, ...], workers: int = 1, knobs: Mapping[str, int | str] | None = None
    ) -> None:
        memory = bytearray(shared_bytes(workers, RING_EVENTS))
        config = {
            **find_scheme(scheme).config(), "geometry": bits, "workers": workers, "ring_events": RING_EVENTS,
            "tables": 256, "frames": 2048, "vmas": 512, "seed": 1, "bugs": [], "knobs": dict(knobs or {}),
        }
        self.bits = bits
        self.reclaim = find_scheme(scheme).reclaim
        self.workers = workers
        self.machine: Any = load_engine(build).Machine(config, memory)
        self.view = SharedView(memory, workers, RING_EVENTS)

    def emptied(self, seed: int = 1) -> Any:
        """The machine, with an empty address space and no threads: those of a race stay until then."""
        self.machine.stop()
        self.machine.reset(seed)
        return self.machine

    def race(self, program: Program, seed: int, may_fail: bool = False) -> Explanation:
        """Run ``program`` once on real threads and explain what it returned."""
        machine = self.emptied(seed)
        follower = Follower(AddressSpace(self.bits, self.reclaim))
        events, _ = machine.serial(op_array(program.prefix))
        for op, seen in zip(program.prefix, observations(events), strict=True):
            assert follower.follow(op, seen) is None
        seen = [observations(events) for events in machine.race(program.arrays()[1], seed)]
        assert machine.check() == 0, machine.reports()
        return explain(follower.space, program.branches, seen, self.final_pages(), may_fail=may_fail)

    def explain_recorded(self, program: Program) -> Explanation:
        """Explain the execution of ``program`` that was recorded last."""
        space = AddressSpace(self.bits, self.reclaim)
        for op in program.prefix:
            space.apply(op)
        seen = [self._recorded(worker, len(ops)) for worker, ops in enumerate(program.branches)]
        return explain(space, program.branches, seen, self.final_pages(), known=False)

    def final_pages(self) -> dict[int, tuple[int, int]]:
        """Present pages: page -> (incarnation, value)."""
        rows: np.ndarray = self.machine.snapshot()["pages"]
        return {int(r["page"]): (int(r["incarnation"]), int(r["value"])) for r in rows if r["state"]}

    def _recorded(self, worker: int, count: int) -> Sequence[Observation]:
        """The last ``count`` operations of a worker; a prefix that it did comes before."""
        seen = observations(self.view.recorded(worker))
        return seen[len(seen) - count :] if count <= len(seen) else seen
