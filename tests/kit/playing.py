"""How the tests play a scene: under the explorer, or on real threads."""

import threading
from typing import Any

from ptstress.engine import load_explorer


def explored(rig: Any, executions: int | None = 2000, seed: int = 1, **knobs: Any) -> dict[str, Any]:
    """The result of exploring a rig's scene, which ends at the first failure."""
    return load_explorer().Explorer(rig.explorable()).explore(executions=executions, seed=seed, **knobs)


def every_schedule(rig: Any, preemptions: int | None, seed: int = 1) -> dict[str, Any]:
    """The same for every schedule with at most so many preemptions (None: every one)."""
    result = explored(rig, None, seed, policy="dfs", preemption_bound=preemptions)
    assert result["failure"] is not None or result["exhausted"]
    return result


def outcome(result: dict[str, Any]) -> str:
    """How an exploration ended: "pass", or its first failure."""
    return "pass" if result["failure"] is None else result["failure"]["outcome"]


def threads(rig: Any, rounds: int, seed: int = 1) -> int:
    """Play up to ``rounds`` rounds on one thread for each player; the violations of the last round."""
    rig.begin()
    playing = [threading.Thread(target=rig.play, args=(i, rounds, seed)) for i in range(rig.players)]
    for thread in playing:
        thread.start()
    for thread in playing:
        thread.join()
    return rig.violations
