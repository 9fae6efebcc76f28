"""Shrinks a failure that the explorer found: first its program, then its schedule.

What is left fails in the same way: the same oracle objects, to the same invariant. A simpler program fails in other schedules,
so each candidate is explored anew, by the policy that found the failure.
"""

import time
from collections.abc import Callable
from functools import partial

from ptstress.errors import PtstressError, UsageError
from ptstress.evidence import Shrunk, Size
from ptstress.lab import PREEMPTIONS, TREES, Lab, execution_of
from ptstress.program import Program, parse
from ptstress.schedule import Replay, encode
from ptstress.shrink_program import MOST, Candidates, Knobs, simplify
from ptstress.shrink_schedule import simplest_schedule
from ptstress.vocabulary import Oracle

#: The rest of the time is kept for the schedule.
PROGRAM_SHARE = 0.75


def shrink(
    record: Replay, policy: str, seconds: float, stopped: Callable[[], bool] = lambda: False
) -> tuple[Replay, Shrunk]:
    """A simpler failure than the recorded one, found in so much time, or until somebody says stop.

    ``policy``: that found it. Raises ``UsageError`` if it does not come again here.
    """
    begin = time.monotonic()

    def over(share: float) -> bool:
        return stopped() or time.monotonic() > begin + share * seconds

    search = _Search(record, policy)
    was = search.size()
    took = 0 if stopped() else search.run(search.program, record.knobs, MOST)
    candidates = Candidates(
        search.program, record.knobs, MOST if took is None else took, search.run,
        lambda: over(PROGRAM_SHARE),
    )
    simplify(candidates)
    simple = search.simplest(lambda: over(1))
    return simple, Shrunk(
        was=was, size=search.size(), replay=encode(record), programs=candidates.tried,
        seconds=round(time.monotonic() - begin, 3), whole=candidates.finished and not over(1),
    )


class _Search:
    """Runs simpler programs. ``lab``, ``program``, ``found``: the last that failed in the same way, and how."""

    def __init__(self, record: Replay, policy: str) -> None:
        self.policy, self.seed, self.max_steps = policy, record.seed, record.max_steps
        self.program = parse(record.program, "<replay string>")
        self.lab = Lab.of(record)
        self._labs = {tuple(record.knobs.items()): self.lab}
        found = self.lab.follow(**execution_of(record))
        if found is None:
            raise UsageError("the failure does not come again here: it cannot be shrunk")
        self.found = found
        self._signature = self.lab.signature(found["outcome"])
        # Outcomes that nothing but an oracle objects to need not be known.
        self._judged = self._signature[0] == Oracle.MODEL.label

    def run(self, program: Program, knobs: Knobs, executions: int) -> int | None:
        """As ``shrink_program.Run``."""
        lab = self._lab(knobs)
        try:
            lab.load(program, judged=self._judged)
        except PtstressError:
            return None
        tree = self.policy in TREES
        result = lab.explorer.explore(
            self.policy, seed=self.seed, exact_seed=tree, executions=executions, max_steps=self.max_steps,
            preemption_bound=max(PREEMPTIONS, self.found["preemptions"]), wanted=partial(self._same, lab),
        )
        if result["failure"] is None:
            return None
        self.lab, self.program = lab, program
        self.found = result["failure"] | {"preemptions": 0}
        return result["executions"]

    def simplest(self, enough: Callable[[], bool]) -> Replay:
        """The last program with the simplest schedule."""
        self.lab.load(self.program, judged=self._judged)
        self.found = simplest_schedule(self.lab, self.found, partial(self._same, self.lab), enough)
        return self.lab.record(self.program, self.found)

    def size(self) -> Size:
        """Of the last one."""
        threads = sum(1 for ops in self.program.branches if ops)
        operations = sum(1 for _ in self.program.operations())
        return Size(threads, operations, self.found["preemptions"], self.found["points"])

    def _same(self, lab: Lab, outcome: str) -> bool:
        return lab.signature(outcome) == self._signature

    def _lab(self, knobs: Knobs) -> Lab:
        key = tuple(knobs.items())
        if key not in self._labs:
            self._labs[key] = Lab(self.lab.scheme, self.lab.geometry, self.lab.bugs, knobs, self.seed, self.lab.build)
        return self._labs[key]
