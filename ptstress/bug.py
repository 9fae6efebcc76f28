"""What a planted bug is. The registry is ``ptstress.bugs``."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bug:
    """One planted bug. ``oracles``: each of them is a right answer.

    ``program``: small, and some of its schedules show the bug, under ``scheme``. ``workload``: threads find it there in
    seconds, as a canary; empty if only the explorer finds it.
    """

    id: str
    summary: str
    source: str
    kind: str
    oracles: tuple[str, ...]
    program: str
    workload: str = ""
    scheme: str = "linux-6.18"
