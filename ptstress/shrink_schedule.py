"""Makes the schedule of a failure simpler: as few preemptions as can be, then without a store that waits.

First blocks of the schedule are moved until they join, which is quick and gets most of the way. Then all schedules with
fewer preemptions are run, as far as the budget goes: what is left where that comes to an end is the least there is.

Source: Jalbert, Sen, "A trace simplification technique for effective debugging of concurrent programs", FSE 2010, for
moving blocks; Musuvathi, Qadeer, "Iterative context bounding", PLDI 2007, for the search by bound.
"""

from collections.abc import Callable
from itertools import groupby

from ptstress.errors import UsageError
from ptstress.lab import Lab

#: The policy dfs looks under the failure's own seed and under so many others, within each bound.
SEEDS = 4
BOUNDED_EXECUTIONS = 20_000
BOUNDED_S = 0.4

#: Whether the execution that ran last, and had this outcome, failed in the same way.
Same = Callable[[str], bool]


def simplest_schedule(lab: Lab, found: dict, same: Same, enough: Callable[[], bool]) -> dict:
    """The simplest schedule of the loaded program that fails as ``found`` does, a failure of the explorer.

    Returns one, with ``preemptions`` beside: how often it takes the processor from a fibre that could go on. Raises
    ``UsageError`` if ``found`` does not come again.
    """
    search = _Search(lab, same, enough)
    best = search.follow(found, found["choices"])
    if best is None:
        raise UsageError("the failure does not come again here: its schedule cannot be made simpler")
    best = _joined(search, best)
    best = _bounded(search, best)
    return _unbuffered(search, best)


class _Search:
    def __init__(self, lab: Lab, same: Same, enough: Callable[[], bool]) -> None:
        self.lab, self.same, self.enough = lab, same, enough

    def follow(self, found: dict, choices: bytes, steps_only: bool | None = None) -> dict | None:
        """What comes of these choices in place of the ones that ``found`` made, if that fails in the same way."""
        steps_only = found["steps_only"] if steps_only is None else steps_only
        failure = self.lab.follow(choices, found["seed"], found["max_steps"], steps_only)
        return failure if failure and self.same(failure["outcome"]) else None

    def bounded(self, found: dict, bound: int, seed: int | None, steps_only: bool) -> dict | None:
        """One with at most ``bound`` preemptions. ``seed``: of the exploration; ``None``: that of ``found``, exactly."""
        result = self.lab.explorer.explore(
            "dfs", seed=found["seed"] if seed is None else seed, exact_seed=seed is None, preemption_bound=bound,
            executions=BOUNDED_EXECUTIONS, seconds=BOUNDED_S, max_steps=found["max_steps"], steps_only=steps_only,
            wanted=self.same, progress=lambda _: self.enough(),
        )
        failure = result["failure"]
        return failure and self.follow(failure, failure["choices"])


def _joined(search: _Search, best: dict) -> dict:
    """Move blocks, or leave them out, for as long as that saves a preemption."""
    at = 0
    while True:
        blocks = [bytes(run) for _, run in groupby(best["choices"])]
        if at >= len(blocks) or search.enough():
            return best
        for changed in _changes(blocks, at):
            simpler = search.follow(best, b"".join(changed))
            if simpler and simpler["preemptions"] < best["preemptions"]:
                best = simpler
                at = max(at - 2, 0)
                break
        else:
            at += 1


def _changes(blocks: list[bytes], at: int) -> list[list[bytes]]:
    """Block ``at`` behind the one before it of the same fibre, before the next such one, or not there."""
    block, before, behind = blocks[at], blocks[:at], blocks[at + 1 :]
    alike = [i for i, other in enumerate(blocks) if other[0] == block[0]]
    here = alike.index(at)
    changed = [before + behind]
    if here > 0:
        i = alike[here - 1] + 1
        changed.insert(0, [*before[:i], block, *before[i:], *behind])
    if here + 1 < len(alike):
        i = alike[here + 1] - at - 1
        changed.insert(0, [*before, *behind[:i], block, *behind[i:]])
    return changed


def _bounded(search: _Search, best: dict) -> dict:
    for bound in range(best["preemptions"]):
        for seed in (None, *range(SEEDS)):
            if search.enough():
                return best
            if simpler := search.bounded(best, bound, seed, best["steps_only"]):
                return simpler
    return best


def _unbuffered(search: _Search, best: dict) -> dict:
    """The same without buffered stores, if it is no worse: then the order of steps is all there is to it."""
    if best["steps_only"] or search.enough():
        return best
    most = best["preemptions"]
    simpler = search.follow(best, best["choices"], steps_only=True)
    if simpler is None or simpler["preemptions"] > most:
        simpler = search.bounded(best, most, None, True)
    return simpler or best
